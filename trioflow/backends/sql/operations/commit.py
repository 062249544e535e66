"""Commit: write a batch of units in one transaction; the hot path.

Theory. A batch is *optimistic*. All its units are turned into flat rows (`BatchRows`), written
with one statement for each kind of row, and the numbers of touched rows are compared with the
numbers of rows that were given. That is the fence: a statement that moves an instance on touches
its row only if the instance is still leased to this worker, in the same execution and life, and
has exactly as many turns as the worker believes. If all numbers agree, every unit is stored.

On any difference the transaction is rolled back and a second one begins. There each unit is
*judged* by itself: its instances are locked and compared with what the unit expects. Those units
that can be stored are written together again, as a batch that cannot fail its fence; the others
get a `CommitFailure` that says what was not as expected. If even that meets a conflict (a unit
contradicts itself, or somebody created an instance after it was judged), the units are judged and
written one by one, each in a savepoint of its own.

Order of the writes, and why:

1. The worker's row is renewed, which also locks it: nobody can reclaim the worker before the
   commit is over. If it is gone, nothing else is written (`LeaseLost`).
2. The rows of all instances that are touched are locked, sorted by id, so that two commits never
   wait for each other in a circle.
3. New instances, then steps and ends of others; then what belongs to them: consumed messages,
   turns, progress of activities, activities.
4. Results of activities whose instance is elsewhere: the delete of the activity's row is the
   fence, the event is a message.
5. Messages, when it is known which executions go on. Plain ones are counted in at their targets
   along with the writes above, unless an execution of this batch ends by going over into the next
   one (or is suspended): then they come after that.
6. Cancelled activities and retries, one by one.

`_FENCED` lists the statements whose numbers must agree. The others may touch fewer rows: a
finished activity may have been deleted already, and a message may find nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from trioflow._model.events import ParentRef
from trioflow.backends._common.notices import id_taken
from trioflow.backends.commits import ActivityRetry, CommitFailure, InstanceCommit, Message, Unit
from trioflow.backends.records import ActivityKey
from trioflow.backends.sql.dialect import Write
from trioflow.backends.sql.operations.attributes import write_attributes
from trioflow.backends.sql.operations.batch_rows import BatchRows, Refusals, life_of
from trioflow.backends.sql.operations.changes import change_sent
from trioflow.backends.sql.operations.cleanup import delete_finished, end_activity
from trioflow.backends.sql.operations.delivery import (
    deliver_one_by_one,
    deliver_together,
    insert_together,
    sort_mails,
    unread_counts,
)
from trioflow.backends.sql.operations.keeping import keep_continued
from trioflow.backends.sql.operations.limited import limits_of_version, over_limits
from trioflow.backends.sql.operations.sharing import ask_shared
from trioflow.backends.sql.statements import (
    CLOSE_INSTANCES,
    CONSUME,
    COUNT_IN,
    RENEW_WORKER,
    RETURN_ACTIVITIES,
    STEP_INSTANCES,
)
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import LeaseLost

__all__ = ["commit"]


class _Mismatch(Exception):
    """Something was not there as a unit expected it."""


# Who touches fewer rows than these name has no right to the others.
_FENCED = (RENEW_WORKER, STEP_INSTANCES, CLOSE_INSTANCES, CONSUME, RETURN_ACTIVITIES)

_NO_FAILURE = CommitFailure()
_NO_REFUSALS: Refusals = {}


class _Accepted(msgspec.Struct):
    """A unit that can be stored.

    Attributes:
        unit: With the executions that its new instances will have.
        replaced: Finished instances whose ids are used again.
        refusals: Of children that cannot be created.
    """

    unit: Unit
    replaced: list[str]
    refusals: dict[tuple[str, ParentRef], Message]


def commit(store: SqlStore, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
    """See `Backend.commit`."""
    conflicts = _conflicts(store)
    try:
        with store.transaction():
            _write_batch(store, worker, units, renew=True)
            return [None] * len(units)
    except conflicts:
        pass
    with store.transaction():
        _renew(store, worker)
        try:
            with store.transaction():
                return _commit_judged(store, worker, units)
        except conflicts:
            # A unit contradicts itself, or somebody created what was not there when it was
            # judged; then whatever fails fails alone.
            return [_commit_one(store, worker, unit) for unit in units]


def _conflicts(store: SqlStore) -> tuple[type[Exception], ...]:
    return (_Mismatch, *store.dialect.conflict)


def _renew(store: SqlStore, worker: str) -> None:
    if not store.execute(store.queries.renew_worker, store.clock(), worker).rowcount:
        raise _lease_lost(worker)
    (version,) = store.execute(store.queries.worker_alive, worker).fetchone()
    limits_of_version(store, version)


def _lease_lost(worker: str) -> LeaseLost:
    return LeaseLost(
        f"worker {worker!r} sent no heartbeat for too long and was declared dead; what it held "
        "belongs to other workers now, and nothing of this commit was stored"
    )


# --- together -----------------------------------------------------------------------------------


def _write_batch(
    store: SqlStore,
    worker: str,
    units: Sequence[Unit],
    refusals: Refusals = _NO_REFUSALS,
    *,
    renew: bool = False,
) -> None:
    rows = BatchRows(worker, store.clock(), refusals)
    for unit in units:
        rows.add(unit)
    plain, others = sort_mails(rows.mails)
    writes = rows.writes()
    if renew:
        _check_limits(store, rows, units)
        writes.insert(0, (RENEW_WORKER, [worker, rows.now, store.limits.version]))
    if plain and not rows.endings:
        writes.append((COUNT_IN, unread_counts(plain, rows.now)))
    touched = _write_fenced(store, writes)
    if rows.attributes:
        write_attributes(store, rows.attributes, rows.changed_attributes)
    for ending in rows.endings:
        _end(store, worker, ending, rows.now)
    if plain and rows.endings:  # only now is it known which executions go on
        deliver_together(store, plain, rows.now)
    elif plain:
        insert_together(store, plain, touched[-1], rows.now)
    deliver_one_by_one(store, others, rows.now, change_sent, ask_shared)
    for cancelling in rows.cancelling:
        _cancel_activities(store, cancelling, rows.now)
    for retry in rows.retries:
        _retry(store, worker, retry, rows.now)


def _check_limits(store: SqlStore, rows: BatchRows, units: Sequence[Unit]) -> None:
    """Raise if a unit asks for more than the limits allow of which this connection knows."""
    limits = store.limits
    if (limits.limits or rows.has_keys()) and any(over_limits(limits, unit) for unit in units):
        raise _Mismatch


def _write_fenced(store: SqlStore, writes: Sequence[tuple[Write, list[Any]]]) -> list[int]:
    touched = store.dialect.write_all(store.connection, writes)
    for (statement, values), count in zip(writes, touched, strict=True):
        if statement in _FENCED and count * len(statement.columns) != len(values):
            raise _Mismatch  # of `RENEW_WORKER`: it is gone, or there are other limits
    return touched


def _end(store: SqlStore, worker: str, commit: InstanceCommit, now: float) -> None:
    """Suspend an instance, or end its execution and begin the next."""
    queries = store.queries
    fence = (commit.id, worker, commit.execution, commit.number, life_of(commit))
    consumed = len(commit.consumed)
    appended = int(bool(commit.turns))
    if commit.suspended is not None:
        turns = commit.number + len(commit.turns)
        events = commit.events if commit.turns else None
        changed = store.execute(
            queries.suspend_instance,
            *(commit.suspended, turns, events, consumed, commit.wake_at, commit.status),
            *(appended, appended, 0, *fence),
        )
        if not changed.rowcount:
            raise _Mismatch
        return
    keep_continued(store, commit, now)  # if the fence does not hold, it is undone with the rest
    ready_at = now if commit.due or not commit.leased else commit.wake_at
    keeper = worker if commit.leased else None
    changed = store.execute(
        queries.continue_instance,
        *(commit.continued, commit.carried, ready_at, consumed, commit.wake_at, keeper),
        *(now, commit.status, int(bool(commit.turns) or commit.leased), appended),
        *(int(commit.leased), *fence),
    )
    if not changed.rowcount:
        raise _Mismatch
    stale = store.execute(queries.drop_stale_inbox, commit.id, commit.execution).rowcount
    store.execute(queries.count_out, stale, now, stale, commit.id)


def _cancel_activities(store: SqlStore, commit: InstanceCommit, now: float) -> None:
    life = life_of(commit)
    for asked in commit.cancelled:
        key = (commit.id, commit.execution, asked.command, life)
        row = store.execute(store.queries.activity_state, *key).fetchone()
        if row is None:
            continue  # it has ended: its result is in the inbox
        if row[0] is None:
            end_activity(store, key, asked.event, now)
        else:
            store.execute(store.queries.mark_activity, asked.event, *key)


def _retry(store: SqlStore, worker: str, retry: ActivityRetry, now: float) -> None:
    key = msgspec.structs.astuple(retry.key)
    row = store.execute(store.queries.activity_state, *key).fetchone()
    if row is None or row[0] != worker:
        return
    cancel = row[1]
    if cancel is None:
        values = (retry.attempt, retry.visible_at, retry.failure)
        store.execute(store.queries.retry_activity, *values, *key)
    else:
        end_activity(store, key, cancel, now)


# --- unit by unit -------------------------------------------------------------------------------


def _commit_one(store: SqlStore, worker: str, unit: Unit) -> CommitFailure | None:
    try:
        with store.transaction():
            return _commit_judged(store, worker, [unit])[0]
    except _conflicts(store):
        # The fences held, so it is what was stored that cannot be right. Whose it is, is not
        # known: the worker tries again, and suspends what fails each time.
        return CommitFailure()


def _commit_judged(
    store: SqlStore, worker: str, units: Sequence[Unit]
) -> list[CommitFailure | None]:
    """Write those units together that can be stored; return why the others cannot."""
    judged = [_judge(store, worker, unit) for unit in units]
    stored = [each for each in judged if isinstance(each, _Accepted)]
    for id in {id for each in stored for id in each.replaced}:
        delete_finished(store, id)
    refusals = {child: told for each in stored for child, told in each.refusals.items()}
    if stored:
        _write_batch(store, worker, [each.unit for each in stored], refusals)
    return [None if isinstance(each, _Accepted) else each for each in judged]


def _judge(store: SqlStore, worker: str, unit: Unit) -> _Accepted | CommitFailure:
    failure = CommitFailure(limited=over_limits(store.limits, unit))
    instances: list[InstanceCommit] = []
    replaced: list[str] = []
    refusals: dict[tuple[str, ParentRef], Message] = {}
    before: dict[str, InstanceCommit] = {}
    for commit in unit.instances:
        row = store.execute(store.queries.fence, commit.id).fetchone()
        twin = before.setdefault(commit.id, commit)
        as_it_is = commit
        if commit.new is None:
            _judge_step(store, worker, commit, row, failure)
        elif twin is commit and row is None:
            pass
        elif commit.turns or (twin is not commit and twin.closing is not None):
            failure.taken_ids.append(commit.id)  # the latter is free when its twin is stored
        elif twin is commit and row[1] not in ("running", "suspended"):
            replaced.append(commit.id)
            as_it_is = msgspec.structs.replace(commit, execution=row[2] + 1)
        elif commit.new.parent is None:
            failure.taken_ids.append(commit.id)
        else:
            parent = commit.new.parent
            refusals[commit.id, parent] = id_taken(commit.id, parent)
        instances.append(as_it_is)
    if failure != _NO_FAILURE:
        now = store.clock()
        for id in failure.unseen:
            store.execute(store.queries.ready_again, now, id, now)
        return failure
    results = [result for result in unit.results if _holds(store, worker, result.key)]
    whole = msgspec.structs.replace(unit, instances=instances, results=results)
    return _Accepted(whole, replaced, refusals)


def _judge_step(
    store: SqlStore,
    worker: str,
    commit: InstanceCommit,
    row: Sequence[Any] | None,
    failure: CommitFailure,
) -> None:
    """Add an instance to a failure if it is not as expected; ``row`` is of `Queries.fence`."""
    expected = (worker, "running", commit.execution, commit.number, commit.life)
    if row is None or tuple(row[:5]) != expected or not _has_consumed(store, commit):
        failure.lost.append(commit.id)
    elif commit.closing is not None and row[5] > len(commit.consumed):
        failure.unseen.append(commit.id)


def _has_consumed(store: SqlStore, commit: InstanceCommit) -> bool:
    """Return whether all that a commit says it consumed is in the inbox, and named once."""
    if not commit.consumed:
        return True
    found = store.execute(store.queries.inbox_numbers, commit.id).fetchall()
    known = {seq for (seq,) in found}
    consumed = set(commit.consumed)
    return known.issuperset(consumed) and len(consumed) == len(commit.consumed)


def _holds(store: SqlStore, worker: str, key: ActivityKey) -> bool:
    named = msgspec.structs.astuple(key)
    row = store.execute(store.queries.activity_state, *named).fetchone()
    return row is not None and row[0] == worker
