"""The hot path: a commit's units are written as flat rows, one statement for many.

All units of a batch are written together and the numbers of touched rows are compared with
what was expected. On any difference everything is rolled back, each unit is judged by itself, and
those that can be stored are written together again.
"""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trioflow._model.events import ParentRef
from trioflow.backends._common.notices import id_taken
from trioflow.backends.records import (
    ActivityKey,
    ActivityRetry,
    CommitFailure,
    InstanceCommit,
    Message,
    Unit,
)
from trioflow.backends.sql.batch_rows import BatchRows, life_of
from trioflow.backends.sql.core import SqlCore
from trioflow.backends.sql.dialect import Write
from trioflow.backends.sql.queries import (
    CLOSE_INSTANCES,
    CONSUME,
    NOTIFY,
    RENEW_WORKER,
    RETURN_ACTIVITIES,
    STEP_INSTANCES,
)
from trioflow.errors import LeaseLost

__all__ = ["Committing"]


class _Mismatch(Exception):
    """Something was not there as a unit expected it."""


# Who touches fewer rows than these name has no right to the others.
_FENCED = (RENEW_WORKER, STEP_INSTANCES, CLOSE_INSTANCES, CONSUME, RETURN_ACTIVITIES)


def _lease_lost(worker: str) -> LeaseLost:
    return LeaseLost(
        f"worker {worker!r} sent no heartbeat for too long and was declared dead; what it held "
        "belongs to other workers now, and nothing of this commit was stored"
    )


_NO_FAILURE = CommitFailure()
_NO_NOTICES: Mapping[ParentRef, Message] = {}


class _Accepted(msgspec.Struct):
    """A unit that can be stored.

    Attributes:
        unit: With the executions that its new instances will have.
        replaced: Finished instances whose ids are used again.
        notices: What is sent to a parent in place of its child.
    """

    unit: Unit
    replaced: list[str]
    notices: dict[ParentRef, Message]


