"""Every SQL statement of the store, named and described; nothing else knows a table's name.

Written with ``?`` for parameters; ``{for_update}`` and ``{skip_locked}`` are the dialect's. In a
SET list, ``ready_at`` stands before ``unread``, since MySQL reads assigned columns anew.

Whether an instance is ready never needs a look into the inbox: ``unread`` counts its rows, and
who delivers raises it in the statement that also sets ``ready_at``. So two writers of one
instance meet at its row and neither overlooks the other.
"""

from __future__ import annotations

from trioflow.backends.sql.dialect import Delete, Dialect, Insert, Lock, Update

__all__ = [
    "CLOSE_INSTANCES",
    "CONSUME",
    "CREATE_INSTANCES",
    "DELIVER",
    "EMPTY_INBOXES",
    "FINISH_ACTIVITIES",
    "FORGET_ACTIVITIES",
    "FORGET_INSTANCES",
    "FORGET_TURNS",
    "LEASE_ACTIVITIES",
    "LEASE_INSTANCES",
    "LOCK_INSTANCES",
    "NEW_ACTIVITIES",
    "NEW_TURNS",
    "NOTIFY",
    "RENEW_WORKER",
    "RETURN_ACTIVITIES",
    "STEP_INSTANCES",
    "Queries",
]

# --- many rows at once: what a commit consists of ---------------------------------------------

RENEW_WORKER = Update(
    "workers", ("id", "now"), set="heartbeat_at = v.now", where="workers.id = v.id"
)
# Whoever touches several instances locks them first, sorted by id: so nobody waits in a circle.
LOCK_INSTANCES = Lock("instances", ("id",))

CREATE_INSTANCES = Insert(
    "instances",
    (
        *("id", "execution", "workflow", "queue", "status"),
        *("parent", "parent_execution", "parent_command"),
        *("turns", "events", "ready_at", "wake_at", "worker", "sticky_worker"),
        *("input", "metadata", "custom_status", "created_at", "priority"),
    ),
)

_FENCE = """instances.id = v.id AND instances.worker = v.worker
    AND instances.execution = v.execution AND instances.turns = v.number
    AND instances.status = 'running'"""

# An instance goes on. A row is touched only if the lease and the number of turns still hold.
STEP_INSTANCES = Update(
    "instances",
    (
        *("id", "worker", "execution", "number", "turns", "events"),
        *("consumed", "now", "ready_at", "wake_at", "keeper", "custom_status"),
    ),
    set="""turns = v.turns, events = coalesce(v.events, instances.events),
    ready_at = CASE WHEN instances.unread > v.consumed THEN v.now ELSE v.ready_at END,
    unread = instances.unread - v.consumed, wake_at = v.wake_at,
    sticky_worker = v.worker, worker = v.keeper,
    custom_status = coalesce(v.custom_status, instances.custom_status)""",
    where=_FENCE,
)

# An instance ends; what it has not read is deleted by EMPTY_INBOXES.
CLOSE_INSTANCES = Update(
    "instances",
    (
        *("id", "worker", "execution", "number", "turns", "events"),
        *("status", "outcome", "finished_at", "custom_status"),
    ),
    set="""status = v.status, outcome = v.outcome, finished_at = v.finished_at,
    turns = v.turns, events = coalesce(v.events, instances.events),
    ready_at = NULL, unread = 0, wake_at = NULL, worker = NULL, sticky_worker = NULL,
    custom_status = coalesce(v.custom_status, instances.custom_status)""",
    where=_FENCE,
)

NEW_TURNS = Insert("turns", ("instance", "execution", "number", "data"))
NEW_ACTIVITIES = Insert(
    "activities",
    (
        *("instance", "execution", "command", "queue", "activity", "input", "options"),
        *("visible_at", "scheduled_at", "worker", "priority"),
    ),
)
FINISH_ACTIVITIES = Delete("activities", ("instance", "execution", "command"))
# The same for a result that comes from outside of its instance: only who holds it may give it.
RETURN_ACTIVITIES = Delete("activities", ("instance", "execution", "command", "worker"))
CONSUME = Delete("inbox", ("instance", "seq"))
EMPTY_INBOXES = Delete("inbox", ("instance",))
FORGET_TURNS = Delete("turns", ("instance",))
FORGET_ACTIVITIES = Delete("activities", ("instance",))
FORGET_INSTANCES = Delete("instances", ("id",))
DELIVER = Insert("inbox", ("instance", "seq", "execution", "event"), numbered="seq")

