"""The statements that touch one thing, or read.

With `statements` these are all of the store; nothing else knows a table's name. They are written
with ``?`` for parameters; ``{for_update}``, ``{skip_locked}`` and the like are replaced by the
dialect's clauses.
"""

from __future__ import annotations

from trioflow.backends.sql.dialect import Dialect
from trioflow.backends.sql.rows import RECORD_COLUMNS
from trioflow.backends.sql.statements import SUSPECT

__all__ = ["EXECUTION_COLUMNS", "Queries"]

# How a held suspect changes: when it is given back without a turn…
_STILL_SUSPECT = f"""level = CASE WHEN deaths > 0 THEN priority - {SUSPECT} ELSE level END,
        deaths = CASE WHEN deaths > 0 THEN deaths - 1 ELSE 0 END"""
# …or where that depends on three flags: a turn is stored or it is kept, a turn is stored, it is
# kept.
_PERHAPS_SUSPECT = f"""level = CASE WHEN deaths > 0 AND ? = 0 THEN priority - {SUSPECT}
            ELSE level END,
        deaths = CASE WHEN deaths = 0 OR ? > 0 THEN 0 WHEN ? > 0 THEN deaths ELSE deaths - 1 END"""

# The levels that occur in a queue are found one by one, each with one look into an index that
# begins with the queue and the level: DISTINCT would read all of it. Mostly there is one.
_BOUNDS = """SELECT (SELECT {level} FROM {table} WHERE queue = ? AND {listed}
            ORDER BY {level} DESC LIMIT 1),
        (SELECT {level} FROM {table} WHERE queue = ? AND {listed} ORDER BY {level} LIMIT 1)"""
_BELOW = """SELECT {level} FROM {table} WHERE queue = ? AND {listed} AND {level} < ?
        ORDER BY {level} DESC LIMIT 1"""
_INSTANCES = {
    "table": "instances",
    "level": "level",
    "listed": "status = 'running' AND {has_ready_at}",
}
_ACTIVITIES = {
    "table": "activities",
    "level": "priority",
    "listed": "limit_key = '' AND worker IS NULL",
}

_WITHOUT_ROW = """SELECT worker FROM ({holders}) AS holders
        WHERE NOT EXISTS (SELECT 1 FROM workers WHERE workers.id = holders.worker)"""

_TAKEN = """seq, id, execution, workflow, queue, input, parent, parent_execution,
        parent_command, parent_life, metadata, carried, turns, events, ready_at, wake_at, unread,
        priority, life, deaths, created_at, start_at, options, attributes"""

_ELIGIBLE = """queue = ? AND level = ? AND ready_at <= ? AND status = 'running' {exclude}
        AND (worker = ? OR worker IS NULL AND (sticky_worker IS NULL OR sticky_worker = ?
            OR ready_at <= ? OR NOT EXISTS
            (SELECT 1 FROM workers WHERE workers.id = instances.sticky_worker)))"""
# What has no key; of what has one, `LimitQueries`.
_FREE = "limit_key = '' AND queue = ? AND priority = ? AND worker IS NULL"
_VISIBLE = f"{_FREE} AND visible_at <= ? {{exclude}}"


# What is kept of an instance's row when an execution has ended.
EXECUTION_COLUMNS = (
    *("execution", "workflow", "queue", "status"),
    *("parent", "parent_execution", "parent_command", "parent_life"),
    *("turns", "events", "input", "metadata", "outcome", "custom_status"),
    *("created_at", "finished_at", "priority", "life", "start_at", "attributes"),
)
# As a commit leaves them that continues an instance, whose row it has not written yet.
_CONTINUED = {
    "turns": "?",
    "events": "coalesce(?, events)",
    "input": "?",
    "metadata": "?",
    "custom_status": "coalesce(?, custom_status)",
    "finished_at": "?",
}
# As a reset leaves them.
_LEFT = {"input": "?", "metadata": "?", "finished_at": "?"}
_KEEP = f"""INSERT INTO executions (instance, how, {", ".join(EXECUTION_COLUMNS)})
        SELECT id, """


