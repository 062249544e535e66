"""The store contract: what an implementation of `Backend` guarantees.

Words: an instance is *ready* when its ``ready_at`` is not null and has come; it is *leased* when
its ``worker`` is a living worker's id. A worker lives as long as its row exists. Every method is
one transaction: all of it is durable when it returns, nothing when it raises. A caller that is
cancelled gets its cancellation before anything is done, or else the result: then it waits for it.
All methods but `heartbeat` are called on the loop that opened the backend, possibly concurrently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trioflow._model.limits import Limit, LimitKind, Limits
from trioflow.backends.commits import Answer, CommitFailure, NewInstance, NewQuestion, Unit
from trioflow.backends.filters import Group, InstanceFilter
from trioflow.backends.outbox import ActivityTransaction, CallerTransaction
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

__all__ = ["Backend"]


class Backend(Protocol):
    """A store of instances, histories, inboxes, activities and workers.

    Attributes:
        name: For messages and metrics: ``"sqlite"``, ``"memory"``, …
        shared: Whether other processes can use the same store. If not, workers send no heartbeats
            and reclaim nothing.
    """

    name: str
    shared: bool

    # --- life ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and bring the schema up to date. Idempotent, also for callers at the same time.

        Raises:
            BackendUnavailable: The store cannot be reached or written.
            SchemaError: The schema is newer than this code, or not ours.
            CorruptStore: It cannot be read.
        """

    async def aclose(self) -> None:
        """Release everything. Idempotent, also after a failed `open`."""

    def now(self) -> float:
        """Return the store's clock, epoch seconds: it judges leases and visibility."""
        ...

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
        """Store the row of a new worker.

        All but the id is for those who look: `stats`, `workers`. A row that an older trioflow wrote
        says nothing of queues; such a worker counts for every queue.

        Args:
            worker: A fresh random id.
            name: For people.
            queues: Whose instances it will take.
            activity_queues: Whose activities it will take.
            lease: For how many seconds a heartbeat shows that it lives; ``None`` for as long as
                its row is there.
            version: The version of its trioflow.
        """

    async def workers(self) -> list[WorkerInfo]:
        """Return all workers that have a row, also those whose lease is over, by name and id.

        What they hold is counted up to `COUNTED` for each, so that a look has a bounded cost.
        """
        ...

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row. Called from a thread of the worker's own; may block.

        Never brings back a row that is gone. A `commit` renews the row as well.
        """
        ...

    async def reclaim(self, lease: float) -> list[str]:
        """Reclaim every worker whose heartbeat is older than ``lease`` seconds; return their ids.

        In one transaction per worker: its row is deleted, its instances are freed, become
        *suspects* and are made ready at once, its activities are freed with ``attempt`` one higher
        and visible at once. The ``attempt`` stays the same if the worker held a suspect that it had
        taken in isolation: that is to blame then. (An activity marked for cancellation is deleted
        instead, and reported to its instance as cancelled; several of them in any order.)

        A suspect may be what killed its worker. It is taken in isolation (see `take_instances`)
        until a commit appends a turn to it: that one makes it an ordinary instance again. It
        remains one when it is given back without a turn, and through a suspension.

        What belongs to a worker without a row is freed in the same way, though nobody should be
        able to make such a thing.
        """
        ...

    async def release_worker(self, worker: str, *, died: bool = False) -> None:
        """Delete a worker's row; free what it holds, with the same ``attempt``.

        As `reclaim` does, but nothing becomes a suspect. With ``died`` all is done as `reclaim`
        does it: the worker ends in order, but perhaps because of something that it holds. Nothing
        happens if the row is gone.
        """

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
        """Lease up to ``limit`` ready instances to ``worker``: the highest ``priority`` first.

        Among equals, whatever their queues, the longest ready comes first. A lower priority waits
        for as long as there is enough of a higher one.

        Eligible is a running instance of one of ``queues`` whose workflow is not in ``exclude``,
        and which is not itself in ``exclude_ids``, is ready, and is free or already this worker's.
        One that is free but was last run by another worker that still lives is left to that one for
        the first ``sticky`` seconds of its being ready. Taking makes ``ready_at`` null; whatever
        reaches the inbox afterwards sets it again, so that the instance is given again, with its
        whole inbox, to the worker that holds it.

        A ``limit`` of 0 gives those that are ready and already this worker's, all of them and in
        any order, whatever their queues: a worker that is full must still hear what is sent to what
        it holds. Then nothing else counts for ``next_at`` and ``suspects`` either.

        A suspect (see `reclaim`) that is free is not eligible, unless ``suspect`` is true: then
        nothing else is, at most one is given whatever ``limit`` says, the highest ``priority`` and
        the longest ready first, and its count of ``deaths`` goes up by one. The count goes down
        again when it is given back without a turn, by `commit`, `release_instances` or
        `release_worker`, and to 0 when a turn is stored; so it counts the workers that died with
        it. `resume` sets it to 0. A suspect that is this worker's already is given like any other.

        Every statement that writes a lease demands in itself that the worker's row is there, and
        that nobody else has the lease.

        Returns:
            The instances with their inboxes in the order of arrival; ``next_at``: when the next
            of those that were not taken becomes eligible, a suspect included, in the past if
            ``limit`` left one out, ``None`` if there is none; and ``suspects``: whether a suspect
            is ready and free (which does not count for ``next_at``). An instance that is not ready
            yet counts from when it is, though it may be left to another worker then, or wait for a
            place of its workflow's limit. A look may end early, with ``next_at`` in the past. If
            the worker's row is gone, nothing is taken.
        """
        ...

    async def take_activities(
        self, worker: str, queues: Sequence[str], limit: int, *, exclude: Sequence[str] = ()
    ) -> TakenActivities:
        """Lease up to ``limit`` visible, free activities of ``queues`` to ``worker``.

        The highest ``priority`` comes first, among equals the oldest ``visible_at``. ``exclude``
        are names of activities. If the worker's row is gone, nothing is taken. ``next_at`` is as
        in `take_instances`.

        What a limit does not allow now is left out (see `set_limit`). Then ``next_at`` is also when
        a rate allows the next, and ``limited`` says whether a limit of ``concurrency`` was in the
        way of anything. Where activities have keys (`NewActivity.limit_key`), the keys of a queue
        take turns: each look gives to those that come after the last that was given to, in a fixed
        order; only within a key do priority and time count.
        """
        ...

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        """Write many units in one transaction; each succeeds or fails by itself.

        An `InstanceCommit` demands that the instance is running, leased to ``worker``, in that
        ``execution`` and ``life`` with exactly ``number`` turns, and that what it consumed is in
        its inbox: all of it if it closes the instance (``unseen`` otherwise). If it has ``new``,
        that no running or suspended instance has the id; a finished one's id is used again: the
        row is replaced, its ``execution`` goes on counting, its old turns stay. (Then a commit that
        has ``turns`` as well fails with ``taken_ids``, as its execution is not the first; the
        caller tries again without them.) Activities of the finished one that a worker still runs
        are marked with an empty event: that worker is told to stop them.
        A child (``new`` with a parent) that has no turns and whose id is taken does not fail the
        unit: the parent's inbox gets the `ChildFailed` event instead.
        What `ActivityResult`, `ActivityRetry` and `ActivityProgress` name must be leased to
        ``worker``, otherwise they are silently dropped. Progress is written before the activities
        of the batch end or are given back; of several for one activity the last one counts. A retry
        of an activity that is marked for cancellation ends it as cancelled. No instance is in two
        units of a batch, nor twice in one, but for children that have no turns: an id that is born
        before them is taken, and if its instance ends before them in their unit, that fails with
        ``taken_ids``. Of an activity, a batch has one end at most.
        Messages are delivered after all instances of the batch are written, units that fail left
        out, and reach an inbox in their order: a unit's messages before those of its results, a
        reply at once after what it answers. Cancelled activities come after them.
        When an execution ends because the next begins, what is unread and was sent for that
        execution alone (`Message.execution`) is dropped; the rest stays unread.

        A unit fails with ``limited`` if it has an activity that is leased and has a limit, or whose
        ``limit_key`` is empty if its limits have a key (or is not if they have none), or a new
        instance that is leased, or has turns, of a workflow that has a limit. So nothing begins
        that is not counted, from the moment on when `set_limit` has returned.

        Returns:
            For each unit ``None``, or why it was not stored.

        Raises:
            LeaseLost: The worker's row is gone. Nothing was stored.
            BackendUnavailable: Nothing is known to be stored; trying again is safe, since the
                numbers of turns tell what was.
        """
        ...

    async def release_instances(self, worker: str, instances: Sequence[str]) -> list[str]:
        """Give back running instances leased to ``worker``: free, and ready from now on.

        One that was ready before counts anew, so that it comes after what has waited longer. Their
        activities that are leased to it become free and visible, without raising ``attempt``.

        Returns:
            The ids of those that were its own.
        """
        ...

    async def recall(self, worker: str, keep: Sequence[ActivityKey]) -> None:
        """Make ready again what a worker holds, for one that may have missed an answer.

        Running instances leased to it become ready at once, so that `take_instances` gives them
        again. Activities leased to it that are not in ``keep`` become free and visible at once,
        without raising ``attempt``.
        """

    async def load(self, ids: Sequence[tuple[str, int]]) -> list[list[bytes]]:
        """Return the stored turns of each (instance, execution); unknown ones have none."""
        ...

    async def turns_from(
        self, instance: str, execution: int, first: int, *, limit: int
    ) -> list[bytes]:
        """Return up to ``limit`` stored turns of an execution, in order, beginning with a number.

        Turns are numbered from 0.
        """
        ...

    # --- limits -------------------------------------------------------------------------

    async def set_limit(self, limit: Limit) -> None:
        """Limit what is under way of one kind, across all workers; replaces what was set before.

        Of a queue, or of activities of a name, never more than ``concurrency`` are leased, kept
        slots (`Unit`) counted in, and within any ``per`` seconds never more than ``rate`` become
        leased; of the activities that have one ``limit_key``, never more than ``key_concurrency``.
        What is leased already stays so, and counts.

        Of a workflow, never more than ``concurrency`` instances have begun and not ended: made a
        turn, or been taken. Others wait, and are taken in the order of `take_instances`; suspended
        ones count. Those that have begun already go on, and count.
        """

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        """Remove a limit; return whether there was one. What it kept waiting can be taken at once.

        If it had a key, its activities have none from now on.
        """
        ...

    async def limits(self) -> Limits:
        """Return all limits, with a version that differs after each change."""
        ...

    async def shared_state(self, name: str) -> SharedState:
        """Return who has claims of that name (`SharedClaim.name`), and whether it is set.

        Claims of executions that have ended are left out.
        """
        ...

    # --- questions ----------------------------------------------------------------------

    async def ask(self, question: NewQuestion) -> Effect:
        """Keep a question of a client for a worker: ``"done"`` or ``"not found"``.

        Of an instance of another life nothing can be known: then it is not found. What has expired
        is forgotten.
        """
        ...

    async def take_questions(
        self,
        worker: str,
        queues: Sequence[str],
        workflows: Sequence[str],
        limit: int,
        *,
        exclude_ids: Sequence[str] = (),
    ) -> TakenQuestions:
        """Give up to ``limit`` questions to ``worker``, which is to answer them; each once.

        A question is eligible if it has not expired, and its instance has made a turn of its
        present execution or has ended. That of an instance that a living worker holds is for that
        worker, if the workflow is one of ``workflows``. Any other is for all that serve the
        instance's queue and know its workflow, also if the instance is suspended or has ended; but
        not for those that name the instance in ``exclude_ids``. If the worker's row is gone,
        nothing is given.
        """
        ...

    async def answer_questions(self, answers: Sequence[Answer]) -> None:
        """Keep answers to questions for those who have asked; nothing if they wait no more."""
        ...

    async def replies(self, questions: Sequence[str]) -> list[bytes | None]:
        """Return the answer to each question, ``None`` where there is none."""
        ...

    async def withdraw(self, questions: Sequence[str]) -> None:
        """Forget questions and their answers."""
        ...

    # --- what clients ask for -----------------------------------------------------------

    async def create(
        self,
        instances: Sequence[NewInstance],
        *,
        reuse: bool = True,
        replacing: bytes | None = None,
    ) -> list[bool]:
        """Create instances, free and ready at once; False where the id is running or suspended.

        Args:
            instances: What to create.
            reuse: Whether the id of a finished instance is used again. If not, that is False too.
            replacing: The stored form of a `trioflow._model.turns.Failed`. With it, an unfinished
                instance that has the id is ended first, as `terminate` does it with that outcome;
                then it is a finished one.
        """
        ...

    async def send(
        self, instance: str, event: bytes, *, life: str | None = None, request: str = ""
    ) -> Effect:
        """Put an event into an instance's inbox: ``"done"``, ``"not found"`` or ``"finished"``.

        With ``life`` an instance of another life is ``"finished"``, here and below.

        With ``request`` the event is a request of that id, which is kept for its answer. An
        instance gets one request of an id in its life, whoever makes it how often: if that was made
        before, nothing is delivered and this returns ``"unchanged"``, also of an instance that has
        finished.
        """
        ...

    async def create_and_send(
        self, new: NewInstance, event: bytes, *, request: str = ""
    ) -> Reached:
        """Put an event into the inbox of an instance, which is created first if there is none.

        One that is running or suspended is sent the event, whatever else ``new`` says; in place of
        a finished one a new one begins. With ``request`` it is as in `send`; so if the request was
        made of a finished instance, nothing is created.
        """
        ...

    async def answers(self, requests: Sequence[RequestKey]) -> list[bytes | None]:
        """Return the answer to each request, ``None`` where there is none.

        Requests and their answers stay until their instance is removed, also when its id is used
        again.
        """
        ...

    async def cancel(
        self, instance: str, event: bytes, outcome: bytes, *, life: str | None = None
    ) -> Effect:
        """Request the cancellation of an instance; end it at once if it has not begun.

        An instance that is running, in its first execution without turns, and held by nobody ends
        as ``"cancelled"`` with ``outcome``, whether or not anybody serves its queue. Its parent, if
        it has one, gets a `ChildCancelled` event. But if ``event`` was asked for by a parent
        (``by``) that is not the instance's own, it is put into the inbox like any other.

        Args:
            instance: Its id.
            event: The stored form of a `trioflow._model.events.CancelRequested`.
            outcome: The stored form of a `trioflow._model.turns.Cancelled`.
            life: Which life of the id is meant, or ``None`` for the present one.

        Returns:
            ``"done"``, ``"not found"`` or ``"finished"``.
        """
        ...

    async def terminate(self, instance: str, outcome: bytes, *, life: str | None = None) -> Effect:
        """End an instance and all its unfinished descendants at once.

        Their activities are deleted; running ones are marked, so that their workers stop them. The
        parent, if it has one that was not terminated with it, gets a `ChildFailed` event: the
        failure in ``outcome``.

        Args:
            instance: Its id.
            outcome: The stored form of a `trioflow._model.turns.Failed`.
            life: Which life of the id is meant, or ``None`` for the present one.

        Returns:
            ``"done"``, ``"not found"`` or ``"finished"``.
        """
        ...

    async def suspend(self, instance: str, report: bytes, *, life: str | None = None) -> Effect:
        """Suspend a running instance, whoever holds it; it is free then.

        A worker that held it is not told: what it commits of the instance is refused. Activities
        go on, and their results wait in the inbox, as all messages do.

        Args:
            instance: Its id.
            report: The stored form of a `trioflow._model.info.SuspendReport`.
            life: Which life of the id is meant, or ``None`` for the present one.

        Returns:
            ``"done"``, ``"unchanged"`` if it is suspended, ``"finished"`` or ``"not found"``.
        """
        ...

    async def resume(self, instance: str, *, life: str | None = None) -> Effect:
        """Make a suspended instance running and ready.

        Returns:
            ``"done"``, ``"unchanged"`` if it is running, ``"finished"`` or ``"not found"``.
        """
        ...

    async def retry_now(
        self, instance: str, *, activity: str | None = None, life: str | None = None
    ) -> Effect:
        """Make the activities of an instance visible that wait for their next attempt.

        Their ``attempt`` stays as it is. What a worker runs is left alone.

        Args:
            instance: Its id.
            activity: Only activities of this name.
            life: Which life of the id is meant, or ``None`` for the present one.

        Returns:
            ``"done"``, ``"unchanged"`` if there is none that waits, ``"finished"`` or
            ``"not found"``.
        """
        ...

    async def reset(self, reset: Reset) -> ResetResult:
        """Begin a new execution of an instance in place of its last one, whatever its status.

        The instance is running and free then, and ready (not before its ``start_at``), in the next
        execution, with `Reset.beginning`; its custom status is empty, and it is no suspect. If it
        had ended it has no parent any more: that one has been told. The life and the requests stay.

        All that belongs to the old execution ends, without a word to anybody: its inbox, what it
        has or waits for of what instances share, and its activities, of which those that a worker
        runs are marked with an empty event. Unfinished sub-workflows of it are terminated, but for
        the adopted ones: the ``parent`` of those is the new execution, and they are taken away from
        whoever holds them, as `release_instances` does it with those that are running. Of an
        activity of `Beginning.activities` of which there was a row, ``attempt``, ``visible_at``,
        ``scheduled_at``, ``failure`` and progress are kept.

        Returns:
            ``"done"``; ``"not found"``; ``"finished"`` if the id is another life's; or
            ``"changed"``: the execution, the number of its turns or its inbox is not as expected,
            or one of the adopted is not its unfinished sub-workflow. Then nothing was done.
        """
        ...

    async def fork(self, new: NewInstance, beginning: Beginning) -> bool:
        """Create an instance with a history, free; False if there is one of its id, of any status.

        It is ready as with `create`, and in its first execution. ``attributes`` are those of
        ``new``.
        """
        ...

    async def inbox(self, instance: str) -> list[StoredMessage]:
        """Return all that is in an instance's inbox, in the order of arrival."""
        ...

    async def get(self, instance: str) -> InstanceRecord | None:
        """Return an instance's row."""
        ...

    async def not_running(
        self, instances: Sequence[str], *, lives: Sequence[str] | None = None
    ) -> list[str]:
        """Return which of the ids are of instances that have ended or are suspended.

        Args:
            instances: The ids.
            lives: For each of them which life is meant. Then also those are returned that are not
                there, and those of another life. An id may come several times.
        """
        ...

    async def history(self, instance: str) -> list[Execution]:
        """Return all stored executions of an instance in order, the running one last."""
        ...

    async def executions(self, instance: str) -> list[EndedExecution]:
        """Return what is kept of the ended executions of an id, of all its lives, in order.

        A commit that continues an instance keeps the execution that ends, a reset the one that it
        leaves, and whatever begins a new life in place of a finished one keeps the row of that. The
        last execution is not among them: its row is that of `get`. They stay until
        `remove_executions`, or `remove` of the instance.
        """
        ...

    async def remove_executions(self, ended_before: float, *, limit: int) -> int:
        """Remove up to ``limit`` ended executions with their turns; return how many.

        Those that ended first go first, whatever has become of their instances. The last execution
        of an instance is never among them. What ended before a store kept executions is left.
        """
        ...

    async def activities(self, instance: str) -> list[ActivityTask]:
        """Return the unfinished activities of an instance's current execution, by command."""
        ...

    async def count(self, where: InstanceFilter, *, most: int | None = None) -> int:
        """Count the instances that a filter means; with ``most`` up to so many, and no further."""
        ...

    async def count_by(
        self, where: InstanceFilter, by: str, *, attribute: bool = False
    ) -> list[Group]:
        """Count the instances that a filter means by what they have in common, in any order.

        Args:
            where: Which ones.
            by: ``"status"``, ``"workflow"`` or ``"queue"``; with ``attribute`` the name of an
                attribute. An instance without that is left out, and one that has several texts
                counts for each of them.
            attribute: Whether ``by`` is an attribute.
        """
        ...

    async def stats(self) -> list[QueueStats]:
        """Return the numbers of each queue with an unfinished instance or an activity, by name.

        Of workers those count that have a row whose last heartbeat is not older than the lease
        that `register_worker` stored.
        """
        ...

    async def troubles(self, after: float) -> dict[Trouble, int]:
        """Count the instances in each kind of trouble, as `InstanceFilter` defines them.

        Each is counted up to 1,000: so many stand for as many or more. So the cost grows with what
        is unfinished at most.

        Args:
            after: The filter's ``trouble_after``.
        """
        ...

    async def tried_again(self, instances: Sequence[str]) -> list[ActivityTask]:
        """Return of each running instance the activity that is tried again most often, if any.

        That is the one of the present execution with the greatest ``attempt`` above 1, and of
        equal ones the first by its command. In any order.
        """
        ...

    async def remove(
        self, where: InstanceFilter, *, ids: Sequence[str] | None = None, limit: int
    ) -> int:
        """Remove up to ``limit`` finished instances with their histories; return how many.

        The oldest go first. With ``ids`` only those among them that ``where`` means. Activities
        that a worker still runs are not deleted but marked with an empty event, so that it is told
        to stop them; their rows go when it has, or when it is reclaimed.
        """
        ...

    def in_transaction(self, connection: object) -> CallerTransaction:
        """Return what changes the store in a transaction of the caller's own.

        Whoever waits for changes is woken soon after that transaction was committed.

        Args:
            connection: A connection of the store's driver to the same database.

        Raises:
            TransactionRefused: The store cannot do so, and what to do instead; or it is no such
                connection.
            BackendUnavailable: The store is not open.
        """
        ...

    def activity_transaction(
        self, worker: str, key: ActivityKey, attempt: int
    ) -> ActivityTransaction:
        """Return a transaction in which a leased activity writes, and its end is stored.

        Any thread may call it.

        Args:
            worker: Who has the lease.
            key: Which activity.
            attempt: Which attempt of it.

        Raises:
            TransactionRefused: The store cannot do so, and what to do instead.
            BackendUnavailable: The store is not open.
        """
        ...

    # --- waking -------------------------------------------------------------------------

    def changes(self) -> int:
        """Return a number that grows when there may be new work or a new outcome in the store."""
        ...

    async def wait_change(self, seen: int, timeout: float) -> None:
        """Return soon after `changes` differs from ``seen``, or after ``timeout`` seconds.

        ``seen`` was read before the store was last looked at; so no change between is missed.
        Changes by other processes count too. A worker's own commits count if they leave something
        for others: free instances or activities, messages, or outcomes. Returning early is allowed.
        """

    # Last, since its name hides the built-in type in what follows it.
    async def list(
        self, where: InstanceFilter, *, limit: int, after: str | None = None
    ) -> list[InstanceRecord]:
        """Return up to ``limit`` instances, newest first.

        Args:
            where: Which ones.
            limit: How many at most.
            after: The last id of the page before.

        Raises:
            InstanceNotFound: ``after`` has been removed meanwhile.
        """
        ...
