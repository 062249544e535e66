"""The SQL statements of a move; see `trioflow.backends.sql.operations.moves`.

Written as those in `trioflow.backends.sql.queries`.
"""

from __future__ import annotations

from collections.abc import Sequence

from trioflow.backends.sql.dialect import Delete, Dialect, Insert
from trioflow.backends.sql.queries import EXECUTION_COLUMNS
from trioflow.backends.sql.rows import RECORD_COLUMNS

__all__ = [
    "EVERYTHING",
    "INSTANCES",
    "MOVED_ACTIVITIES",
    "MOVED_COLUMNS",
    "MOVED_EXECUTIONS",
    "MOVED_INSTANCES",
    "MOVED_REQUESTS",
    "OF_INSTANCES",
    "OF_NUMBERS",
    "MoveQueries",
]

MOVED_COLUMNS = (
    *RECORD_COLUMNS,
    *("wake_at", "carried", "first_execution", "options", "deaths", "level"),
)
MOVED_INSTANCES = Insert("instances", MOVED_COLUMNS)
MOVED_ACTIVITIES = Insert(
    "activities",
    (
        *("instance", "execution", "command", "life", "activity", "queue", "input", "options"),
        *("attempt", "visible_at", "scheduled_at", "failure", "priority", "progress", "limit_key"),
    ),
)
MOVED_EXECUTIONS = Insert("executions", ("instance", "how", *EXECUTION_COLUMNS))
MOVED_REQUESTS = Insert("requests", ("instance", "life", "id", "answer"))

EVERYTHING = (
    *("attributes", "turns", "inbox", "activities", "requests", "executions", "admitted"),
    *("waiting", "shared_claims", "shared", "kept_slots", "questions", "instances"),
)
"""The tables of what workers and clients write."""

OF_INSTANCES = tuple(
    Delete(table, ("instance",))
    for table in ("turns", "inbox", "activities", "requests", "executions", "admitted")
)
OF_NUMBERS = Delete("attributes", ("seq",))
INSTANCES = Delete("instances", ("id",))


_LARGE = {
    *("input", "metadata", "outcome", "custom_status", "attributes", "carried", "options"),
    *("data", "event", "failure", "progress", "answer"),
}


def _bytes_of(columns: Sequence[str]) -> str:
    large = [column for column in columns if column in _LARGE]
    return " + ".join(f"coalesce(length({column}), 0)" for column in large)


def _sizes(table: str, columns: Sequence[str]) -> str:
    return f"""SELECT instance, sum({_bytes_of(columns)}) FROM {table} WHERE instance {{among}}
        GROUP BY instance"""  # noqa: S608 - our names


class MoveQueries:
    """The statements that touch one thing, or read, translated for a dialect."""

    # Beside the row of `LimitQueries.version`, where no kind of limit is looked for.
    fence = "SELECT settings FROM limits WHERE kind = '' AND name = 'fence'"
    add_fence = """INSERT INTO limits (kind, name, settings, state, version)
        VALUES ('', 'fence', ?, ?, '')"""
    drop_fence = "DELETE FROM limits WHERE kind = '' AND name = 'fence'"

    page = "SELECT id FROM instances WHERE seq > ? ORDER BY seq LIMIT ?"
    page_of_unfinished = """SELECT id FROM instances
        WHERE seq > ? AND finished_at IS NULL ORDER BY seq LIMIT ?"""
    rows = f"SELECT {', '.join(MOVED_COLUMNS)} FROM instances WHERE id {{among}}"  # noqa: S608
    # How many bytes of what may be large each instance has: in its row, and in each table.
    page_sizes = f"SELECT id, {_bytes_of(MOVED_COLUMNS)} FROM instances WHERE id {{among}}"  # noqa: S608
    sizes_of_turns = _sizes("turns", ("data",))
    sizes_of_inbox = _sizes("inbox", ("event",))
    sizes_of_activities = _sizes("activities", MOVED_ACTIVITIES.columns)
    sizes_of_executions = _sizes("executions", EXECUTION_COLUMNS)
    sizes_of_requests = _sizes("requests", ("answer",))
    turns = """SELECT instance, execution, data FROM turns WHERE instance {among}
        ORDER BY instance, execution, number"""
    inbox = """SELECT instance, event, arrived_at, execution FROM inbox WHERE instance {among}
        ORDER BY seq"""
    activities = f"""SELECT {", ".join(MOVED_ACTIVITIES.columns)} FROM activities
        WHERE instance {{among}}"""  # noqa: S608
    executions = f"""SELECT instance, how, {", ".join(EXECUTION_COLUMNS)} FROM executions
        WHERE instance {{among}} ORDER BY execution"""  # noqa: S608
    requests = "SELECT instance, life, id, answer FROM requests WHERE instance {among}"

    shared = "SELECT name, is_set FROM shared ORDER BY name"
    # Those that can be used: see `SharedQueries`.
    claims = """SELECT c.name, c.instance, c.life, c.execution, c.command, c.size, c.granted,
            c.event FROM shared_claims AS c JOIN instances AS i
            ON i.id = c.instance AND i.life = c.life AND i.execution = c.execution
        WHERE i.finished_at IS NULL ORDER BY c.name, c.number"""
    add_shared = "INSERT INTO shared (name, is_set, latest) VALUES (?, ?, ?)"
    add_claim = """INSERT INTO shared_claims
        (name, number, instance, life, execution, command, size, granted, event)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    oldest = "SELECT id, seq FROM instances ORDER BY seq LIMIT ?"
    limits = "SELECT settings, state FROM limits WHERE kind <> '' ORDER BY kind, name"
    clear_limits = "DELETE FROM limits WHERE kind <> ''"

    def __init__(self, dialect: Dialect) -> None:
        for name, text in vars(type(self)).items():
            if isinstance(text, str) and not name.startswith("_"):
                setattr(self, name, dialect.query(text))
        self.clear_of = {
            table: dialect.query(f"DELETE FROM {table}")  # noqa: S608 - our names
            for table in EVERYTHING
        }