class Committing(SqlCore):
    """Write batches of units."""

    @property
    def _conflicts(self) -> tuple[type[Exception], ...]:
        return (_Mismatch, *self.dialect.conflict)

    def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        try:
            with self.dialect.transaction(self.connection):
                self._write(worker, units, renew=True)
                return [None] * len(units)
        except self._conflicts:
            pass
        with self.dialect.transaction(self.connection):
            self._renew(worker)
            try:
                with self.dialect.transaction(self.connection):
                    return self._commit_judged(worker, units)
            except self._conflicts:
                # A unit contradicts itself, or somebody created what was not there when it was
                # judged; then whatever fails fails alone.
                return [self._commit_one(worker, unit) for unit in units]

    def _renew(self, worker: str) -> None:
        if not self._execute(self.queries.renew_worker, self.clock(), worker).rowcount:
            raise _lease_lost(worker)

    def _write(
        self,
        worker: str,
        units: Sequence[Unit],
        notices: Mapping[ParentRef, Message] = _NO_NOTICES,
        *,
        renew: bool = False,
    ) -> None:
        rows = BatchRows(worker, self.clock(), notices)
        for unit in units:
            rows.add(unit)
        plain, others = self._sorted_out(rows.mails)
        writes = rows.writes()
        if renew:  # before anything else, so that nobody can bury the worker meanwhile
            writes.insert(0, (RENEW_WORKER, [worker, rows.now]))
        if plain and not rows.endings:
            writes.append((NOTIFY, self._counts(plain, rows.now)))
        touched = self._write_together(worker, writes)
        for commit in rows.endings:
            self._end(worker, commit, rows.now)
        if plain and rows.endings:  # only now is it known which executions go on
            self._deliver_plain(plain, rows.now)
        elif plain:
            self._store_plain(plain, touched[-1], rows.now)
        self._deliver_others(others, rows.now)
        for commit in rows.cancelling:
            self._cancel_activities(commit, rows.now)
        for retry in rows.retries:
            self._retry(worker, retry, rows.now)

    def _write_together(self, worker: str, writes: Sequence[tuple[Write, list[Any]]]) -> list[int]:
        touched = self.dialect.write_all(self.connection, writes)
        for (statement, values), count in zip(writes, touched, strict=True):
            if statement in _FENCED and count * len(statement.columns) != len(values):
                raise _lease_lost(worker) if statement is RENEW_WORKER else _Mismatch
        return touched

    def _end(self, worker: str, commit: InstanceCommit, now: float) -> None:
        """Suspend an instance, or end its execution and begin the next."""
        fence = (commit.id, worker, commit.execution, commit.number, life_of(commit))
        consumed = len(commit.consumed)
        appended = int(bool(commit.turns))
        if commit.suspended is not None:
            turns = commit.number + len(commit.turns)
            events = commit.events if commit.turns else None
            changed = self._execute(
                self.queries.suspend_instance,
                *(commit.suspended, turns, events, consumed, commit.wake_at, commit.status),
                *(appended, appended, 0, *fence),
            )
            if not changed.rowcount:
                raise _Mismatch
            return
        ready_at = now if commit.due or not commit.leased else commit.wake_at
        keeper = worker if commit.leased else None
        changed = self._execute(
            self.queries.continue_instance,
            *(commit.continued, commit.carried, ready_at, consumed, commit.wake_at, keeper),
            *(commit.status, int(bool(commit.turns) or commit.leased), appended),
            *(int(commit.leased), *fence),
        )
        if not changed.rowcount:
            raise _Mismatch
        stale = self._execute(self.queries.drop_stale_inbox, commit.id, commit.execution).rowcount
        self._execute(self.queries.count_out, stale, now, stale, commit.id)

    def _cancel_activities(self, commit: InstanceCommit, now: float) -> None:
        life = life_of(commit)
        for asked in commit.cancelled:
            key = (commit.id, commit.execution, asked.command, life)
            row = self._execute(self.queries.activity_state, *key).fetchone()
            if row is None:
                continue  # it has ended: its result is in the inbox
            if row[0] is None:
                self._end_activity(key, asked.event, now)
            else:
                self._execute(self.queries.mark_activity, asked.event, *key)

    def _retry(self, worker: str, retry: ActivityRetry, now: float) -> None:
        key = msgspec.structs.astuple(retry.key)
        row = self._execute(self.queries.activity_state, *key).fetchone()
        if row is None or row[0] != worker:
            return
        cancel = row[1]
        if cancel is None:
            values = (retry.attempt, retry.visible_at, retry.failure)
            self._execute(self.queries.retry_activity, *values, *key)
        else:
            self._end_activity(key, cancel, now)

    # --- unit by unit -------------------------------------------------------------------

    def _commit_one(self, worker: str, unit: Unit) -> CommitFailure | None:
        try:
            with self.dialect.transaction(self.connection):
                return self._commit_judged(worker, [unit])[0]
        except self._conflicts:
            # The fences held, so it is what was stored that cannot be right. Whose it is, is not
            # known: the worker tries again, and suspends what fails each time.
            return CommitFailure()

    def _commit_judged(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        """Write those units together that can be stored; return why the others cannot."""
        judged = [self._judge(worker, unit) for unit in units]
        stored = [each for each in judged if isinstance(each, _Accepted)]
        for id in {id for each in stored for id in each.replaced}:
            self._forget_finished(id)
        notices = {parent: told for each in stored for parent, told in each.notices.items()}
        if stored:
            self._write(worker, [each.unit for each in stored], notices)
        return [None if isinstance(each, _Accepted) else each for each in judged]

    def _judge(self, worker: str, unit: Unit) -> _Accepted | CommitFailure:
        failure = CommitFailure()
        instances: list[InstanceCommit] = []
        replaced: list[str] = []
        notices: dict[ParentRef, Message] = {}
        before: dict[str, InstanceCommit] = {}
        for commit in unit.instances:
            row = self._execute(self.queries.fence, commit.id).fetchone()
            twin = before.setdefault(commit.id, commit)
            as_it_is = commit
            if commit.new is None:
                self._judge_step(worker, commit, row, failure)
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
                notices[commit.new.parent] = id_taken(commit.id, commit.new.parent)
            instances.append(as_it_is)
        if failure != _NO_FAILURE:
            now = self.clock()
            for id in failure.unseen:
                self._execute(self.queries.ready_again, now, id, now)
            return failure
        results = [result for result in unit.results if self._held(worker, result.key)]
        whole = Unit(instances=instances, results=results, retries=unit.retries)
        return _Accepted(whole, replaced, notices)

    def _judge_step(
        self,
        worker: str,
        commit: InstanceCommit,
        row: Sequence[Any] | None,
        failure: CommitFailure,
    ) -> None:
        """Add an instance to a failure if it is not as expected; ``row`` is of `Queries.fence`."""
        expected = (worker, "running", commit.execution, commit.number, commit.life)
        if row is None or tuple(row[:5]) != expected or not self._has_consumed(commit):
            failure.lost.append(commit.id)
        elif commit.closing is not None and row[5] > len(commit.consumed):
            failure.unseen.append(commit.id)

    def _has_consumed(self, commit: InstanceCommit) -> bool:
        if not commit.consumed:
            return True
        found = self._execute(self.queries.inbox_numbers, commit.id).fetchall()
        known = {seq for (seq,) in found}
        return known.issuperset(commit.consumed) and len(set(commit.consumed)) == len(
            commit.consumed
        )

    def _forget_finished(self, id: str) -> None:
        """Delete a finished instance, except for its turns, so that its id can be used again.

        What a worker still runs for it is marked; so the worker is told to stop that.
        """
        self._execute(self.queries.delete_instance, id)
        self._execute(self.queries.delete_inbox, id)
        self._drop_activities(id)

    def _held(self, worker: str, key: ActivityKey) -> bool:
        row = self._execute(self.queries.activity_state, *msgspec.structs.astuple(key)).fetchone()
        return row is not None and row[0] == worker
