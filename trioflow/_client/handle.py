"""One instance, seen from outside."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

import msgspec

from trioflow._client.arguments import activity_name, check_statuses
from trioflow._client.description import Description, decode_outcome, decode_report, describe
from trioflow._client.events import cancel_event, check_effect
from trioflow._client.executions import describe_executions, row_of_life
from trioflow._client.history import ExecutionHistory, read_history, same_life
from trioflow._client.holders import with_holders
from trioflow._client.messages import message_name
from trioflow._client.native_cancel import raises_native_cancels
from trioflow._client.queries import ask, question_of
from trioflow._client.resets import reset_instance, resume_instance
from trioflow._client.streams import Emitted, Stream, read_stream
from trioflow._client.updates import NOTHING, UpdateHandle, update_event
from trioflow._client.waiting import TAKEN_SINCE
from trioflow._codec.failures.failures import Failure
from trioflow._codec.limits import check_characters, check_reason
from trioflow._codec.values import Codec, decode_as, encode_checked, open_text, seal_text
from trioflow._model.activities import Activity
from trioflow._model.events import SignalReceived, encode_event
from trioflow._model.info import SuspendReport, TaskInfo
from trioflow._model.queries import Query
from trioflow._model.signals import Signal
from trioflow._model.tasks import TASKS
from trioflow._model.turns import Cancelled, Completed, Failed
from trioflow._model.updates import Update
from trioflow._model.workflows import Workflow
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ENDED, Effect, InstanceRecord, RequestKey, Status
from trioflow.errors import (
    CorruptStore,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceSuspended,
    InstanceTerminated,
)

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["Handle", "encode_terminated", "signal_event"]

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")

_END_FIRST = "cancel or terminate it first"
_encode = msgspec.json.Encoder().encode


class Handle(Generic[R]):
    """An instance, by its id.

    One that ``client.start()`` gave is bound to the instance that was started: it never shows
    another one that takes the id after that has finished. One of ``client.handle(id)`` is bound to
    nothing: each of its calls means the instance that has the id then.

    After the client was closed, every call raises `ClientClosed`.

    Attributes:
        id: The id.
    """

    def __init__(
        self,
        client: Client,
        id: str,
        workflow: Workflow[..., R] | None,
        *,
        life: str | None = None,
    ) -> None:
        self.id = check_characters(id, "an instance's id")
        self._client = client
        self._workflow = workflow
        self._life = life

    @property
    def client(self) -> Client:
        """The client that it belongs to."""
        return self._client

    @property
    def life(self) -> str | None:
        """Which life of its id it is bound to; ``None`` for the present one, whichever that is."""
        return self._life

    def __repr__(self) -> str:
        return f"<Handle of instance {self.id!r}>"

    @raises_native_cancels
    async def result(self, *, wait_suspended: bool = True) -> R:
        """Wait until the instance has ended, through all its executions, and return its result.

        Args:
            wait_suspended: False raises as soon as the instance is suspended, instead of waiting
                until it is resumed.

        It is the result of the instance that had the id at the beginning (of a handle from
        ``start()``: that was started), whatever takes the id while this waits.

        Raises:
            InstanceNotFound: There is no such instance, or no longer: it was removed.
            InstanceCancelled: It was cancelled.
            InstanceTerminated: It was terminated.
            InstanceSuspended: It is suspended, and ``wait_suspended`` is false.
            ValueMismatch: The result does not have the declared type.
            CorruptStore: What is stored of its end cannot be read.
            ClientClosed: The client was closed, perhaps while this waited.
            Exception: What the workflow raised: its own class where that is imported here,
                otherwise `RemoteError`; the remote traceback is the cause.
        """
        status, outcome = await self._client.waiter.wait(
            self.id, self._life, wait_suspended=wait_suspended
        )
        if status == "suspended":
            report = self._read(decode_report, outcome)
            why = open_text(self._client.codec, report.reason)
            raise InstanceSuspended(self.id, f"{report.message}: {why}" if why else report.message)
        match self._read(decode_outcome, outcome):
            case Completed() as completed:
                result_type = (
                    Any if self._workflow is None else self._workflow.signature.result_type
                )
                what = f"result of instance {self.id!r}"
                return cast(
                    "R", decode_as(self._client.codec, bytes(completed.result), result_type, what)
                )
            case Cancelled() as cancelled:
                raise InstanceCancelled(self.id, open_text(self._client.codec, cancelled.reason))
            case Failed() as failed:
                error = failed.failure.rebuild(self._client.codec)
                if status != "terminated":
                    error.add_note(f"raised in instance {self.id!r}")
                raise error
            case other:
                raise AssertionError(f"instance {self.id!r} ended with {other!r}")

    @raises_native_cancels
    async def describe(self) -> Description:
        """Return what is known of the instance now.

        ``earlier`` has the executions of the id before the present one, also those of finished
        instances that had it. A handle from ``start()`` goes on to show the instance that was
        started, though another one has taken its id since, and only executions of that instance.

        Raises:
            InstanceNotFound: There is no such instance, or no longer.
        """
        record = await self._known()
        backend, codec = self._client.backend, self._client.codec
        activities = [] if record.status in ENDED else await backend.activities(self.id)
        kept = await backend.executions(self.id)
        earlier = [
            one
            for one in describe_executions(kept, codec)
            if one.number < record.execution and self._life in (None, one.life)
        ]
        described = describe(record, activities, codec)
        return msgspec.structs.replace(described, earlier=earlier) if earlier else described

    @raises_native_cancels
    async def history(self) -> list[ExecutionHistory]:
        """Return the turns of all executions that are stored, in order.

        When an id is used again, the turns of the instances that had it before stay, and are shown
        too; a handle from ``start()`` leaves them out.

        Raises:
            InstanceNotFound: There is no such instance, or no longer.
        """
        stored = await self._client.backend.history(self.id)
        if self._life is None and stored:
            return read_history(stored, self._client.codec)
        last = (await self._known()).execution
        own = [each for each in stored if each.number <= last]
        return same_life(read_history(own, self._client.codec))

    @overload
    async def signal(self, signal: Signal[T], value: T) -> None: ...

    @overload
    async def signal(self, signal: str, value: object) -> None: ...

    @raises_native_cancels
    async def signal(self, signal: Signal[Any] | str, value: object) -> None:
        """Put a signal into the instance's inbox. It is stored when this returns.

        Args:
            signal: Which one, or its name.
            value: A value of its type.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
            ValueMismatch: The value is not of the signal's type. Nothing was sent.
            ArgumentError: What is given as a signal is no name that a store takes.
        """
        event = signal_event(self._client.codec, signal, value)
        self._check(await self._client.backend.send(self.id, event, life=self._life))

    @overload
    def stream(
        self, name: str, type: builtins.type[T], *, after: str | None = None
    ) -> AsyncGenerator[Emitted[T], None]: ...

    @overload
    def stream(
        self, name: str, *, after: str | None = None
    ) -> AsyncGenerator[Emitted[Any], None]: ...

    def stream(
        self, name: str, type: Any = Any, *, after: str | None = None
    ) -> AsyncGenerator[Emitted[Any], None]:
        """Read what the workflow gives to ``emit()``, from the beginning and as it comes.

        It ends when the instance has ended, through all its executions. A worker elsewhere is
        noticed as fast as for `result`.

        Args:
            name: The stream's name.
            type: Of the values; without it they are plain JSON data.
            after: The ``place`` of the value that was read last, to go on behind it.

        Raises:
            InstanceNotFound: There is no such instance, or no longer.
            ArgumentError: The name, or the place, is none.
            ValueMismatch: A value is not of that type.
            ClientClosed: The client was closed.
        """
        stream = Stream(self.id, name, type, after, self._client.codec)
        return read_stream(self._client, self._known, stream)

    @overload
    async def query(self, query: Query[[A], T], value: A, *, timeout: float = 10.0) -> T: ...

    @overload
    async def query(self, query: Query[[], T], *, timeout: float = 10.0) -> T: ...

    @overload
    async def query(self, query: str, value: object = ..., *, timeout: float = 10.0) -> Any: ...

    @raises_native_cancels
    async def query(self, query: Any, value: object = NOTHING, *, timeout: float = 10.0) -> Any:
        """Ask the instance what it knows, and change nothing.

        A worker answers from what the last stored turn left: also if the instance waits, is
        suspended, or has finished. Of one that has not begun this waits for its first turn.

        Args:
            query: Which query, or its name.
            value: Its argument, if it has one.
            timeout: Seconds to wait for a worker that answers.

        Raises:
            InstanceNotFound: There is no such instance.
            NoWorkerAnswered: No worker has answered in time.
            QueryNotHandled: The workflow has no handler for it; the message names those it has.
            InstanceSuspended: The worker's code does not match the instance's history.
            DeterminismError: The handler waits for something, or changes something.
            ValueMismatch: The argument, or the answer, is not of the declared type.
            ArgumentError: The query has no argument and is given one, or none and needs it.
            Exception: What the handler raised, as for `result`.
        """
        question = question_of(self._client.codec, query, value)
        return await ask(self._client, await self._record(), query, question, timeout)

    async def tasks(self, *, timeout: float = 10.0) -> list[TaskInfo]:
        """Ask where each task of the instance waits, for what, and until when.

        A worker answers, as for `query`.

        Args:
            timeout: Seconds to wait for a worker that answers.

        Returns:
            The tasks, parents before those that they spawned; none once the workflow has ended.

        Raises:
            InstanceNotFound, NoWorkerAnswered, InstanceSuspended: As `query`.
        """
        found = await self.query(TASKS, timeout=timeout)
        return await with_holders(self._client.backend, found)

    @overload
    async def update(
        self, update: Update[[A], T], value: A, *, wait_suspended: bool = True
    ) -> T: ...

    @overload
    async def update(self, update: Update[[], T], *, wait_suspended: bool = True) -> T: ...

    @overload
    async def update(
        self, update: str, value: object = ..., *, wait_suspended: bool = True
    ) -> Any: ...

    async def update(
        self, update: Any, value: object = NOTHING, *, wait_suspended: bool = True
    ) -> Any:
        """Ask the instance for something, and return its answer.

        Whoever may lose the answer gives the request an id: ``add.options(id="req-1")``. Asked with
        it again, the instance gives the same answer and does nothing twice.

        Args:
            update: Which update, or its name.
            value: Its argument, if it has one.
            wait_suspended: False raises as soon as the instance is suspended.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended, or ends before it answers.
            ValueMismatch: The argument is not of the update's type. Nothing was sent.
            ArgumentError: The update has no argument and is given one, or none and needs it.
            Exception: What `UpdateHandle.result` raises: what the handler raised, above all.
        """
        begun = await self.start_update(update, *(() if value is NOTHING else (value,)))
        return await begun.result(wait_suspended=wait_suspended)

    @overload
    async def start_update(self, update: Update[[A], T], value: A) -> UpdateHandle[T]: ...

    @overload
    async def start_update(self, update: Update[[], T]) -> UpdateHandle[T]: ...

    @overload
    async def start_update(self, update: str, value: object = ...) -> UpdateHandle[Any]: ...

    @raises_native_cancels
    async def start_update(self, update: Any, value: object = NOTHING) -> UpdateHandle[Any]:
        """Ask the instance for something; the request is stored when this returns.

        Args and errors are those of `update`, but for those of the answer. With an id that was used
        before nothing is sent, and the handle is that of the request of then, whatever update and
        argument that had: an id names one request of an instance. Its answer is read by the type of
        this update, and is a `ValueMismatch` if it does not fit.
        """
        client = self._client
        event, id = update_event(client.codec, update, value, client.fresh_request())
        life = self._life
        if life is None:
            life = (await self._record()).life
        sent = await client.backend.send(self.id, event, life=life, request=id)
        if sent != "unchanged":
            self._check(sent)
        return UpdateHandle(client, RequestKey(self.id, life, id), update)

    @raises_native_cancels
    async def cancel(self, reason: str | None = None) -> None:
        """Ask the instance to end: its root scope is cancelled, and with it everything below.

        Returns when the request is stored; `result` waits for the end. What has not begun, and is
        held by no worker, ends at once, even if nobody serves its queue.

        Args:
            reason: Why, for those who look, and for ``InstanceCancelled.reason``.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
            ArgumentError: The reason is too long, or has characters that a store does not take.
        """
        event, outcome = cancel_event(self._client.codec, reason)
        self._check(await self._client.backend.cancel(self.id, event, outcome, life=self._life))

    @raises_native_cancels
    async def terminate(self, reason: str | None = None) -> None:
        """End the instance and its unfinished sub-workflows at once, without asking their code.

        Args:
            reason: Why, for those who look, and for ``InstanceTerminated.reason``.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
            ArgumentError: The reason is too long, or has characters that a store does not take.
        """
        error = InstanceTerminated(self.id, check_reason(reason))
        outcome = encode_terminated(error, self._client.codec)
        self._check(await self._client.backend.terminate(self.id, outcome, life=self._life))
        # A worker of this process that holds it hears of it later.
        self._client.waiter.look_again(self.id)

    @raises_native_cancels
    async def pause(self, reason: str | None = None) -> None:
        """Suspend the instance until `resume`; one that is suspended already stays as it is.

        Its code makes no turn any more. Activities that run go on, and what they give waits, as
        signals and a cancel do. Deadlines are not moved: what is over by then, is over when the
        instance is resumed. Its sub-workflows go on.

        Args:
            reason: Why, for those who look: ``describe().suspension.reason``.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
            ArgumentError: The reason is too long, or has characters that a store does not take.
        """
        why = seal_text(self._client.codec, check_reason(reason))
        message = "it was paused; handle.resume() lets it go on"
        report = _encode(SuspendReport(kind="paused", message=message, reason=why))
        self._check(await self._client.backend.suspend(self.id, report, life=self._life))
        # A worker of this process that holds it hears of it later.
        self._client.waiter.look_again(self.id)

    @raises_native_cancels
    async def wait(self, *, status: Status | Sequence[Status] = ENDED) -> Description:
        """Wait until the instance has one of these statuses, and return what is known of it then.

        A status that lasts only for a moment may be missed.

        Args:
            status: One or several; without it, the instance is waited for until it has ended,
                whatever way.

        Raises:
            InstanceNotFound: There is no such instance, or no longer.
            InstanceFinished: It has ended with another status.
            TypeError, ValueError: There is no such status.
            ClientClosed: The client was closed, perhaps while this waited.
        """
        wanted = check_statuses(status) or ENDED
        while True:
            seen = self._client.backend.changes()
            found = await self.describe()
            if found.status in wanted:
                return found
            if found.status in ENDED:
                why = f"it is {found.status}, and will not be {' or '.join(wanted)}"
                raise InstanceFinished(self.id, why)
            await self._client.wait_change(seen)

    async def watch(self) -> AsyncGenerator[Description, None]:
        """Give what is known of the instance now, and again whenever its status has changed.

        It ends after the instance has. A status that lasts only for a moment may be missed.

        Raises:
            InstanceNotFound: There is no such instance, or no longer.
            ClientClosed: The client was closed.
        """
        status = None
        while status not in ENDED:
            seen = self._client.backend.changes()
            found = await self.describe()
            if found.status != status:
                status = found.status
                yield found
            else:
                await self._client.wait_change(seen)

    @raises_native_cancels
    async def resume(self, *, without: Signal[Any] | str | None = None) -> bool:
        """Let a suspended instance try again with the code as it is now; others are left alone.

        If it raised the failure of an activity or a sub-workflow that is in its ``suspend_on``,
        that is tried again, in a new execution, as `reset` does it. (Not if it holds what it shares
        with others: that cannot be given to a new execution. Then its code gets the failure again.)

        Args:
            without: A signal, or its name: those of them that are in the inbox are left out, in a
                new execution. So one whose value its code cannot read, since somebody has sent
                it by its name, say, holds nothing up.

        Returns:
            Whether it was suspended.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
            ArgumentError: Signals are to be left out and there are none, the instance is not
                suspended, or it holds what it shares with others.
        """
        name = None if without is None else _signal_of(without)[0]
        effect = await resume_instance(self._client, self.id, self._life, name)
        self._check(effect)
        return effect == "done"

    @raises_native_cancels
    async def retry_now(self, activity: Activity[..., Any] | str | None = None) -> bool:
        """Begin the next attempts of activities that have failed at once, instead of waiting.

        Nothing else changes: it is the attempt that was waited for, and if it fails, the policy
        decides about another one.

        Args:
            activity: Only those of this activity, or of this name.

        Returns:
            Whether there was one that waited.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceFinished: It has ended.
            ArgumentError: What is given is no activity.
        """
        name = activity_name(activity)
        update = await self._client.backend.retry_now(self.id, activity=name, life=self._life)
        self._check(update)
        return update == "done"

    @raises_native_cancels
    async def reset(
        self,
        turn: int | None = None,
        *,
        execution: int | None = None,
        reason: str | None = None,
    ) -> None:
        """Let the instance go on from before a turn of its history, with the code as it is now.

        So a bug in a workflow is mended: deploy the code, and reset the instance. A new execution
        begins with the turns before that one. What they have done is not done again, and what came
        for them later counts: results, and messages, which are unread again. What the other turns
        have begun is cancelled, and its results are not taken. What they have done elsewhere is
        done, and the new execution may do it again, under other idempotency keys.

        Without a turn, an activity whose failure has failed the instance is tried again, with all
        its attempts and under its old idempotency key; what succeeded is not. A sub-workflow whose
        failure it was is reset before it, likewise, and goes on; this waits for its end.

        An instance that had ended lives again; its parent has been told of the end, and is not told
        of another, unless it has failed by that and is reset as well. The old execution is kept in
        `history`.

        Args:
            turn: The number, from 0, of the first turn to be dropped; see `history`. Without it,
                the turn in which the instance has failed (in which a nursery began to cancel what
                had to stop before), or for a suspended one, the turn that differs from its code;
                if there is none, and for a terminated one, no turn is dropped.
            execution: The number of the execution that the turn is of; an error if the instance
                has gone on to another one since.
            reason: Why, for those who look.

        Raises:
            InstanceNotFound: There is no such instance, or no longer.
            ArgumentError: It has no such turn, or that execution is not its last one; or it is
                running, completed or cancelled, and no turn is given; or a sub-workflow by which it
                has failed cannot be reset without a turn; or the reason is too long, or has
                characters that a store does not take.
            CorruptStore: Its history cannot be read.
            TrioflowError: So much happens to it that no moment was found to do it.
        """
        await reset_instance(self._client, self.id, self._life, turn, execution, reason)

    @raises_native_cancels
    async def remove(self) -> None:
        """Remove the instance and its history from the store.

        Raises:
            InstanceNotFound: There is no such instance.
            InstanceNotFinished: It has not ended.
        """
        backend = self._client.backend
        where = InstanceFilter()
        if self._life is not None:
            record = await self._record()
            if record.finished_at is None:
                raise InstanceNotFinished(self.id, _END_FIRST)
            # What takes the id from now on ends later.
            where = InstanceFilter(finished_before=record.finished_at + 0.001)
        if not await backend.remove(where, ids=[self.id], limit=1):
            await self._record()
            raise InstanceNotFinished(self.id, _END_FIRST)

    async def _record(self) -> InstanceRecord:
        """Return the instance's row."""
        record = await self._client.backend.get(self.id)
        if record is None:
            raise InstanceNotFound(self.id)
        if self._life is not None and record.life != self._life:
            raise InstanceNotFound(self.id, f"it has ended, and {TAKEN_SINCE}")
        return record

    async def _known(self) -> InstanceRecord:
        """Return the instance's row, also if another instance has taken its id since."""
        try:
            return await self._record()
        except InstanceNotFound:
            life = self._life
            kept = None if life is None else await row_of_life(self._client.backend, self.id, life)
            if kept is None:
                raise
            return kept

    def _read(self, decode: Callable[[bytes], T], data: bytes) -> T:
        try:
            return decode(data)
        except msgspec.MsgspecError as exc:
            raise CorruptStore(
                f"what is stored of the end of instance {self.id!r} cannot be read: {exc}"
            ) from exc

    def _check(self, effect: Effect) -> None:
        check_effect(self.id, effect)


def encode_terminated(error: InstanceTerminated, codec: Codec) -> bytes:
    """Return the outcome of an instance that ends so."""
    return _encode(Failed(Failure.of(error, codec)))


def signal_event(codec: Codec, signal: Signal[Any] | str, value: object) -> bytes:
    """Return the event of a signal in its stored form.

    Raises:
        ValueMismatch: The value is not of the signal's type.
        ArgumentError: What is given as a signal is no name that a store takes.
    """
    name, type_ = _signal_of(signal)
    data = encode_checked(codec, value, type_, f"signal {name!r}")
    return encode_event(SignalReceived(name, msgspec.Raw(data)))


def _signal_of(signal: Signal[Any] | str) -> tuple[str, Any]:
    """Return a signal's name, and the type of its values."""
    if isinstance(signal, Signal):
        return signal.name, signal.type
    return message_name(signal, "signal"), Any
