"""Do one thing with all instances that a filter means: in batches, and so that it can be resumed.

An instance is reached by its life, so nothing is done to another one that takes its id in between.
What starts later is newer than where the walk has begun, which goes towards the old.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, cast, overload

import anyio
import msgspec

from trioflow._client.arguments import Filters, activity_name, instance_filter
from trioflow._client.handle import Handle, signal_event
from trioflow._client.listing import list_records
from trioflow._client.native_cancel import raises_native_cancels
from trioflow._codec.limits import check_reason, check_request
from trioflow._codec.values import Codec
from trioflow._model.activities import Activity
from trioflow._model.options import check_count
from trioflow._model.signals import Signal
from trioflow.backends.abc import Backend
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ENDED, InstanceRecord, Status
from trioflow.errors import ArgumentError, CorruptStore, InstanceFinished, InstanceNotFound

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["BulkCalls", "BulkReport"]

P = ParamSpec("P")
T = TypeVar("T")

BATCH = 100
"""How many instances are read, and then reached at once."""

_OPEN: tuple[Status, ...] = ("running", "suspended")

# What acts on one: whether there was something to do, or why it cannot be done.
_Act = Callable[[InstanceRecord], Awaitable[bool | str]]


def _of_many(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Say to whoever gives an id what the call is for, and what they may have meant."""
    name = method.__name__

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        if len(args) > 1:
            raise ArgumentError(
                f"{name}() of a client is for all instances that a filter means, and takes names "
                f"only: {name}(id_prefix=…, status=…). For one instance: "
                f"client.handle({args[1]!r}).{name}()"
            )
        return method(*args, **kwargs)

    return call


class BulkReport(msgspec.Struct, frozen=True):
    """What a call for many instances has done.

    Attributes:
        done: How many instances it was done to.
        passed: How many of those that were met needed nothing: they had ended, or were removed,
            between the look and the act, say.
        after: Where to go on, if ``limit`` left some out: give it to the same call. ``None`` if
            all were reached.
        refused: Ids of those to which it cannot be done, and why, the newest first: of
            `BulkCalls.reset`, those that hold what they share with others, say. The rest was done
            all the same.
    """

    done: int
    passed: int
    after: str | None
    refused: dict[str, str] = {}


