"""The SQL statements about limits; see `trioflow.backends.sql.operations.limited`.

Written as those in `trioflow.backends.sql.queries`.
"""

from __future__ import annotations

from trioflow.backends.sql.dialect import Delete, Dialect, Insert, Update
from trioflow.backends.sql.statements import WAITING, WAITING_BELOW

__all__ = [
    "ADMIT",
    "COME_BACK",
    "DISMISS",
    "FREE_SLOTS",
    "KEEP_SLOTS",
    "PUT_ASIDE",
    "PUT_ASIDE_ACTIVITIES",
    "WAIT",
    "WAITED",
    "LimitQueries",
]

KEEP_SLOTS = Insert("kept_slots", ("worker", "id", "queue", "activity", "limit_key"))
FREE_SLOTS = Delete("kept_slots", ("worker", "id"))
ADMIT = Insert("admitted", ("workflow", "instance", "life"))
DISMISS = Delete("admitted", ("instance", "life"))

# What waits to be admitted is put aside, and comes back.
WAIT = Insert(
    "waiting",
    ("id", "life", "workflow", "queue", "negated_priority", "ready_at", "seq", "wake_at"),
)
WAITED = Delete("waiting", ("id",))
PUT_ASIDE = Update(
    "instances",
    ("seq",),
    set=f"level = instances.priority - {WAITING}",
    where="instances.seq = v.seq",
)
COME_BACK = Update(
    "instances",
    ("id",),
    set="level = instances.priority",
    where=f"instances.id = v.id AND instances.level < {WAITING_BELOW}",
)

PUT_ASIDE_ACTIVITIES = Update(
    "activities",
    ("instance", "execution", "command", "life", "limit_key"),
    set="limit_key = v.limit_key",
    where="""activities.instance = v.instance AND activities.execution = v.execution
    AND activities.command = v.command AND activities.life = v.life
    AND activities.worker IS NULL""",
)

_OF_KEY = "worker IS NULL AND queue = ? AND limit_key = ?"
# Written so that no planner makes a join of it, which would read all that waits.
_WAITS = f"""(SELECT 1 FROM instances AS i WHERE i.id = waiting.id AND i.life = waiting.life
        AND i.status = 'running' AND i.level < {WAITING_BELOW} LIMIT 1) IS NOT NULL"""  # noqa: S608
_OVERDUE = f"""FROM waiting {{by_wake_at}} WHERE queue = ? AND wake_at <= ? {{exclude}}
        AND {_WAITS}"""


