"""Statements for many rows at once: what a commit consists of, and what is taken.

They are written with ``?`` for parameters. In a SET list, ``ready_at`` stands before ``unread``,
since MySQL uses the new value of a column that was assigned before.

Why ``unread`` and ``ready_at`` are kept in the instance's row is said in `operations.delivery`,
what a suspect is in `operations.leases`.
"""

from __future__ import annotations

from trioflow.backends.sql.dialect import Delete, Insert, Lock, Update
from trioflow.backends.sql.rows import NEW_COLUMNS

__all__ = [
    "ANSWER_REQUESTS",
    "CLOSE_INSTANCES",
    "CONSUME",
    "COUNT_IN",
    "CREATE_INSTANCES",
    "DELIVER",
    "FINISH_ACTIVITIES",
    "LEASE_ACTIVITIES",
    "LEASE_INSTANCES",
    "LEASE_SUSPECTS",
    "LOCK_INSTANCES",
    "MARK_REMOVED",
    "NEW_ACTIVITIES",
    "NEW_ATTRIBUTES",
    "NEW_REQUESTS",
    "NEW_TURNS",
    "REMOVE_ACTIVITIES",
    "REMOVE_ATTRIBUTES",
    "REMOVE_EXECUTIONS",
    "REMOVE_EXECUTIONS_AT",
    "REMOVE_INBOXES",
    "REMOVE_INSTANCES",
    "REMOVE_REQUESTS",
    "REMOVE_TURNS",
    "REMOVE_TURNS_OF",
    "RENEW_WORKER",
    "RETURN_ACTIVITIES",
    "SET_ATTRIBUTES",
    "STEP_INSTANCES",
    "STORE_PROGRESS",
    "SUSPECT",
    "SUSPECTS_BELOW",
    "WAITING",
    "WAITING_BELOW",
]

# Ready instances are indexed by their level: the priority, and for a free suspect the priority less
# this, so that suspects lie apart, in their order. Taking a suspect sets the level to the priority
# and counts a death in advance; so among the held instances, suspects are those with deaths.
SUSPECT = 1000
SUSPECTS_BELOW = -SUSPECT // 2
"""Levels below this one are those of suspects."""
# What waits for a place of its workflow's limit lies below those, see `operations.admission`.
WAITING = 3 * SUSPECT
WAITING_BELOW = -2 * SUSPECT
"""Levels below this one are those of what waits for a place."""

# --- what a commit consists of ----------------------------------------------------------------

# Only if the worker's store knows the limits that there are, see `operations.limited`.
RENEW_WORKER = Update(
    "workers",
    ("id", "now", "limits"),
    set="heartbeat_at = v.now",
    where="workers.id = v.id AND workers.limits = v.limits",
)
# A transaction that touches several instances locks them first, sorted by id: no deadlocks.
LOCK_INSTANCES = Lock("instances", ("id",))

CREATE_INSTANCES = Insert(
    "instances",
    (
        *NEW_COLUMNS,
        *("execution", "status", "turns", "events", "ready_at", "wake_at", "worker"),
        *("sticky_worker", "custom_status", "created_at", "level", "first_execution"),
    ),
)

_FENCE = """instances.id = v.id AND instances.worker = v.worker
    AND instances.execution = v.execution AND instances.turns = v.number
    AND instances.life = v.life AND instances.status = 'running'"""

# An instance goes on. The fence: a row is touched only if lease and number of turns still hold.
STEP_INSTANCES = Update(
    "instances",
    (
        *("id", "worker", "execution", "number", "life", "turns", "events"),
        *("consumed", "now", "ready_at", "wake_at", "keeper", "custom_status"),
    ),
    set=f"""turns = v.turns, events = coalesce(v.events, instances.events),
    level = CASE WHEN instances.deaths > 0 AND v.turns = v.number AND v.keeper IS NULL
        THEN instances.priority - {SUSPECT} ELSE instances.level END,
    deaths = CASE WHEN instances.deaths = 0 OR v.turns > v.number THEN 0
        WHEN v.keeper IS NULL THEN instances.deaths - 1 ELSE instances.deaths END,
    ready_at = CASE WHEN instances.unread > v.consumed THEN v.now ELSE v.ready_at END,
    unread = instances.unread - v.consumed, wake_at = v.wake_at,
    sticky_worker = v.worker, worker = v.keeper, held_at = v.now,
    custom_status = coalesce(v.custom_status, instances.custom_status)""",
    where=_FENCE,
)

# An instance ends. It must have consumed its whole inbox.
CLOSE_INSTANCES = Update(
    "instances",
    (
        *("id", "worker", "execution", "number", "life", "turns", "events"),
        *("consumed", "status", "outcome", "finished_at", "custom_status"),
    ),
    set="""status = v.status, outcome = v.outcome, finished_at = v.finished_at,
    turns = v.turns, events = coalesce(v.events, instances.events),
    ready_at = NULL, unread = 0, wake_at = NULL, worker = NULL, sticky_worker = NULL,
    custom_status = coalesce(v.custom_status, instances.custom_status)""",
    where=f"{_FENCE} AND instances.unread = v.consumed",
)