class BulkCalls(abc.ABC):
    """The methods of a client that reach many instances.

    All of them take the filters of `Client.list`, of which at least one must be given. They go from
    the newest to the oldest, in batches of a hundred, each instance for itself. What starts after
    they have begun is left alone. At most ``limit`` instances are reached, by default all; the
    report's ``after`` is where another call goes on then. If the store fails in between, the error
    has a note that says how many were done and how to go on.

    They raise `ArgumentError` if there is no filter at all, `TypeError` and `ValueError` as
    `Client.list`, and `BackendUnavailable`.
    """

    codec: Codec

    @property
    @abc.abstractmethod
    def backend(self) -> Backend:
        """The store."""

    @raises_native_cancels
    @_of_many
    async def cancel(
        self,
        *,
        reason: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport:
        """Ask instances to end, as `Handle.cancel`; see `BulkCalls` for what all of these take.

        Args:
            reason: Why.
            limit: How many at most.
            after: Where to go on.
            **filters: Which ones, of those that have not ended.
        """
        check_reason(reason)
        where = _filter("cancel", filters, _OPEN)
        return await self._each(where, self._by_handle("cancel", reason), limit, after)

    @raises_native_cancels
    @_of_many
    async def terminate(
        self,
        *,
        reason: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport:
        """End instances and their sub-workflows at once, as `Handle.terminate`.

        Args:
            reason: Why.
            limit: How many at most.
            after: Where to go on.
            **filters: Which ones, of those that have not ended.
        """
        check_reason(reason)
        where = _filter("terminate", filters, _OPEN)
        return await self._each(where, self._by_handle("terminate", reason), limit, after)

    @raises_native_cancels
    @_of_many
    async def pause(
        self,
        *,
        reason: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport:
        """Suspend running instances until they are resumed, as `Handle.pause`.

        Args:
            reason: Why.
            limit: How many at most.
            after: Where to go on.
            **filters: Which ones, of those that are running.
        """
        check_reason(reason)
        where = _filter("pause", filters, ("running",))
        return await self._each(where, self._by_handle("pause", reason), limit, after)

    @raises_native_cancels
    @_of_many
    async def resume(
        self,
        *,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport:
        """Let suspended instances try again with the code as it is now, as `Handle.resume`.

        Args:
            limit: How many at most.
            after: Where to go on.
            **filters: Which ones, of those that are suspended.
        """
        where = _filter("resume", filters, ("suspended",))
        return await self._each(where, self._by_handle("resume"), limit, after)

    @raises_native_cancels
    @_of_many
    async def reset(
        self,
        *,
        reason: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport:
        """Let instances go on from where they went wrong, as `Handle.reset` without a turn.

        Args:
            reason: Why.
            limit: How many at most.
            after: Where to go on.
            **filters: Which ones, of those that have failed; with ``status=`` also of those that
                are suspended or were terminated.
        """
        check_reason(reason)
        where = _filter("reset", filters, ("failed", "suspended", "terminated"), ("failed",))

        async def reset(record: InstanceRecord) -> bool | str:
            handle: Handle[Any] = Handle(self._client, record.id, None, life=record.life)
            try:
                await handle.reset(reason=reason)
            except InstanceNotFound:
                return False
            except (ArgumentError, CorruptStore) as exc:
                now = await self.backend.get(record.id)
                if now is not None and now.life == record.life and now.status in where.status:
                    return str(exc)
                return False
            return True

        return await self._each(where, reset, limit, after)

    @raises_native_cancels
    @_of_many
    async def retry_now(
        self,
        *,
        activity: Activity[..., Any] | str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport:
        """Begin the next attempts of activities that have failed at once, as `Handle.retry_now`.

        Args:
            activity: Only those of this activity, or of this name.
            limit: How many instances at most.
            after: Where to go on.
            **filters: Of which instances, of those that have not ended.
        """
        name = activity_name(activity)
        where = _filter("retry_now", filters, _OPEN)

        async def retry(record: InstanceRecord) -> bool:
            update = await self.backend.retry_now(record.id, activity=name, life=record.life)
            return update == "done"

        return await self._each(where, retry, limit, after)

    @overload
    async def signal(
        self,
        signal: Signal[T],
        value: T,
        *,
        id: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport: ...

    @overload
    async def signal(
        self,
        signal: str,
        value: object,
        *,
        id: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport: ...

    @raises_native_cancels
    async def signal(
        self,
        signal: Signal[Any] | str,
        value: object,
        *,
        id: str | None = None,
        limit: int | None = None,
        after: str | None = None,
        **filters: Unpack[Filters],
    ) -> BulkReport:
        """Send a signal to instances, as `Handle.signal`.

        Args:
            signal: Which one, or its name.
            value: A value of its type.
            id: Names this sending: an instance that has got the signal under it does not get it
                again, so that the call can be repeated after an error. Without it, a repeated call
                sends the signal to all again.
            limit: How many at most.
            after: Where to go on.
            **filters: Which ones, of those that have not ended.

        Raises:
            ValueMismatch: The value is not of the signal's type. Nothing was sent.
        """
        event = signal_event(self.codec, signal, value)
        request = "" if id is None else check_request(id, "the id of a signal", prefix="signal ")
        where = _filter("signal", filters, _OPEN)

        async def send(record: InstanceRecord) -> bool:
            sent = await self.backend.send(record.id, event, life=record.life, request=request)
            return sent == "done"

        return await self._each(where, send, limit, after)

    # --- inside -------------------------------------------------------------------------

    @property
    def _client(self) -> Client:
        return cast("Client", self)

    def _by_handle(self, method: str, *arguments: Any) -> _Act:
        async def act(record: InstanceRecord) -> bool:
            handle: Handle[Any] = Handle(self._client, record.id, None, life=record.life)
            try:
                await getattr(handle, method)(*arguments)
            except (InstanceNotFound, InstanceFinished):
                return False
            return True

        return act

    async def _each(
        self, where: InstanceFilter, act: _Act, limit: int | None, after: str | None
    ) -> BulkReport:
        """Do something with all instances that a filter means."""
        rest = math.inf if limit is None else check_count("limit", limit, 0)
        walk = _Walk(self.backend, where, after)
        done = passed = 0
        refused: dict[str, str] = {}
        while rest > 0:
            size = int(min(rest, BATCH))
            begun = walk.cursor
            try:
                found = await walk.page(size)
                acted = await _together(act, found)
            except Exception as exc:
                exc.add_note(f"{done} instances were done before; after={begun!r} goes on there")
                raise
            done += acted.count(True)
            passed += acted.count(False)
            refused |= {
                record.id: why
                for record, why in zip(found, acted, strict=True)
                if isinstance(why, str)
            }
            rest -= len(found)
            if len(found) < size:
                return BulkReport(done, passed, None, refused)
        return BulkReport(done, passed, walk.cursor, refused)


class _Walk:
    """Goes through the instances that a filter means, newest first, whatever ends meanwhile.

    Its place is the last instance that it gave. If that is no more, or its id is another's, those
    follow that were not created after it.
    """

    def __init__(self, backend: Backend, where: InstanceFilter, cursor: str | None) -> None:
        self._backend = backend
        self._where = where
        self._last = None if cursor is None else _read_cursor(cursor)
        self._met: set[str] = set()  # ids of those that were created when the last one was

    @property
    def cursor(self) -> str | None:
        """The place, as text."""
        if self._last is None:
            return None
        created_at, life, id = self._last
        return f"{created_at!r} {life} {id}"

    async def page(self, size: int) -> Sequence[InstanceRecord]:
        """Return the next ones; fewer than ``size`` if there are no more."""
        found = await self._next(size)
        for record in found:
            if self._last is None or self._last[0] != record.created_at:
                self._met.clear()
            self._last = record.created_at, record.life, record.id
            self._met.add(record.id)
        return found

    async def _next(self, size: int) -> Sequence[InstanceRecord]:
        if self._last is None:
            return await list_records(self._backend, self._where, size, None)
        created_at, life, id = self._last
        there = await self._backend.get(id)
        if there is not None and there.life == life:
            try:
                return await list_records(self._backend, self._where, size, id)
            except InstanceNotFound:
                pass  # it was removed in between
        until = math.nextafter(created_at, math.inf)
        if self._where.created_before is not None:
            until = min(until, self._where.created_before)
        where = msgspec.structs.replace(self._where, created_before=until)
        found = await list_records(self._backend, where, size + len(self._met), None)
        return [record for record in found if record.id not in self._met][:size]


def _read_cursor(cursor: object) -> tuple[float, str, str]:
    try:
        created_at, life, id = cast("str", cursor).split(" ", 2)
        return float(created_at), life, id
    except (AttributeError, ValueError):
        raise ArgumentError(
            f"after: the `after` of a report is needed, not {cursor!r}; leave it out to begin anew"
        ) from None


def _filter(
    call: str,
    filters: Filters,
    allowed: tuple[Status, ...],
    meant: tuple[Status, ...] | None = None,
) -> InstanceFilter:
    """Return a filter's stored form, with the statuses that a call can do something with.

    Args:
        call: Its name.
        filters: What was given.
        allowed: The statuses with which it can do something.
        meant: Those of them that it means where no status is given; all by default.

    Raises:
        ArgumentError: There is no filter.
        TypeError, ValueError: One is wrong, or names a status that the call cannot mean.
    """
    where = instance_filter(**filters)
    if where == InstanceFilter():
        raise ArgumentError(
            f"{call}() without a filter would mean every instance of the store; give one, "
            f"status={allowed[0]!r} for all that are {allowed[0]}"
        )
    for status in where.status:
        if status not in allowed:
            ended = status in ENDED and not {*allowed} & {*ENDED}
            what = "have ended" if ended else f"are {status}"
            raise ValueError(f"status: {call}() does nothing to instances that {what}")
    return msgspec.structs.replace(where, status=where.status or meant or allowed)


async def _together(act: _Act, records: Sequence[InstanceRecord]) -> list[bool | str]:
    """Act on a batch at once, and raise an error only after all of it was tried."""
    acted: list[bool | str] = [False] * len(records)
    errors: list[Exception] = []

    async def one(place: int, record: InstanceRecord) -> None:
        try:
            acted[place] = await act(record)
        except Exception as exc:  # noqa: BLE001 - raised below
            errors.append(exc)

    async with anyio.create_task_group() as group:
        for place, record in enumerate(records):
            group.start_soon(partial(one, place, record))
    if errors:
        raise errors[0]
    return acted
