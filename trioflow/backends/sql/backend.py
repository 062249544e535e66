"""`Backend` on top of a synchronous `SqlStore`: where its calls run, and who is told of changes.

All that is asked of the store goes through two helpers. `SqlBackend._read` runs a function of this
package where it may block. `SqlBackend._write` does the same and then tells whoever waits for a
change: those in this process by the watcher, other processes in one of two ways, whichever the
database has.

- The store writes of it, in the same transaction (`SqlStore.announce`): MySQL and SQLite.
- The watcher sends a notification after it: PostgreSQL.
"""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar, TypeVarTuple

from trioflow._model.limits import Limit, LimitKind, Limits
from trioflow.backends._common.watching import (
    EVERYTHING,
    OF_ENDS,
    OF_INSTANCES,
    OF_NOTHING,
    OF_QUESTIONS,
    Watcher,
    concerns_of,
)
from trioflow.backends.abc import Concern
from trioflow.backends.commits import Answer, CommitFailure, NewInstance, NewQuestion, Unit
from trioflow.backends.filters import Group, InstanceFilter
from trioflow.backends.moves import Fence, MovedCommon, MovedInstance, Refusal
from trioflow.backends.outbox import (
    ActivityTransaction,
    CallerTransaction,
    no_transactions,
    refused,
)
from trioflow.backends.records import (
    ActivityKey,
    ActivityTask,
    Effect,
    EndedExecution,
    Execution,
    Heartbeat,
    InstanceRecord,
    QueueStats,
    Reached,
    RequestKey,
    SharedState,
    StoredMessage,
    TakenActivities,
    TakenInstances,
    TakenQuestions,
    Trouble,
    WorkerInfo,
)
from trioflow.backends.resets import Beginning, Reset, ResetResult
from trioflow.backends.sql.operations import (
    changes,
    keeping,
    leases,
    limited,
    moves,
    reads,
    resets,
    sharing,
    taking,
    troubles,
)
from trioflow.backends.sql.operations import questions as asking
from trioflow.backends.sql.operations.commit import commit
from trioflow.backends.sql.operations.taking import Wanted
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import BackendUnavailable

__all__ = ["SqlBackend"]

