"""Rows of a damaged file: numbers that are none, and text or numbers where bytes belong.

SQLite keeps what it is given in a column, whatever the column was declared for; no other store
does. So what was read is looked at here before a worker is given it. If something is wrong, the
damaged rows are searched for, which is slow and done only then. Each instance that has one is
suspended: no worker can go on with it. In columns by which rows are looked for, and in rows of
activities, what is wrong is also replaced, or the next look would meet it again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from trioflow._model.info import SuspendReport
from trioflow.backends.records import ActivityKey, ActivityTask, TakenInstance
from trioflow.backends.sql.dialect import Cursor
from trioflow.backends.sql.store import SqlStore

__all__ = ["is_number", "is_sound_activity", "is_sound_instance", "suspend_damaged"]

logger = logging.getLogger("trioflow.backends.sqlite")

_COUNT, _TEXT, _BYTES = "'integer'", "'text'", "'blob'"
_NUMBER = "'real', 'integer'"
_NAMES: Final = {
    _COUNT: "whole number",
    _NUMBER: "number",
    _TEXT: "text",
    _BYTES: "sequence of bytes",
}

_INSTANCES: Final = {
    **dict.fromkeys(("execution", "turns", "events", "unread"), _COUNT),
    **dict.fromkeys(("priority", "level", "deaths"), _COUNT),
    **dict.fromkeys(("ready_at", "wake_at"), f"{_NUMBER}, 'null'"),
    **dict.fromkeys(("created_at", "start_at"), _NUMBER),
    "parent_execution": _COUNT,
    **dict.fromkeys(("workflow", "queue", "life", "parent_life"), _TEXT),
    **dict.fromkeys(("parent", "parent_command"), f"{_TEXT}, 'null'"),
    **dict.fromkeys(("input", "metadata", "carried", "options"), _BYTES),
}
_ONLY_BESIDE: Final = {
    "parent_execution": "CASE WHEN parent IS NULL THEN 0 ELSE parent_execution END"
}
_REPLACED: Final = frozenset({"level", "ready_at", "deaths"})
_LEVEL: Final = "CASE typeof(priority) WHEN 'integer' THEN priority ELSE 0 END"
_INBOX: Final = {"seq": _COUNT, "event": _BYTES, "arrived_at": _NUMBER}
_ACTIVITIES: Final = {
    **dict.fromkeys(("execution", "attempt", "priority"), _COUNT),
    **dict.fromkeys(("visible_at", "scheduled_at"), _NUMBER),
    **dict.fromkeys(("input", "options", "failure"), _BYTES),
}


class _Damaged(NamedTuple):
    """A damaged row: of which instance, its place, and the column with the type it should have."""

    instance: str
    row: str
    column: str
    wanted: str

    @property
    def report(self) -> SuspendReport:
        """What people are told."""
        kind = _NAMES[self.wanted.removesuffix(", 'null'")]
        do = (
            "it was replaced by one; resume the instance to go on with that"
            if self.column in _REPLACED or "'activities'" in self.row
            else "mend it in the store and resume the instance"
        )
        return SuspendReport(
            kind="unreadable row",
            message=(
                f"a stored row of instance {self.instance!r} cannot be read: column "
                f"{self.column!r} of {self.row} does not hold a {kind}; {do}, or terminate it"
            ),
        )


# --- what was read ------------------------------------------------------------------------------


def is_number(value: object) -> bool:
    """Tell whether what was read is a number, or nothing."""
    return value is None or value.__class__ in (float, int)


def is_sound_instance(row: TakenInstance) -> bool:
    """Tell whether all that was read of an instance is of the types that it should be of."""
    return (
        _are(int, row.execution, row.turns, row.events, row.priority, row.deaths)
        and _are(bytes, row.input, row.metadata, row.carried, row.options)
        and _are(str, row.workflow, row.queue, row.life)
        and is_number(row.wake_at)
        and all(map(is_number, (row.ready_at, row.created_at, row.start_at)))
        and (row.parent is None or _are(int, row.parent.execution))
        and all(
            _are(int, message.seq) and _are(bytes, message.event) and is_number(message.at)
            for message in row.inbox
        )
    )


def is_sound_activity(row: ActivityTask) -> bool:
    """Tell whether all that was read of an activity is of the types that it should be of."""
    return (
        _are(int, row.attempt, row.priority, row.key.execution)
        and _are(bytes, row.input, row.options, row.failure)
        and is_number(row.scheduled_at)
    )


def _are(cls: type, *values: object) -> bool:
    return all(value.__class__ is cls for value in values)


# --- what is wrong in the file ------------------------------------------------------------------


def suspend_damaged(store: SqlStore, worker: str, taken: Sequence[ActivityKey] = ()) -> int:
    """Suspend the instances with damaged rows that are free or this worker's; return how many.

    Those of other workers are left to them.

    Args:
        store: The store.
        worker: Who has found that something is wrong.
        taken: Damaged activities that it has just leased; they are free again.
    """
    with store.transaction():
        for key in taken:
            _execute(
                store,
                """UPDATE activities SET worker = NULL
                WHERE instance = ? AND execution = ? AND command = ? AND life = ? AND worker = ?""",
                *(key.instance, key.execution, key.command, key.life, worker),
            )
        damaged = _find(store)
        _replace(store)
        suspended = 0
        for each in damaged:
            logger.error("%s", each.report.message)
            suspended += _execute(
                store,
                f"""UPDATE instances SET status = 'suspended', outcome = ?, ready_at = NULL,
                worker = NULL, sticky_worker = NULL, deaths = 0, level = {_LEVEL}
                WHERE id = ? AND status = 'running' AND (worker IS NULL OR worker = ?)""",  # noqa: S608
                msgspec.json.encode(each.report),
                each.instance,
                worker,
            ).rowcount
    return suspended


def _execute(store: SqlStore, sql: str, *parameters: Any) -> Cursor:
    """Run a statement that is written with the plain names of tables."""
    return store.execute(store.dialect.query(sql), *parameters)


def _find(store: SqlStore) -> list[_Damaged]:
    found = [
        _Damaged(id, f"row {seq} of table 'instances'", column, _INSTANCES[column])
        for id, seq, column in _rows(store, "instances", "id, seq", _INSTANCES)
    ]
    found += [
        _Damaged(instance, f"message {seq} in table 'inbox'", column, _INBOX[column])
        for instance, seq, column in _rows(store, "inbox", "instance, seq", _INBOX)
    ]
    found += [
        _Damaged(
            instance, f"command {command!r} in table 'activities'", column, _ACTIVITIES[column]
        )
        for instance, command, column in _rows(
            store, "activities", "instance, command", _ACTIVITIES
        )
    ]
    return found


def _rows(store: SqlStore, table: str, named: str, columns: Mapping[str, str]) -> Sequence[Any]:
    """Return of each damaged row what names it, and its first damaged column."""
    cases = " ".join(
        f"WHEN typeof({_ONLY_BESIDE.get(column, column)}) NOT IN ({wanted}) THEN '{column}'"
        for column, wanted in columns.items()
    )
    query = f"SELECT {named}, CASE {cases} END AS damaged FROM {table} WHERE damaged IS NOT NULL"  # noqa: S608 - our names
    return _execute(store, query).fetchall()


def _replace(store: SqlStore) -> None:
    """Replace what would stop the next look too."""
    now = store.clock()
    _execute(
        store,
        f"""UPDATE instances SET level = {_LEVEL}
        WHERE typeof(level) NOT IN ({_INSTANCES["level"]})""",  # noqa: S608
    )
    _execute(
        store,
        f"""UPDATE instances SET ready_at = CASE status WHEN 'running' THEN ? END
        WHERE typeof(ready_at) NOT IN ({_INSTANCES["ready_at"]})""",  # noqa: S608
        now,
    )
    _execute(
        store,
        f"""UPDATE instances SET deaths = 0
        WHERE typeof(deaths) NOT IN ({_INSTANCES["deaths"]})""",  # noqa: S608
    )
    numbers = {"attempt": 1, "priority": 0, "visible_at": now, "scheduled_at": now}
    for column, value in numbers.items():
        _execute(
            store,
            f"""UPDATE activities SET {column} = ?
            WHERE typeof({column}) NOT IN ({_ACTIVITIES[column]})""",  # noqa: S608
            value,
        )
    for column in ("input", "options", "failure"):
        _execute(
            store,
            f"""UPDATE activities SET {column} = CAST({column} AS BLOB)
            WHERE typeof({column}) <> 'blob'""",  # noqa: S608
        )
    _execute(
        store,
        f"""UPDATE OR REPLACE activities SET execution =
        coalesce((SELECT execution FROM instances WHERE id = activities.instance), 1)
        WHERE typeof(execution) NOT IN ({_ACTIVITIES["execution"]})""",  # noqa: S608
    )