class Queries:
    """The statements that touch one thing, or read, translated for a dialect."""

    # --- workers ------------------------------------------------------------------------

    register_worker = """INSERT INTO workers
        (id, name, heartbeat_at, queues, activity_queues, lease, limits, started_at, version)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
    renew_worker = "UPDATE workers SET heartbeat_at = ? WHERE id = ?"
    # Locked, since nobody may reclaim a worker that is taking something.
    worker_alive = "SELECT limits FROM workers WHERE id = ? {for_update}"
    all_workers = "SELECT id FROM workers ORDER BY id"
    delete_worker = "DELETE FROM workers WHERE id = ?"
    expired_workers = "SELECT id FROM workers WHERE heartbeat_at < ? ORDER BY heartbeat_at"
    # Nobody else has reclaimed it, and it has sent no heartbeat, since `expired_workers` was read.
    delete_expired_worker = "DELETE FROM workers WHERE id = ? AND heartbeat_at < ?"
    instances_without_row = _WITHOUT_ROW.format(holders="{holders_of_instances}")
    activities_without_row = _WITHOUT_ROW.format(holders="{holders_of_activities}")
    isolated_of_worker = """SELECT 1 FROM instances
        WHERE finished_at IS NULL AND worker = ? AND deaths > 0 LIMIT 1"""
    # What a dead worker held becomes suspect; the death of one was counted when it was taken.
    free_as_suspects = f"""UPDATE instances SET worker = NULL, sticky_worker = NULL,
        level = priority - {SUSPECT},
        ready_at = CASE WHEN ready_at < ? THEN ready_at ELSE ? END
        WHERE finished_at IS NULL AND worker = ?"""  # noqa: S608
    free_instances = f"""UPDATE instances SET worker = NULL, sticky_worker = NULL,
        {_STILL_SUSPECT},
        ready_at = CASE WHEN ready_at < ? THEN ready_at ELSE ? END
        WHERE finished_at IS NULL AND worker = ?"""  # noqa: S608
    # Without those that are marked for cancellation: they end.
    free_activities = """UPDATE activities SET worker = NULL, attempt = attempt + ?,
        visible_at = ? WHERE worker = ? AND cancel IS NULL"""
    release_instance = f"""UPDATE instances SET worker = NULL, sticky_worker = NULL,
        {_STILL_SUSPECT}, ready_at = ?
        WHERE id = ? AND worker = ? AND status = 'running'"""  # noqa: S608
    release_activities = """UPDATE activities SET worker = NULL, visible_at = ?
        WHERE instance = ? AND worker = ? AND cancel IS NULL
        AND life = (SELECT life FROM instances WHERE id = ?)"""
    recall_instances = """UPDATE instances SET ready_at = ? WHERE finished_at IS NULL
        AND worker = ? AND status = 'running' AND (ready_at IS NULL OR ready_at > ?)"""
    activities_of_worker = """SELECT instance, execution, command, life FROM activities
        WHERE worker = ?"""
    recall_activity = """UPDATE activities SET worker = NULL, visible_at = ?
        WHERE instance = ? AND execution = ? AND command = ? AND life = ? AND worker = ?
        AND cancel IS NULL"""
    # Also what a heartbeat tells: activities of a worker whose cancellation was asked for.
    cancelled_of_worker = """SELECT instance, execution, command, life, cancel FROM activities
        WHERE worker = ? AND cancel IS NOT NULL"""
    cancelled_of_instance = """SELECT instance, execution, command, life, cancel FROM activities
        WHERE instance = ? AND worker = ? AND cancel IS NOT NULL
        AND life = (SELECT life FROM instances WHERE id = ?)"""

    # --- taking -------------------------------------------------------------------------

    instance_levels = _BOUNDS.format(**_INSTANCES)
    lower_instance_level = _BELOW.format(**_INSTANCES)
    activity_levels = _BOUNDS.format(**_ACTIVITIES)
    lower_activity_level = _BELOW.format(**_ACTIVITIES)

    # Per queue and level, longest ready first: free or mine; and if it was last another living
    # worker's, only after its sticky time. `{exclude}` is filled with names of workflows.
    # Ordered, so that the index is read: a planner that expects many would read the table instead.
    any_ready = f"SELECT 1 FROM instances WHERE {_ELIGIBLE} ORDER BY ready_at LIMIT 1"  # noqa: S608 - our words
    ready_instances = f"""SELECT {_TAKEN} FROM instances
        WHERE {_ELIGIBLE}
        ORDER BY ready_at, seq LIMIT ? {{skip_locked}}"""  # noqa: S608
    # Those that the worker holds already and that have something new to do.
    any_own_ready = """SELECT 1 FROM instances
        WHERE finished_at IS NULL AND worker = ? AND ready_at <= ? AND status = 'running'
        LIMIT 1"""
    ready_own_instances = f"""SELECT {_TAKEN} FROM instances
        WHERE finished_at IS NULL AND worker = ? AND ready_at <= ? AND status = 'running'
        ORDER BY ready_at, seq {{skip_locked}}"""  # noqa: S608
    next_own_instance = """SELECT min(ready_at) FROM instances
        WHERE finished_at IS NULL AND worker = ? AND ready_at > ? AND status = 'running'"""
    # The earliest of those that are left to another worker for now.
    next_sticky = """SELECT ready_at FROM instances
        WHERE queue = ? AND level = ? AND ready_at <= ? AND ready_at > ?
        AND status = 'running' {exclude} AND worker IS NULL AND sticky_worker <> ?
        AND EXISTS (SELECT 1 FROM workers WHERE workers.id = instances.sticky_worker)
        ORDER BY ready_at LIMIT 1"""
    next_instance = """SELECT ready_at FROM instances
        WHERE queue = ? AND level = ? AND ready_at > ? AND status = 'running' {exclude}
        AND (worker IS NULL OR worker = ?) ORDER BY ready_at LIMIT 1"""
    inboxes = """SELECT instance, seq, event, arrived_at FROM inbox WHERE instance {among}
        ORDER BY seq"""
    any_visible = f"SELECT 1 FROM activities WHERE {_VISIBLE} ORDER BY visible_at LIMIT 1"  # noqa: S608
    visible_activities = f"""SELECT instance, execution, command, activity, queue, input,
        options, attempt, scheduled_at, visible_at, failure, priority, life, progress, limit_key
        FROM activities
        WHERE {_VISIBLE}
        ORDER BY visible_at, scheduled_at, instance, execution, command LIMIT ? {{skip_locked}}"""  # noqa: S608
    next_activity = f"""SELECT visible_at FROM activities
        WHERE {_FREE} AND visible_at > ? {{exclude}} ORDER BY visible_at LIMIT 1"""  # noqa: S608

    # --- committing, one by one -----------------------------------------------------------

    # The columns that a commit's fence compares, to find out which of them differs.
    fence = """SELECT worker, status, execution, turns, life, unread FROM instances
        WHERE id = ? {for_update}"""
    inbox_numbers = "SELECT seq FROM inbox WHERE instance = ?"
    taken_ids = "SELECT id, status, execution FROM instances WHERE id {among} {for_update}"
    suspend_instance = f"""UPDATE instances SET status = 'suspended', outcome = ?,
        turns = ?, events = coalesce(?, events), ready_at = NULL, unread = unread - ?,
        wake_at = ?, worker = NULL, sticky_worker = NULL,
        custom_status = coalesce(?, custom_status), {_PERHAPS_SUSPECT}
        WHERE id = ? AND worker = ? AND execution = ? AND turns = ? AND life = ?
        AND status = 'running'"""  # noqa: S608
    # Events for the execution that ended are of no use to the next one; those for any stay.
    continue_instance = f"""UPDATE instances SET execution = execution + 1, turns = 0,
        events = 0, input = ?, carried = ?, ready_at = ?, unread = unread - ?, wake_at = ?,
        sticky_worker = worker, worker = ?, held_at = ?, custom_status = coalesce(?, custom_status),
        {_PERHAPS_SUSPECT}
        WHERE id = ? AND worker = ? AND execution = ? AND turns = ? AND life = ?
        AND status = 'running'"""  # noqa: S608
    drop_stale_inbox = "DELETE FROM inbox WHERE instance = ? AND execution <= ?"
    count_out = """UPDATE instances SET ready_at = CASE WHEN unread > ? THEN ? ELSE ready_at END,
        unread = unread - ? WHERE id = ?"""
    count_in = """UPDATE instances SET ready_at = CASE WHEN status = 'running'
            AND (ready_at IS NULL OR ready_at > ?)
            THEN CASE WHEN start_at > ? THEN start_at ELSE ? END ELSE ready_at END,
        unread = unread + 1
        WHERE id = ? AND status IN ('running', 'suspended')
        AND execution = coalesce(?, execution) AND life = coalesce(?, life)"""
    # Delivers one message where not every target of COUNT_IN was there, by the same condition.
    deliver_if_open = """INSERT INTO inbox (instance, seq, execution, event, arrived_at)
        SELECT id, {number}, ?, ?, ? FROM instances WHERE id = ?
        AND status IN ('running', 'suspended') AND execution = coalesce(?, execution)
        AND life = coalesce(?, life)"""
    activity_state = """SELECT worker, cancel FROM activities
        WHERE instance = ? AND execution = ? AND command = ? AND life = ? {for_update}"""
    delete_activity = """DELETE FROM activities
        WHERE instance = ? AND execution = ? AND command = ? AND life = ?"""
    finish_attempt = """DELETE FROM activities WHERE instance = ? AND execution = ?
        AND command = ? AND life = ? AND worker = ? AND attempt = ?"""
    mark_activity = """UPDATE activities SET cancel = ?
        WHERE instance = ? AND execution = ? AND command = ? AND life = ?"""
    retry_activity = """UPDATE activities SET worker = NULL, attempt = ?, visible_at = ?,
        failure = ? WHERE instance = ? AND execution = ? AND command = ? AND life = ?"""
    hasten_activities = """UPDATE activities SET visible_at = ?
        WHERE instance = ? AND life = ? AND worker IS NULL AND visible_at > ?
        AND activity = coalesce(?, activity)"""
    # Its activities ended with it; what somebody runs is marked, see MARK_REMOVED.
    delete_instance = "DELETE FROM instances WHERE id = ?"
    delete_attributes = """DELETE FROM attributes
        WHERE seq IN (SELECT seq FROM instances WHERE id = ?)"""
    delete_inbox = "DELETE FROM inbox WHERE instance = ?"
    delete_pending = "DELETE FROM activities WHERE instance = ? AND worker IS NULL"
    mark_all = "UPDATE activities SET cancel = ? WHERE instance = ?"
    # The worker that holds it has not seen a message: it is given the instance again.
    ready_again = """UPDATE instances SET ready_at = ? WHERE id = ?
        AND (ready_at IS NULL OR ready_at > ?)"""

    # --- ended executions ---------------------------------------------------------------

    keep_continued = (
        f"{_KEEP}'continued', {', '.join(_CONTINUED.get(name, name) for name in EXECUTION_COLUMNS)}"
        " FROM instances WHERE id = ?"
    )
    keep_reset = (
        f"{_KEEP}'reset', {', '.join(_LEFT.get(name, name) for name in EXECUTION_COLUMNS)}"
        " FROM instances WHERE id = ?"
    )
    keep_ended = f"{_KEEP}'ended', {', '.join(EXECUTION_COLUMNS)} FROM instances WHERE id = ?"
    ended_executions = f"""SELECT how, {", ".join(EXECUTION_COLUMNS)} FROM executions
        WHERE instance = ? ORDER BY execution"""  # noqa: S608 - our names
    # The last execution of an instance has no such row, but an instance that was removed by an
    # older trioflow may have left some.
    old_executions = """SELECT instance, execution FROM executions WHERE finished_at < ?
        AND execution < (SELECT execution FROM instances WHERE id = executions.instance)
        ORDER BY finished_at, instance, execution LIMIT ?"""
    ends_of_executions = """SELECT instance, execution, finished_at FROM executions
        WHERE instance {among}"""

    # --- clients ------------------------------------------------------------------------

    # An instance and its unfinished descendants. A finished one has no unfinished children.
    # The child of another life of the id is none of them.
    family = """WITH RECURSIVE family(id, life) AS (
            SELECT id, life FROM instances WHERE id = ?
            UNION SELECT child.id, child.life FROM instances AS child JOIN family
            ON child.parent = family.id AND child.parent_life = family.life
            WHERE child.status IN ('running', 'suspended'))
        SELECT id FROM family"""
    parent_of = """SELECT status, life, options,
        parent, parent_execution, parent_command, parent_life
        FROM instances WHERE id = ? {for_update}"""
    end_instance = """UPDATE instances SET status = ?, outcome = ?,
        finished_at = ?, ready_at = NULL, unread = 0, wake_at = NULL,
        worker = NULL, sticky_worker = NULL WHERE id = ?"""
    # Not begun: no worker holds it, and no turn of its first execution is stored.
    unstarted = """SELECT options, parent, parent_execution, parent_command, parent_life
        FROM instances WHERE id = ? AND status = 'running' AND turns = 0
        AND execution = first_execution AND worker IS NULL
        AND execution = coalesce(?, execution) AND life = coalesce(?, life)
        {for_update}"""
    # A suspect that somebody holds is given back without a turn.
    suspend_by_client = f"""UPDATE instances SET status = 'suspended', outcome = ?,
        level = CASE WHEN deaths > 0 AND worker IS NOT NULL THEN priority - {SUSPECT}
            ELSE level END,
        deaths = CASE WHEN deaths > 0 AND worker IS NOT NULL THEN deaths - 1 ELSE deaths END,
        ready_at = NULL, worker = NULL, sticky_worker = NULL
        WHERE id = ? AND status = 'running' AND life = coalesce(?, life)"""  # noqa: S608
    resume_instance = """UPDATE instances SET status = 'running', outcome = ?,
        ready_at = CASE WHEN start_at > ? THEN start_at ELSE ? END, deaths = 0
        WHERE id = ? AND status = 'suspended' AND life = coalesce(?, life)"""
    status_of = "SELECT status, life FROM instances WHERE id = ?"
    statuses = "SELECT id, status, life FROM instances WHERE id {among}"
    request = "SELECT answer FROM requests WHERE instance = ? AND life = ? AND id = ?"

    # --- resets -------------------------------------------------------------------------

    inbox_of = "SELECT seq, event, arrived_at FROM inbox WHERE instance = ? ORDER BY seq"
    reset_fence = "SELECT life, execution, turns FROM instances WHERE id = ? {for_update}"
    # What had ended has told its parent, and has none any more.
    reset_instance = """UPDATE instances SET execution = ?, status = 'running', turns = ?,
        events = ?, unread = ?, ready_at = CASE WHEN start_at > ? THEN start_at ELSE ? END,
        wake_at = ?, worker = NULL, sticky_worker = NULL, level = priority, deaths = 0,
        carried = coalesce(?, carried), outcome = ?, custom_status = ?,
        parent = CASE WHEN finished_at IS NULL THEN parent ELSE NULL END,
        parent_execution = CASE WHEN finished_at IS NULL THEN parent_execution ELSE NULL END,
        parent_command = CASE WHEN finished_at IS NULL THEN parent_command ELSE NULL END,
        parent_life = CASE WHEN finished_at IS NULL THEN parent_life ELSE '' END,
        finished_at = NULL WHERE id = ?"""
    fork_instance = """UPDATE instances SET turns = ?, events = ?, unread = ?, wake_at = ?,
        carried = coalesce(?, carried) WHERE id = ?"""
    # Whoever holds it has the old address of its parent in memory.
    adopt = f"""UPDATE instances SET parent_execution = ?,
        ready_at = CASE WHEN worker IS NOT NULL AND status = 'running'
            THEN CASE WHEN start_at > ? THEN start_at ELSE ? END ELSE ready_at END,
        level = CASE WHEN deaths > 0 AND worker IS NOT NULL THEN priority - {SUSPECT}
            ELSE level END,
        deaths = CASE WHEN deaths > 0 AND worker IS NOT NULL THEN deaths - 1 ELSE deaths END,
        sticky_worker = NULL, worker = NULL
        WHERE id = ? AND parent = ? AND parent_execution = ? AND parent_life = ?
        AND status IN ('running', 'suspended')"""  # noqa: S608
    open_children = """SELECT id FROM instances WHERE parent = ? AND parent_execution = ?
        AND parent_life = ? AND status IN ('running', 'suspended') ORDER BY id"""
    attempts = """SELECT command, attempt, visible_at, scheduled_at, failure, progress
        FROM activities WHERE instance = ? AND execution = ? AND life = ?"""
    restore_activity = """INSERT INTO activities (instance, execution, command, life, queue,
            activity, input, options, attempt, visible_at, scheduled_at, failure, priority,
            progress, limit_key)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

    # --- questions ----------------------------------------------------------------------

    ask = """INSERT INTO questions (id, instance, life, question, expires_at)
        VALUES (?, ?, ?, ?, ?)"""
    forget_questions = "DELETE FROM questions WHERE expires_at < ?"
    any_question = "SELECT 1 FROM questions WHERE worker IS NULL LIMIT 1"
    # With what decides who may answer: whether the instance has begun, and who holds it.
    questions = """SELECT q.id, q.question, i.id, i.life, i.execution, i.workflow, i.queue,
            i.priority, i.turns, i.worker, i.finished_at,
            (SELECT count(*) FROM workers WHERE workers.id = i.worker)
        FROM questions AS q JOIN instances AS i ON i.id = q.instance AND i.life = q.life
        WHERE q.worker IS NULL AND q.expires_at >= ? ORDER BY q.expires_at, q.id"""
    take_question = "UPDATE questions SET worker = ? WHERE id = ? AND worker IS NULL"
    answer_question = "UPDATE questions SET answer = ? WHERE id = ?"
    reply = "SELECT answer FROM questions WHERE id = ?"
    withdraw = "DELETE FROM questions WHERE id = ?"

    # --- reading ------------------------------------------------------------------------

    turns = "SELECT data FROM turns WHERE instance = ? AND execution = ? ORDER BY number"
    turns_from = """SELECT data FROM turns WHERE instance = ? AND execution = ? AND number >= ?
        ORDER BY number LIMIT ?"""
    executions = """SELECT execution, data FROM turns WHERE instance = ?
        ORDER BY execution, number"""
    current_execution = "SELECT execution FROM instances WHERE id = ?"
    records = f"SELECT {', '.join(RECORD_COLUMNS)} FROM instances {{where}}"  # noqa: S608 - our names
    # What is running, in the order of the list. MariaDB would read all of it from another index.
    records_by_status = records.replace(" {where}", " {by_status} {where}")
    # Some selects of ``seq`` in the order of the list, as one statement: no instance is missed, or
    # met twice, that goes from one of them to another meanwhile.
    newest_of = "SELECT seq FROM (SELECT seq FROM instances {where}) AS part"
    # MariaDB would intersect two indexes instead, and sort all that they have in common.
    newest_of_workflow = "SELECT seq FROM (SELECT seq FROM instances {by_workflow} {where}) AS part"
    records_in_order = f"""SELECT {", ".join(RECORD_COLUMNS)}
        FROM ({{parts}} ORDER BY seq DESC LIMIT ?) AS newest CROSS JOIN instances
        WHERE instances.seq = newest.seq ORDER BY newest.seq DESC"""  # noqa: S608 - our names
    seq_of = "SELECT seq FROM instances WHERE id = ?"
    count = "SELECT count(*) FROM instances {where}"
    count_some = "SELECT count(*) FROM (SELECT 1 AS one FROM instances {where}) AS few"
    ids = "SELECT id, seq, length(attributes) FROM instances {where} {for_update}"
    seqs = "SELECT id, seq FROM instances WHERE id {among}"
    # Through the index of attributes, which is read in the order of the list.
    records_by_attribute = f"""SELECT {", ".join(RECORD_COLUMNS)}
        FROM attributes AS a CROSS JOIN instances {{where}}"""  # noqa: S608 - our names
    some_of_attribute = """SELECT count(*) FROM (SELECT 1 AS one FROM attributes AS a
        {where} LIMIT ?) AS few"""
    count_by_status = "SELECT '', status, count(*) FROM instances {where} GROUP BY status"
    count_by_workflow = "SELECT '', workflow, count(*) FROM instances {where} GROUP BY workflow"
    count_by_queue = "SELECT '', queue, count(*) FROM instances {where} GROUP BY queue"
    count_by_attribute = """SELECT a.name, a.word, count(*)
        FROM attributes AS a CROSS JOIN instances {where} GROUP BY a.name, a.word"""
    activities = """SELECT a.instance, a.execution, a.command, a.activity, a.queue, a.input,
        a.options, a.attempt, a.scheduled_at, a.visible_at, a.failure, a.priority, a.life,
        a.progress, a.limit_key, a.worker FROM activities AS a
        JOIN instances ON instances.id = a.instance AND instances.execution = a.execution
            AND instances.life = a.life
        WHERE a.instance = ? ORDER BY a.command"""
    tried_again = """SELECT a.instance, a.execution, a.command, a.activity, a.queue, a.input,
        a.options, a.attempt, a.scheduled_at, a.visible_at, a.failure, a.priority, a.life,
        a.progress, a.limit_key, a.worker FROM activities AS a
        JOIN instances ON instances.id = a.instance AND instances.execution = a.execution
            AND instances.life = a.life
        WHERE a.instance = ? AND a.attempt > 1 AND instances.status = 'running'
        ORDER BY a.attempt DESC, a.command LIMIT 1"""
    # Grouped in the order of the index, which is read through; nothing is sorted, no row is read.
    instance_stats = """SELECT queue, status, worker, count(*),
            sum(CASE WHEN ready_at <= ? THEN 1 ELSE 0 END), min(ready_at)
        FROM instances WHERE finished_at IS NULL GROUP BY worker, queue, status"""
    pending_stats = """SELECT queue, count(*), min(visible_at) FROM activities WHERE worker IS NULL
        GROUP BY queue"""
    held_stats = """SELECT queue, count(*) FROM activities WHERE worker IS NOT NULL
        GROUP BY queue"""
    living_workers = """SELECT queues, activity_queues FROM workers
        WHERE lease IS NULL OR heartbeat_at + lease >= ?"""

    living_ids = "SELECT id FROM workers WHERE lease IS NULL OR heartbeat_at + lease >= ?"
    workers = """SELECT id, name, heartbeat_at, queues, activity_queues, lease, started_at, version
        FROM workers"""
    held_instances = """SELECT count(*) FROM (SELECT 1 AS one FROM instances
        WHERE finished_at IS NULL AND worker = ? LIMIT ?) AS few"""
    held_activities = """SELECT count(*) FROM (SELECT 1 AS one FROM activities
        WHERE worker = ? LIMIT ?) AS few"""

    def __init__(self, dialect: Dialect) -> None:
        clauses = {
            "{for_update}": dialect.for_update,
            "{skip_locked}": dialect.skip_locked,
            "{number}": dialect.number,
            "{has_ready_at}": dialect.has_ready_at,
            "{holders_of_instances}": dialect.holders("instances", "finished_at"),
            "{holders_of_activities}": dialect.holders("activities"),
            "{by_status}": dialect.by_index("instances_status"),
            "{by_workflow}": dialect.by_index("instances_workflow"),
        }
        for name, text in vars(type(self)).items():
            if isinstance(text, str) and not name.startswith("_"):
                for placeholder, clause in clauses.items():
                    text = text.replace(placeholder, clause)  # noqa: PLW2901 - piece by piece
                setattr(self, name, dialect.query(text))