# Count messages in at their target. A suspended one collects them without becoming ready.
NOTIFY = Update(
    "instances",
    ("id", "execution", "messages", "now"),
    set="""ready_at = CASE WHEN instances.status = 'running'
        AND (instances.ready_at IS NULL OR instances.ready_at > v.now)
        THEN v.now ELSE instances.ready_at END,
    unread = instances.unread + v.messages""",
    where="""instances.id = v.id AND instances.status IN ('running', 'suspended')
    AND (v.execution IS NULL OR instances.execution = v.execution)""",
)

# --- many rows at once: what is taken -----------------------------------------------------------

LEASE_INSTANCES = Update(
    "instances",
    ("seq", "worker"),
    set="worker = v.worker, ready_at = NULL",
    where="instances.seq = v.seq",
)
LEASE_ACTIVITIES = Update(
    "activities",
    ("instance", "execution", "command", "worker"),
    set="worker = v.worker",
    where="""activities.instance = v.instance AND activities.execution = v.execution
    AND activities.command = v.command""",
)


# The priorities that occur in a queue are found one by one, each with one look into an index that
# begins with the queue and the priority: DISTINCT would read all of it. Mostly there is one.
_BOUNDS = """SELECT (SELECT priority FROM {table} WHERE queue = ? AND {listed}
            ORDER BY priority DESC LIMIT 1),
        (SELECT priority FROM {table} WHERE queue = ? AND {listed} ORDER BY priority LIMIT 1)"""
_BELOW = """SELECT priority FROM {table} WHERE queue = ? AND {listed} AND priority < ?
        ORDER BY priority DESC LIMIT 1"""
_INSTANCES = {"table": "instances", "listed": "status = 'running' AND {has_ready_at}"}
_ACTIVITIES = {"table": "activities", "listed": "worker IS NULL"}

_ELIGIBLE = """queue = ? AND priority = ? AND ready_at <= ? AND status = 'running' {exclude}
        AND (worker = ? OR worker IS NULL AND (sticky_worker IS NULL OR sticky_worker = ?
            OR ready_at <= ? OR NOT EXISTS
            (SELECT 1 FROM workers WHERE workers.id = instances.sticky_worker)))"""
_VISIBLE = "queue = ? AND priority = ? AND worker IS NULL AND visible_at <= ? {exclude}"