S = TypeVar("S", bound=SqlStore)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SqlBackend(abc.ABC, Generic[S]):
    """A `Backend` whose store is SQL. Subclasses say how to open it and where its calls run."""

    name: str
    shared: bool
    was_fenced = False
    """Whether this object has put up a fence; others may have."""

    def __init__(self) -> None:
        self._watcher = Watcher()

    # --- what a subclass gives ------------------------------------------------------------

    @abc.abstractmethod
    async def open(self) -> None:
        """Connect, and bring the schema up to date. Idempotent."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Release everything. Idempotent, also after a failed `open`."""

    @abc.abstractmethod
    def now(self) -> float:
        """Return the store's clock, epoch seconds."""

    @abc.abstractmethod
    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row. Called from a thread of the worker's own; may block."""

    @abc.abstractmethod
    def _store(self) -> S:
        """Return the open store.

        Raises:
            BackendUnavailable: It is not open.
        """

    @abc.abstractmethod
    async def _run(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a function that uses the store where it may block; raise only our errors."""

    async def _run_alone(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Like `_run`, for what is no part of a transaction."""
        return await self._run(fn, *args)

    # --- reading and writing --------------------------------------------------------------

    async def _read(self, fn: Callable[[SqlStore, *Ts], T], *args: *Ts) -> T:
        """Run a function that changes nothing."""
        return await self._run(fn, self._store(), *args)

    async def _look_at(self, fn: Callable[[SqlStore, *Ts], T], *args: *Ts) -> T:
        """Run a function that changes nothing, and reads with `SqlStore.snapshot`.

        In a transaction with other calls it would see what is committed between its statements.
        """
        return await self._run_alone(fn, self._store(), *args)

    async def _write(
        self,
        fn: Callable[[SqlStore, *Ts], T],
        *args: *Ts,
        told: Callable[[T], object] = bool,
        about: Collection[Concern] = EVERYTHING,
    ) -> T:
        """Run a function that changes something, and tell those who wait for changes.

        Args:
            fn: What to run.
            *args: With what, beside the store.
            told: Returns of the result whether there is something to tell; `_never` if that is
                known before.
            about: What the change may bring.
        """
        if told is _never:
            return await self._run(fn, self._store(), *args)
        result = await self._tell(fn, *args)
        if told(result):
            self._watcher.notify(about)
        return result

    async def _tell(self, fn: Callable[[SqlStore, *Ts], T], *args: *Ts) -> T:
        """Run a function that changes something, and tell other processes of it."""
        try:
            return await self._run(_announced, fn, self._store(), *args)
        except BackendUnavailable:
            self._watcher.notify()  # perhaps it was stored, and only the answer was lost
            raise

    # --- workers ------------------------------------------------------------------------

    async def register_worker(
        self,
        worker: str,
        name: str,
        *,
        queues: Sequence[str] = (),
        activity_queues: Sequence[str] = (),
        lease: float | None = None,
        version: str = "",
    ) -> None:
        served = (tuple(queues), tuple(activity_queues))
        facts = (name, lease, version)
        await self._write(leases.register_worker, worker, facts, served, told=_never)

    async def workers(self) -> list[WorkerInfo]:
        return await self._look_at(reads.workers)

    async def reclaim(self, lease: float) -> list[str]:
        return await self._write(leases.reclaim, lease)

    async def release_worker(self, worker: str, *, died: bool = False) -> None:
        await self._write(leases.release_worker, worker, died, told=_always)

    # --- work ---------------------------------------------------------------------------

    async def take_instances(
        self,
        worker: str,
        queues: Sequence[str],
        limit: int,
        *,
        exclude: Sequence[str] = (),
        exclude_ids: Sequence[str] = (),
        sticky: float = 0.0,
        suspect: bool = False,
    ) -> TakenInstances:
        if not limit and not suspect:
            return await self._write(taking.take_own_instances, worker, told=_never)
        wanted = Wanted(worker, tuple(queues), tuple(exclude), tuple(exclude_ids))
        if suspect:
            return await self._write(taking.take_suspect, wanted, told=_never)
        return await self._write(taking.take_instances, wanted, limit, sticky, told=_never)

    async def take_activities(
        self, worker: str, queues: Sequence[str], limit: int, *, exclude: Sequence[str] = ()
    ) -> TakenActivities:
        wanted = Wanted(worker, tuple(queues), tuple(exclude))
        return await self._write(taking.take_activities, wanted, limit, told=_never)

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        left = concerns_of(units)
        if left is None:
            return await self._write(commit, worker, units, told=_never)
        results = await self._tell(commit, worker, units)
        self._watcher.notify_commit(worker, left, results)
        return results

    async def release_instances(self, worker: str, instances: Sequence[str]) -> list[str]:
        return await self._write(leases.release_instances, worker, instances)

    async def recall(self, worker: str, keep: Sequence[ActivityKey]) -> None:
        await self._write(leases.recall, worker, keep, told=_always)

    async def load(self, ids: Sequence[tuple[str, int]]) -> list[list[bytes]]:
        return await self._read(reads.load, ids)

    async def turns_from(
        self, instance: str, execution: int, first: int, *, limit: int
    ) -> list[bytes]:
        return await self._read(reads.turns_from, instance, execution, first, limit)

    # --- limits -------------------------------------------------------------------------

    async def set_limit(self, limit: Limit) -> None:
        await self._write(limited.set_limit, limit, told=_always)

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        return await self._write(limited.remove_limit, kind, name)

    async def limits(self) -> Limits:
        return await self._look_at(limited.read_limits)

    async def shared_state(self, name: str) -> SharedState:
        return await self._look_at(sharing.shared_state, name)

    # --- questions ----------------------------------------------------------------------

    async def ask(self, question: NewQuestion) -> Effect:
        return await self._write(asking.ask, question, told=_is_done, about=OF_QUESTIONS)

    async def take_questions(
        self,
        worker: str,
        queues: Sequence[str],
        workflows: Sequence[str],
        limit: int,
        *,
        exclude_ids: Sequence[str] = (),
    ) -> TakenQuestions:
        asked = asking.Answering(worker, queues, workflows, exclude_ids)
        return await self._write(asking.take_questions, asked, limit, told=_never)

    async def answer_questions(self, answers: Sequence[Answer]) -> None:
        await self._write(asking.answer_questions, answers, told=_always, about=OF_NOTHING)

    async def replies(self, questions: Sequence[str]) -> list[bytes | None]:
        return await self._read(asking.replies, questions)

    async def withdraw(self, questions: Sequence[str]) -> None:
        await self._write(asking.withdraw, questions, told=_never)

    # --- what clients ask for -----------------------------------------------------------

    async def create(
        self,
        instances: Sequence[NewInstance],
        *,
        reuse: bool = True,
        replacing: bytes | None = None,
    ) -> list[bool]:
        told, about = (any, OF_INSTANCES) if replacing is None else (_always, EVERYTHING)
        wanted = instances, reuse, replacing
        return await self._write(changes.create, *wanted, told=told, about=about)

    async def send(
        self, instance: str, event: bytes, *, life: str | None = None, request: str = ""
    ) -> Effect:
        sent = instance, event, life, request
        return await self._write(changes.send, *sent, told=_is_done, about=OF_INSTANCES)

    async def create_and_send(
        self, new: NewInstance, event: bytes, *, request: str = ""
    ) -> Reached:
        sent = new, event, request
        return await self._write(changes.create_and_send, *sent, told=_always, about=OF_INSTANCES)

    async def answers(self, requests: Sequence[RequestKey]) -> list[bytes | None]:
        return await self._read(reads.answers, requests)

    async def cancel(
        self, instance: str, event: bytes, outcome: bytes, *, life: str | None = None
    ) -> Effect:
        asked = instance, event, outcome, life
        return await self._write(changes.cancel, *asked, told=_is_done, about=OF_ENDS)

    async def terminate(self, instance: str, outcome: bytes, *, life: str | None = None) -> Effect:
        asked = instance, outcome, life
        return await self._write(changes.terminate, *asked, told=_is_done, about=OF_ENDS)

    async def suspend(self, instance: str, report: bytes, *, life: str | None = None) -> Effect:
        return await self._write(changes.suspend, instance, report, life, told=_is_done)

    async def resume(self, instance: str, *, life: str | None = None) -> Effect:
        return await self._write(changes.resume, instance, life, told=_is_done)

    async def retry_now(
        self, instance: str, *, activity: str | None = None, life: str | None = None
    ) -> Effect:
        return await self._write(changes.retry_now, instance, activity, life, told=_is_done)

    async def reset(self, reset: Reset) -> ResetResult:
        return await self._write(resets.reset, reset, told=_always)

    async def fork(self, new: NewInstance, beginning: Beginning) -> bool:
        return await self._write(resets.fork, new, beginning)

    async def inbox(self, instance: str) -> list[StoredMessage]:
        return await self._read(resets.inbox, instance)

    async def remove(
        self, where: InstanceFilter, *, ids: Sequence[str] | None = None, limit: int
    ) -> int:
        # Somebody may wait for one of them.
        return await self._write(changes.remove, where, ids, limit)

    async def get(self, instance: str) -> InstanceRecord | None:
        return await self._read(reads.get, instance)

    async def not_running(
        self, instances: Sequence[str], *, lives: Sequence[str] | None = None
    ) -> list[str]:
        return await self._read(reads.not_running, instances, lives)

    async def history(self, instance: str) -> list[Execution]:
        return await self._look_at(reads.history, instance)

    async def executions(self, instance: str) -> list[EndedExecution]:
        return await self._read(keeping.executions, instance)

    async def remove_executions(self, ended_before: float, *, limit: int) -> int:
        return await self._write(keeping.remove_executions, ended_before, limit, told=_never)

    async def activities(self, instance: str) -> list[ActivityTask]:
        return await self._read(reads.activities, instance)

    async def count(self, where: InstanceFilter, *, most: int | None = None) -> int:
        return await self._read(reads.count, where, most)

    async def count_by(
        self, where: InstanceFilter, by: str, *, attribute: bool = False
    ) -> list[Group]:
        return await self._read(reads.count_by, where, by, attribute)

    async def stats(self) -> list[QueueStats]:
        return await self._look_at(reads.stats)

    async def troubles(self, after: float) -> dict[Trouble, int]:
        return await self._look_at(troubles.troubles, after)

    async def tried_again(self, instances: Sequence[str]) -> list[ActivityTask]:
        return await self._read(reads.tried_again, instances)

    def in_transaction(self, connection: object) -> CallerTransaction:
        raise refused(self.name)

    def activity_transaction(
        self, worker: str, key: ActivityKey, attempt: int
    ) -> ActivityTransaction:
        raise no_transactions(self.name)

    # --- moves --------------------------------------------------------------------------

    async def fence(self, fence: Fence) -> Fence | None:
        other = await self._run_alone(moves.fence, self._store(), fence)
        self.was_fenced = True
        await self._write(_nothing, told=_always)  # so that whoever waits looks, and hears of it
        return other

    async def lift_fence(self, move: str, *, forget: bool = False) -> bool:
        lifted = await self._run_alone(moves.lift_fence, self._store(), move, forget)
        await self._write(_nothing, told=_always)
        return lifted

    async def fenced(self) -> Fence | None:
        return await self._read(moves.fenced)

    async def export(
        self, *, limit: int, after: str | None = None, unfinished_only: bool = False
    ) -> list[MovedInstance]:
        return await self._look_at(moves.export, limit, after, unfinished_only)

    async def export_common(self) -> MovedCommon:
        return await self._look_at(moves.export_common)

    async def import_instances(self, move: str, instances: Sequence[MovedInstance]) -> bool:
        return await self._write(moves.import_instances, move, instances, told=_never)

    async def check_import(self, instances: Sequence[MovedInstance]) -> list[Refusal]:
        return await self._run_alone(moves.check_import, self._store(), instances)

    async def import_common(self, move: str, common: MovedCommon) -> bool:
        return await self._write(moves.import_common, move, common, told=_never)

    async def clear(self, move: str) -> bool:
        cleared = await self._run_alone(moves.clear, self._store(), move)
        await self._write(_nothing, told=_always)
        return cleared

    # --- waking -------------------------------------------------------------------------

    def changes(self) -> int:
        return self._watcher.number

    def changed(self, what: Concern, since: int, worker: str = "") -> bool:
        return self._watcher.changed(what, since, worker)

    async def wait_change(self, seen: int, timeout: float) -> None:
        await self._watcher.wait(seen, timeout)

    # Last, since its name hides the built-in type in what follows it.
    async def list(
        self, where: InstanceFilter, *, limit: int, after: str | None = None
    ) -> list[InstanceRecord]:
        return await self._read(reads.list_instances, where, limit, after)


def _announced(fn: Callable[[SqlStore, *Ts], T], store: SqlStore, *args: *Ts) -> T:
    store.announce()
    return fn(store, *args)


def _nothing(store: SqlStore) -> None:
    """Change nothing."""
    with store.transaction():
        pass


def _always(_: object) -> bool:
    return True


def _never(_: object) -> bool:
    return False


def _is_done(effect: Effect) -> bool:
    return effect == "done"