NEW_TURNS = Insert("turns", ("instance", "execution", "number", "data"))
NEW_ACTIVITIES = Insert(
    "activities",
    (
        *("instance", "execution", "command", "life", "queue", "activity", "input", "options"),
        *("visible_at", "scheduled_at", "worker", "priority", "limit_key"),
    ),
)
FINISH_ACTIVITIES = Delete("activities", ("instance", "execution", "command", "life"))
# The same for a result whose instance is not part of the commit: the activity must be leased to the
# worker.
RETURN_ACTIVITIES = Delete("activities", ("instance", "execution", "command", "life", "worker"))
STORE_PROGRESS = Update(
    "activities",
    ("instance", "execution", "command", "life", "worker", "progress"),
    set="progress = v.progress",
    where="""activities.instance = v.instance AND activities.execution = v.execution
    AND activities.command = v.command AND activities.life = v.life
    AND activities.worker = v.worker""",
)
CONSUME = Delete("inbox", ("instance", "seq"))
# The index of attributes has the numbers of instances that a list is ordered by.
SET_ATTRIBUTES = Update(
    "instances",
    ("id", "attributes"),
    set="attributes = v.attributes",
    where="instances.id = v.id",
)
NEW_ATTRIBUTES = Insert("attributes", ("seq", "name", "word", "quantity"))
REMOVE_ATTRIBUTES = Delete("attributes", ("seq",))
REMOVE_EXECUTIONS = Delete("executions", ("instance",))
# Of ended executions: what is kept of them, and their turns.
REMOVE_EXECUTIONS_AT = Delete("executions", ("instance", "execution"))
REMOVE_TURNS_OF = Delete("turns", ("instance", "execution"))
REMOVE_INBOXES = Delete("inbox", ("instance",))
REMOVE_TURNS = Delete("turns", ("instance",))
# All are marked first, then those that no worker runs are deleted: none is taken in between.
MARK_REMOVED = Update(
    "activities",
    ("instance", "cancel"),
    set="cancel = v.cancel",
    where="activities.instance = v.instance",
)
REMOVE_ACTIVITIES = Delete("activities", ("instance",), only="activities.worker IS NULL")
REMOVE_INSTANCES = Delete("instances", ("id",))
REMOVE_REQUESTS = Delete("requests", ("instance",))
NEW_REQUESTS = Insert("requests", ("instance", "life", "id"))
ANSWER_REQUESTS = Update(
    "requests",
    ("instance", "life", "id", "answer"),
    set="answer = v.answer",
    where="""requests.instance = v.instance AND requests.life = v.life AND requests.id = v.id
    AND requests.answer IS NULL""",
)
DELIVER = Insert("inbox", ("instance", "seq", "execution", "event", "arrived_at"), numbered="seq")

# Count messages in at their target. A suspended one collects them without becoming ready, and one
# whose time to start has not come, without becoming ready sooner.
COUNT_IN = Update(
    "instances",
    ("id", "execution", "life", "messages", "now"),
    set="""ready_at = CASE WHEN instances.status = 'running'
        AND (instances.ready_at IS NULL OR instances.ready_at > v.now)
        THEN CASE WHEN instances.start_at > v.now THEN instances.start_at ELSE v.now END
        ELSE instances.ready_at END,
    unread = instances.unread + v.messages""",
    where="""instances.id = v.id AND instances.status IN ('running', 'suspended')
    AND (v.execution IS NULL OR instances.execution = v.execution)
    AND (v.life IS NULL OR instances.life = v.life)""",
)

# --- what is taken ------------------------------------------------------------------------------

# A statement that writes a lease checks by itself that the worker's row exists and that no other
# worker has the lease, whatever was read before.
_LEASE = """instances.seq = v.seq
    AND (instances.worker IS NULL OR instances.worker = v.worker)
    AND EXISTS (SELECT 1 FROM workers WHERE workers.id = v.worker)"""
LEASE_INSTANCES = Update(
    "instances",
    ("seq", "worker", "now"),
    set="worker = v.worker, ready_at = NULL, held_at = v.now, level = instances.priority",
    where=_LEASE,
)
LEASE_SUSPECTS = Update(
    "instances",
    ("seq", "worker", "now"),
    set="""worker = v.worker, ready_at = NULL, held_at = v.now, level = instances.priority,
    deaths = instances.deaths + 1""",
    where=_LEASE,
)
LEASE_ACTIVITIES = Update(
    "activities",
    ("instance", "execution", "command", "life", "worker"),
    set="""worker = v.worker,
    limit_key = CASE WHEN activities.limit_key < '"' THEN '' ELSE activities.limit_key END""",
    where="""activities.instance = v.instance AND activities.execution = v.execution
    AND activities.command = v.command AND activities.life = v.life
    AND activities.worker IS NULL
    AND EXISTS (SELECT 1 FROM workers WHERE workers.id = v.worker)""",
)
