"""The SQL statements about limits; see `trioflow.backends.sql.operations.limited`.

Written as those in `trioflow.backends.sql.queries`.
"""

from __future__ import annotations

from trioflow.backends.sql.dialect import Delete, Dialect, Insert

__all__ = ["ADMIT", "DISMISS", "FREE_SLOTS", "KEEP_SLOTS", "NOT_ADMITTED", "LimitQueries"]

KEEP_SLOTS = Insert("kept_slots", ("worker", "id", "queue", "activity", "limit_key"))
FREE_SLOTS = Delete("kept_slots", ("worker", "id"))
ADMIT = Insert("admitted", ("workflow", "instance", "life"))
DISMISS = Delete("admitted", ("instance", "life"))

_OF_KEY = "worker IS NULL AND queue = ? AND limit_key = ?"
# Whether an instance waits to be admitted is asked of those that are read as ready.
_IS_ADMITTED = """EXISTS (SELECT 1 FROM admitted
        WHERE admitted.instance = instances.id AND admitted.life = instances.life)"""
# What has a turn all the same was overdue when it was taken.
NOT_ADMITTED = f""" AND (workflow NOT IN ({{names}}) OR turns > 0 OR wake_at <= ?
        OR {_IS_ADMITTED})"""


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
    next_of_key = f"""SELECT min(visible_at) FROM activities
        WHERE {_OF_KEY} AND visible_at > ? {{exclude}}"""  # noqa: S608 - our words
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
    next_overdue = f"""SELECT min(wake_at) FROM instances
        WHERE queue = ? AND level = ? AND ready_at <= ? AND status = 'running'
        AND worker IS NULL AND turns = 0 AND wake_at > ? {{exclude}} AND workflow = ?
        AND NOT {_IS_ADMITTED}"""  # noqa: S608 - our words
    dismiss_all = "DELETE FROM admitted WHERE workflow = ?"
    # What has made a turn, is held, or was when its worker died.
    begun = """SELECT id, life FROM instances WHERE finished_at IS NULL AND workflow = ?
        AND (turns > 0 OR execution > first_execution OR worker IS NOT NULL OR deaths > 0
            OR level < priority)"""

    def __init__(self, dialect: Dialect) -> None:
        self.keys_after = dialect.query(dialect.keys_after())
        for name, text in vars(type(self)).items():
            if isinstance(text, str) and not name.startswith("_"):
                setattr(self, name, _translated(dialect, text))


def _translated(dialect: Dialect, text: str) -> str:
    text = text.replace("{for_update}", dialect.for_update)
    return dialect.query(text.replace("{skip_locked}", dialect.skip_locked))