class LimitQueries:
    """The statements that touch one thing, or read, translated for a dialect."""

    # The row without a kind: who changes the limits, or adds a worker, locks it first.
    version = "SELECT version FROM limits WHERE kind = '' AND name = '' {for_update}"
    set_version = "UPDATE limits SET version = ? WHERE kind = '' AND name = ''"
    of_worker = "SELECT limits FROM workers WHERE id = ?"
    tell_workers = "UPDATE workers SET limits = ?"
    all = "SELECT settings FROM limits WHERE kind <> '' ORDER BY kind, name"
    seen_version = "SELECT version FROM limits WHERE kind = '' AND name = ''"
    one = "SELECT settings, state FROM limits WHERE kind = ? AND name = ?"
    insert = "INSERT INTO limits (kind, name, settings, state, version) VALUES (?, ?, ?, ?, '')"
    delete = "DELETE FROM limits WHERE kind = ? AND name = ?"
    state = "SELECT state FROM limits WHERE kind = ? AND name = ? {for_update}"
    save = "UPDATE limits SET state = ? WHERE kind = ? AND name = ?"

    # --- activities -------------------------------------------------------------------------

    leased = """SELECT queue, activity, limit_key, count(*) FROM activities
        WHERE worker IS NOT NULL GROUP BY queue, activity, limit_key"""
    kept = """SELECT queue, activity, limit_key, count(*) FROM kept_slots
        GROUP BY queue, activity, limit_key"""
    free_slots_of = "DELETE FROM kept_slots WHERE worker = ?"
    bounds_of_key = f"""SELECT (SELECT priority FROM activities WHERE {_OF_KEY}
            ORDER BY priority DESC LIMIT 1),
        (SELECT priority FROM activities WHERE {_OF_KEY} ORDER BY priority LIMIT 1)"""  # noqa: S608
    below_of_key = f"""SELECT priority FROM activities WHERE {_OF_KEY} AND priority < ?
        ORDER BY priority DESC LIMIT 1"""  # noqa: S608 - our words
    visible_of_key = f"""SELECT instance, execution, command, activity, queue, input,
        options, attempt, scheduled_at, visible_at, failure, priority, life, progress, limit_key
        FROM activities
        WHERE {_OF_KEY} AND priority = ? AND visible_at <= ? {{exclude}}
        ORDER BY visible_at, scheduled_at, instance, execution, command LIMIT ? {{skip_locked}}"""  # noqa: S608
    next_of_key = f"""SELECT visible_at FROM activities
        WHERE {_OF_KEY} AND priority = ? AND visible_at > ? {{exclude}}
        ORDER BY visible_at LIMIT 1"""  # noqa: S608 - our words
    any_of_key = f"SELECT 1 FROM activities WHERE {_OF_KEY} LIMIT 1"  # noqa: S608 - our words
    forget_key = "UPDATE activities SET limit_key = '' WHERE activity = ? AND limit_key = ?"
    any_free = """SELECT 1 FROM activities
        WHERE worker IS NULL AND queue = ? AND visible_at <= ? {exclude} LIMIT 1"""
    # A key that means nothing any more would keep an activity out of every look.
    forget_keys_of_queue = """UPDATE activities SET limit_key = ''
        WHERE queue = ? AND limit_key <> '' {exclude}"""
    forget_keys_of_activity = """UPDATE activities SET limit_key = ''
        WHERE activity = ? AND limit_key <> ''"""

    # --- instances --------------------------------------------------------------------------

    admitted = """SELECT a.instance, a.life, i.id, i.finished_at FROM admitted AS a
        LEFT JOIN instances AS i ON i.id = a.instance AND i.life = a.life
        WHERE a.workflow = ?"""
    first_waiting = f"""SELECT id, negated_priority, ready_at, seq FROM waiting {{in_order}}
        WHERE workflow = ? AND queue = ? {{exclude}} AND {_WAITS}
        ORDER BY negated_priority, ready_at, seq LIMIT ?"""  # noqa: S608 - our words
    any_overdue = f"SELECT 1 {_OVERDUE} LIMIT 1"
    overdue = f"SELECT id {_OVERDUE} ORDER BY wake_at LIMIT ?"
    next_overdue = f"""SELECT wake_at FROM waiting {{by_wake_at}}
        WHERE queue = ? AND wake_at > ? {{exclude}} AND {_WAITS}
        ORDER BY wake_at LIMIT 1"""  # noqa: S608 - our words
    lock_waiting = "SELECT id FROM instances WHERE id {among} ORDER BY id {skip_locked}"
    all_waiting = "SELECT id FROM waiting WHERE workflow = ?"
    stop_waiting = "DELETE FROM waiting WHERE id = ?"
    forget_waiting = "DELETE FROM waiting WHERE workflow = ?"
    dismiss_all = "DELETE FROM admitted WHERE workflow = ?"
    # What has made a turn, is held, or was when its worker died.
    begun = f"""SELECT id, life FROM instances WHERE finished_at IS NULL AND workflow = ?
        AND (turns > 0 OR execution > first_execution OR worker IS NOT NULL OR deaths > 0
            OR level < priority AND level > {WAITING_BELOW})"""  # noqa: S608 - our number

    def __init__(self, dialect: Dialect) -> None:
        self.keys_after = dialect.query(dialect.keys_after())
        for name, text in vars(type(self)).items():
            if isinstance(text, str) and not name.startswith("_"):
                setattr(self, name, _translated(dialect, text))


def _translated(dialect: Dialect, text: str) -> str:
    text = text.replace("{for_update}", dialect.for_update)
    text = text.replace("{in_order}", dialect.by_index("waiting_order"))
    text = text.replace("{by_wake_at}", dialect.by_index("waiting_wake"))
    return dialect.query(text.replace("{skip_locked}", dialect.skip_locked))