class Queries:
    """The statements that touch one thing, or read; in the dialect's words."""

    # --- workers ------------------------------------------------------------------------

    register_worker = "INSERT INTO workers (id, name, heartbeat_at) VALUES (?, ?, ?)"
    renew_worker = "UPDATE workers SET heartbeat_at = ? WHERE id = ?"
    # Locked, since nobody may bury a worker that is taking something.
    worker_alive = "SELECT heartbeat_at FROM workers WHERE id = ? {for_update}"
    delete_worker = "DELETE FROM workers WHERE id = ?"
    stale_workers = "SELECT id FROM workers WHERE heartbeat_at < ? ORDER BY heartbeat_at"
    # Nobody else has buried it, and it has not woken up, since `stale_workers` was read.
    bury_worker = "DELETE FROM workers WHERE id = ? AND heartbeat_at < ?"
    free_instances = """UPDATE instances SET worker = NULL, sticky_worker = NULL,
        ready_at = CASE WHEN ready_at < ? THEN ready_at ELSE ? END
        WHERE finished_at IS NULL AND worker = ?"""
    free_activities = """UPDATE activities SET worker = NULL, attempt = attempt + ?,
        visible_at = ? WHERE worker = ?"""
    release_instance = """UPDATE instances SET worker = NULL, sticky_worker = NULL, ready_at = ?
        WHERE id = ? AND worker = ? AND status = 'running'"""
    release_activities = """UPDATE activities SET worker = NULL, visible_at = ?
        WHERE instance = ? AND worker = ?"""
    recall_instances = """UPDATE instances SET ready_at = ? WHERE finished_at IS NULL
        AND worker = ? AND status = 'running' AND (ready_at IS NULL OR ready_at > ?)"""
    activities_of_worker = """SELECT instance, execution, command FROM activities
        WHERE worker = ?"""
    recall_activity = """UPDATE activities SET worker = NULL, visible_at = ?
        WHERE instance = ? AND execution = ? AND command = ? AND worker = ?"""
    # Also what a heartbeat tells: activities of a worker whose cancellation was asked for.
    cancelled_of_worker = """SELECT instance, execution, command, cancel FROM activities
        WHERE worker = ? AND cancel IS NOT NULL"""

    # --- taking -------------------------------------------------------------------------

    instance_levels = _BOUNDS.format(**_INSTANCES)
    lower_instance_level = _BELOW.format(**_INSTANCES)
    activity_levels = _BOUNDS.format(**_ACTIVITIES)
    lower_activity_level = _BELOW.format(**_ACTIVITIES)

    # Per queue and priority, longest ready first: free or mine; and if it was last another living
    # worker's, only after its sticky time. `{exclude}` is filled with names of workflows.
    # Ordered, so that the index is read: a planner that expects many would read the table instead.
    any_ready = f"SELECT 1 FROM instances WHERE {_ELIGIBLE} ORDER BY ready_at LIMIT 1"  # noqa: S608 - our words
    ready_instances = f"""SELECT seq, id, execution, workflow, queue, input, parent,
        parent_execution, parent_command, metadata, carried, turns, events, ready_at, wake_at,
        unread, priority FROM instances
        WHERE {_ELIGIBLE}
        ORDER BY ready_at, seq LIMIT ? {{skip_locked}}"""  # noqa: S608
    # Those that the worker holds already and that have something new to do.
    ready_own_instances = """SELECT seq, id, execution, workflow, queue, input, parent,
        parent_execution, parent_command, metadata, carried, turns, events, ready_at, wake_at,
        unread, priority FROM instances
        WHERE finished_at IS NULL AND worker = ? AND ready_at <= ? AND status = 'running'
        ORDER BY ready_at, seq"""
    next_own_instance = """SELECT min(ready_at) FROM instances
        WHERE finished_at IS NULL AND worker = ? AND ready_at > ? AND status = 'running'"""
    # The earliest of those that are left to another worker for now.
    next_sticky = """SELECT ready_at FROM instances
        WHERE queue = ? AND priority = ? AND ready_at <= ? AND ready_at > ?
        AND status = 'running' {exclude} AND worker IS NULL AND sticky_worker <> ?
        AND EXISTS (SELECT 1 FROM workers WHERE workers.id = instances.sticky_worker)
        ORDER BY ready_at LIMIT 1"""
    next_instance = """SELECT ready_at FROM instances
        WHERE queue = ? AND priority = ? AND ready_at > ? AND status = 'running' {exclude}
        AND (worker IS NULL OR worker = ?) ORDER BY ready_at LIMIT 1"""
    inboxes = "SELECT instance, seq, event FROM inbox WHERE instance {among} ORDER BY seq"
    any_visible = f"SELECT 1 FROM activities WHERE {_VISIBLE} ORDER BY visible_at LIMIT 1"  # noqa: S608
    visible_activities = f"""SELECT instance, execution, command, activity, queue, input,
        options, attempt, scheduled_at, visible_at, failure, priority FROM activities
        WHERE {_VISIBLE}
        ORDER BY visible_at, scheduled_at, instance, execution, command LIMIT ? {{skip_locked}}"""  # noqa: S608
    next_activity = """SELECT visible_at FROM activities
        WHERE queue = ? AND priority = ? AND worker IS NULL AND visible_at > ? {exclude}
        ORDER BY visible_at LIMIT 1"""

    # --- committing, one by one -----------------------------------------------------------

    # What a commit demands, for finding out which demand was not met.
    fence = "SELECT worker, status, execution, turns FROM instances WHERE id = ? {for_update}"
    inbox_numbers = "SELECT seq FROM inbox WHERE instance = ?"
    taken_ids = "SELECT id, status, execution FROM instances WHERE id {among} {for_update}"
    suspend_instance = """UPDATE instances SET status = 'suspended', outcome = ?,
        turns = ?, events = coalesce(?, events), ready_at = NULL, unread = unread - ?,
        wake_at = ?, worker = NULL, sticky_worker = NULL,
        custom_status = coalesce(?, custom_status)
        WHERE id = ? AND worker = ? AND execution = ? AND turns = ? AND status = 'running'"""
    # Events for the execution that ended are of no use to the next one; those for any stay.
    continue_instance = """UPDATE instances SET execution = execution + 1, turns = 0,
        events = 0, input = ?, carried = ?, ready_at = ?, unread = unread - ?, wake_at = ?,
        sticky_worker = worker, worker = ?, custom_status = coalesce(?, custom_status)
        WHERE id = ? AND worker = ? AND execution = ? AND turns = ? AND status = 'running'"""
    drop_stale_inbox = "DELETE FROM inbox WHERE instance = ? AND execution <= ?"
    count_out = """UPDATE instances SET ready_at = CASE WHEN unread > ? THEN ? ELSE ready_at END,
        unread = unread - ? WHERE id = ?"""
    count_in = """UPDATE instances SET ready_at = CASE WHEN status = 'running'
            AND (ready_at IS NULL OR ready_at > ?) THEN ? ELSE ready_at END,
        unread = unread + 1
        WHERE id = ? AND status IN ('running', 'suspended')
        AND execution = coalesce(?, execution)"""
    # The twin of NOTIFY where not every target was there: the same condition decides.
    deliver_if_open = """INSERT INTO inbox (instance, seq, execution, event)
        SELECT id, {number}, ?, ? FROM instances WHERE id = ?
        AND status IN ('running', 'suspended') AND execution = coalesce(?, execution)"""
    activity_state = """SELECT worker, cancel FROM activities
        WHERE instance = ? AND execution = ? AND command = ? {for_update}"""
    delete_activity = """DELETE FROM activities
        WHERE instance = ? AND execution = ? AND command = ?"""
    mark_activity = """UPDATE activities SET cancel = ?
        WHERE instance = ? AND execution = ? AND command = ?"""
    retry_activity = """UPDATE activities SET worker = NULL, attempt = ?, visible_at = ?,
        failure = ? WHERE instance = ? AND execution = ? AND command = ?"""
    delete_instance = "DELETE FROM instances WHERE id = ?"
    delete_inbox = "DELETE FROM inbox WHERE instance = ?"
    delete_activities = "DELETE FROM activities WHERE instance = ?"

    # --- clients ------------------------------------------------------------------------

    # An instance and its unfinished descendants. A finished one has no unfinished children.
    family = """WITH RECURSIVE family(id) AS (
            SELECT id FROM instances WHERE id = ?
            UNION SELECT child.id FROM instances AS child JOIN family ON child.parent = family.id
            WHERE child.status IN ('running', 'suspended'))
        SELECT id FROM family"""
    parent_of = """SELECT status, parent, parent_execution, parent_command FROM instances
        WHERE id = ? {for_update}"""
    terminate_instance = """UPDATE instances SET status = 'terminated', outcome = ?,
        finished_at = ?, ready_at = NULL, unread = 0, wake_at = NULL,
        worker = NULL, sticky_worker = NULL WHERE id = ?"""
    delete_pending = "DELETE FROM activities WHERE instance = ? AND worker IS NULL"
    mark_running = "UPDATE activities SET cancel = ? WHERE instance = ?"
    resume_instance = """UPDATE instances SET status = 'running', outcome = ?, ready_at = ?
        WHERE id = ? AND status = 'suspended'"""
    status_of = "SELECT status FROM instances WHERE id = ?"
    statuses = "SELECT id, status FROM instances WHERE id {among}"

    # --- reading ------------------------------------------------------------------------

    turns = "SELECT data FROM turns WHERE instance = ? AND execution = ? ORDER BY number"
    executions = """SELECT execution, data FROM turns WHERE instance = ?
        ORDER BY execution, number"""
    current_execution = "SELECT execution FROM instances WHERE id = ?"
    records = """SELECT id, execution, workflow, queue, status, parent, parent_execution,
        parent_command, turns, events, unread, ready_at, worker, input, metadata, outcome,
        custom_status, created_at, finished_at, priority FROM instances {where}"""
    seq_of = "SELECT seq FROM instances WHERE id = ?"
    count = "SELECT count(*) FROM instances {where}"
    ids = "SELECT id FROM instances {where} {for_update}"
    activities = """SELECT a.instance, a.execution, a.command, a.activity, a.queue, a.input,
        a.options, a.attempt, a.scheduled_at, a.visible_at, a.failure, a.priority
        FROM activities AS a
        JOIN instances ON instances.id = a.instance AND instances.execution = a.execution
        WHERE a.instance = ? ORDER BY a.command"""
    # Grouped in the order of the index, which is read through; nothing is sorted, no row is read.
    instance_stats = """SELECT queue, status, worker, count(*),
            sum(CASE WHEN ready_at <= ? THEN 1 ELSE 0 END)
        FROM instances WHERE finished_at IS NULL GROUP BY worker, queue, status"""
    pending_stats = """SELECT queue, count(*) FROM activities WHERE worker IS NULL
        GROUP BY queue"""
    held_stats = """SELECT queue, count(*) FROM activities WHERE worker IS NOT NULL
        GROUP BY queue"""

    def __init__(self, dialect: Dialect) -> None:
        for name, text in vars(type(self)).items():
            if isinstance(text, str) and not name.startswith("_"):
                locking = text.replace("{for_update}", dialect.for_update)
                locking = locking.replace("{skip_locked}", dialect.skip_locked)
                locking = locking.replace("{number}", dialect.number)
                locking = locking.replace("{has_ready_at}", dialect.has_ready_at)
                setattr(self, name, dialect.query(locking))
