"""Move all that a store holds to another store, while nobody works on either.

The flow of a move, and what it leaves where it breaks off::

    source                            this                             destination
    ──────                            ────                             ───────────
    open, in use                 1. is the destination empty?          open, empty
    closed: says where to look ◀ 2. fence, with a random id
      no worker has a row             fence, with the same id ───────▶ closed: "not open yet"
      leases are free
    instances, oldest first ───▶ 3. page after page ─────────────────▶ added whole, or not at all
                                    (goes on after the newest there)
    locks, events, limits ─────▶ 4. when all instances are there ────▶ put in place
    number of instances ───────▶ 5. the same number? ────────────────▶
                                 6. lift the fence ──────────────────▶ open: workers may begin
    stays closed for good

What has to hold:

- From 2 on the source does not change, whoever tries: so a page that is read again is the same, and
  the move can be made again from its beginning after a crash at any point. The fences tell where it
  was.
- From 2 to 6 nothing begins at the destination. An instance there may signal another one, or end
  as the child of one, that has not come yet.
- So an instance is worked on at one of the two stores only. That changes in 6, which is one call of
  one store; nothing is left to be done after it.

A way back: before 6 the destination is cleared and the fence of the source is lifted. After 6 that
is done only if nothing has changed at the destination. To know that, it is closed again, and all
that it holds is compared with the source. The order is: clear the destination, open the source,
open the destination; after a crash the same call finds out how far it came.

Times are kept as they are, as seconds since the epoch; the clocks of the two stores should agree as
those of any two servers do.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeGuard, cast

import anyio
import msgspec

from trioflow._client.exporting import InstanceReader
from trioflow.backends._common.url_text import shown
from trioflow.backends.abc import Backend
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.moves import Fence, MovableBackend, MovedInstance, fence_text
from trioflow.backends.urls import open_backend
from trioflow.errors import (
    BackendError,
    BackendUnavailable,
    StoreFenced,
    TrioflowError,
)

__all__ = ["MoveProblem", "MoveReport", "StoreMove"]

logger = logging.getLogger("trioflow.client")

_ALL = InstanceFilter()
_UNFINISHED = InstanceFilter(status=("running", "suspended"))
_MOST_PROBLEMS = 100


class MoveProblem(msgspec.Struct, frozen=True):
    """Why a move cannot be made.

    Attributes:
        instance: Which instance the destination does not take, or ``None`` if it is about more.
        why: What is wrong, and what to do.
    """

    instance: str | None
    why: str


class MoveReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a move has done, or would do.

    Attributes:
        moved: How many instances this call has moved, without those of an earlier one.
        unfinished: How many instances are to be moved that are running or suspended.
        finished: How many that have ended.
        left: How many finished ones stay behind, with ``unfinished_only``.
        problems: Why it cannot be done, found by `StoreMove.check`; a hundred at most.
    """

    moved: int = 0
    unfinished: int = 0
    finished: int = 0
    left: int = 0
    problems: list[MoveProblem] = []


class StoreMove:
    """A move of all that one store holds to another: instances with everything that is theirs.

    Histories, inboxes, timers, activities, attributes, answers, earlier executions, schedules,
    locks and limits go with them. Ids, lives and keys of activities stay, and so does the order of
    the instances. What runs at the moment of the move is given up by its worker, which ends with
    `StoreFenced`, and an activity that had begun is called again at the destination.

    Args:
        source: A URL, or a backend.
        destination: Likewise; empty.
        unfinished_only: Whether finished instances are left behind.
    """

    def __init__(
        self, source: str | Backend, destination: str | Backend, *, unfinished_only: bool = False
    ) -> None:
        self._given = source, destination
        self._stores = _movable(source), _movable(destination)
        self._source, self._destination = self._stores
        self._source_name, self._destination_name = _name(source), _name(destination)
        self._unfinished_only = unfinished_only

    @property
    def source(self) -> str:
        """The name of the source in messages: its URL without a password, or its server."""
        return self._source_name

    @property
    def destination(self) -> str:
        """The name of the destination in messages."""
        return self._destination_name

    # --- what users call ----------------------------------------------------------------

    async def check(self) -> MoveReport:
        """Count what would be moved, and find out whether the destination takes all of it.

        All of it is read, and the destination tries to write it, but nothing is stored. Both stores
        may be in use meanwhile; what comes later is not checked.

        Raises:
            BackendUnavailable: A store cannot be reached.
            SchemaError: Its schema is newer than this code, or not ours.
            CorruptStore: Something in the source cannot be read.
        """
        async with self._opened():
            source, destination = await self._fences()
            problems = [
                MoveProblem(None, why) for why in await self._obstacles(source, destination)
            ]
            report = await self._numbers()
            known = source is not None and _is_end_of(destination, source)
            if not problems and not known:  # what is closed, or done, takes nothing by way of trial
                reader = InstanceReader(self._source, self._unfinished_only, in_use=True)
                while len(problems) < _MOST_PROBLEMS and (page := await reader.page()):
                    refused = await self._destination.check_import(page)
                    found = [MoveProblem(one.instance, one.why) for one in refused]
                    problems += [one for one in found if one not in problems]
            return msgspec.structs.replace(report, problems=problems[:_MOST_PROBLEMS])

    async def run(self, *, told: Callable[[MoveReport], object] | None = None) -> MoveReport:
        """Make the move, or go on with one that broke off, from wherever it was.

        Args:
            told: Called after each page with how far it is.

        Returns:
            What was done; also if all of it had been done before.

        Raises:
            StoreFenced: One of the stores is in another move.
            BackendError: The destination is not empty, or does not take something. What was moved
                until then stays; a call with the same stores goes on, and `abort` gives it up.
                Or workers of an older trioflow run at a Redis store, which cannot be kept out.
            BackendUnavailable: A store cannot be reached. A call with the same stores goes on.
            CorruptStore: Something in the source cannot be read.
        """
        async with self._opened():
            source, destination = await self._fences()
            if source is not None and source.closed and _is_end_of(destination, source):
                self._unfinished_only = source.unfinished_only
                if destination.completed:
                    return await self._moved_before(source.move)
            closed = await self._close(source, destination)
            move = closed.move
            if closed.completed:  # by another call, while this one was slow
                return await self._moved_before(move)
            report = await self._numbers()
            newest = await self._destination.list(_ALL, limit=1)
            reader = InstanceReader(self._source, self._unfinished_only)
            reader.after = newest[0].id if newest else None
            while page := await reader.page():
                await self._import(move, page)
                report = msgspec.structs.replace(report, moved=report.moved + len(page))
                if told is not None:
                    told(report)
            await self._end(move, report)
            return report

    async def abort(self) -> None:
        """Give a move up: remove what it has put into the destination, and open the source again.

        Also after it was complete, as long as nothing has begun at the destination.

        Raises:
            BackendError: There is no such move, or something has begun at the destination. Then
                nothing is changed.
            BackendUnavailable: A store cannot be reached. A call with the same stores goes on.
        """
        async with self._opened():
            source, destination = await self._fences()
            if source is None or not source.closed or source.role != "source":
                await self._finish_abort(source, destination)
                return
            if _is_end_of(destination, source):
                if destination.completed:
                    await self._demand_unchanged(source, destination)
                # Else it was left to its users, or is to be.
                its_own = destination.completed or destination.closed
                if its_own and not await self._is_in_use(source, destination):
                    await self._clear(source.move)
            else:
                self._demand_named(source)  # or somebody works with what was moved elsewhere
                if await self._destination.count(_ALL):
                    raise BackendError(_in_use(self._destination_name))
                # A call that makes the move may be about to close it, and would fill it.
                await self._close_destination(source)
                await self._clear(source.move)
            await self._source.lift_fence(source.move, forget=True)
            await self._destination.lift_fence(source.move, forget=True)
            logger.info("the move to %s is given up", self._destination_name)

    # --- opening and closing ------------------------------------------------------------

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[None]:
        """Open both stores; close those again that were given by their URLs."""
        try:
            await self._source.open()
            await self._destination.open()
            yield
        finally:
            with anyio.CancelScope(shield=True):
                for backend, given in zip(self._stores, self._given, strict=True):
                    if isinstance(given, str):
                        await backend.aclose()

    async def _fences(self) -> tuple[Fence | None, Fence | None]:
        return await self._source.fenced(), await self._destination.fenced()

    async def _close(self, source: Fence | None, destination: Fence | None) -> Fence:
        """Fence both stores, or see that they are; return what the destination knows then.

        Args:
            source: What the source knows of a move.
            destination: What the destination does.
        """
        for why in await self._obstacles(source, destination):
            raise BackendError(why)
        resumed = source is not None and source.closed
        if source is None or not resumed:
            source = Fence(
                move=secrets.token_hex(16),
                role="source",
                other=self._destination_name,
                at=self._source.now(),
                unfinished_only=self._unfinished_only,
            )
        self._unfinished_only = source.unfinished_only
        await self._fence(self._source, self._source_name, source)
        # What broke off when it was opened: it was in use, and has nothing of this move.
        left = _is_end_of(destination, source) and not destination.closed
        try:
            closed = await self._close_destination(source, left=left)
        except BackendUnavailable:
            raise  # nobody knows whether it is closed
        except BackendError:
            if left or not resumed:
                await self._source.lift_fence(source.move, forget=True)
            raise
        logger.info("%s and %s are closed", self._source_name, self._destination_name)
        return closed

    async def _close_destination(self, source: Fence, *, left: bool = False) -> Fence:
        """Fence the destination, or see that it is, or that all is there; return what it knows.

        One that is closed by this call is opened again if it is in use, or if the move has been
        given up meanwhile.

        Args:
            source: What the source knows of the move.
            left: Whether it knows the move, and was open all the same.
        """
        wanted = msgspec.structs.replace(
            source, role="destination", other=self._source_name, at=self._destination.now()
        )
        await self._fence(self._destination, self._destination_name, wanted)
        closed = await self._destination.fenced()
        if closed is None or closed.move != source.move:
            raise StoreFenced(self._given_up())
        if closed.completed:
            return closed
        if left or closed.at == wanted.at:
            now = await self._source.fenced()
            if now is None or not now.closed or now.move != source.move:
                await self._destination.lift_fence(source.move, forget=True)
                raise StoreFenced(self._given_up())
            if await self._destination.count(_ALL):
                await self._destination.lift_fence(source.move, forget=True)
                raise BackendError(_in_use(self._destination_name))
        elif await self._is_in_use(source, closed):
            await self._destination.lift_fence(source.move, forget=True)
            await self._source.lift_fence(source.move, forget=True)
            raise BackendError(_in_use(self._destination_name))
        return closed

    async def _is_in_use(self, source: Fence, destination: Fence) -> bool:
        """Whether a closed destination holds what is not of this move.

        A call may have broken off between closing it and finding that somebody has begun to use it
        in that moment. Nothing was moved then; and what is moved begins with the oldest instance.
        """
        if destination.completed or destination.clearing:
            return False
        there = await self._destination.export(limit=1)
        first = await self._source.export(limit=1, unfinished_only=source.unfinished_only)
        named = [[(one.id, one.record.life) for one in page] for page in (there, first)]
        return bool(there) and named[0] != named[1]

    async def _moved_before(self, move: str) -> MoveReport:
        await self._open_destination(move)  # an `abort` may have closed it
        logger.info("all has been moved to %s before", self._destination_name)
        return await self._numbers()

    async def _open_destination(self, move: str) -> None:
        if not await self._destination.lift_fence(move):
            raise StoreFenced(self._given_up())

    def _given_up(self) -> str:
        return (
            f"{self._destination_name} is not the destination of this move any more; somebody has "
            "given it up"
        )

    async def _fence(self, backend: MovableBackend, name: str, fence: Fence) -> None:
        other = await backend.fence(fence)
        if other is None or _is_complete(other, fence):
            return
        if other.move == fence.move:
            raise BackendError(_same(name))
        raise StoreFenced(f"{name} is in another move: {fence_text(other)}")

    # --- what has to be so --------------------------------------------------------------

    async def _obstacles(  # noqa: PLR0911 - one after the other
        self, source: Fence | None, destination: Fence | None
    ) -> list[str]:
        """Return why the stores as they are cannot be source and destination, if they cannot."""
        resumed = source is not None and source.closed
        if source is not None and resumed:
            if source.role == "destination":
                return [f"{self._source_name}: {fence_text(source)}"]
            if destination is not None and destination.move == source.move:
                if destination.role == "source":
                    return [_same(self._source_name)]
                return [self._half_cleared(destination)] if destination.clearing else []
            self._demand_named(source)
        if destination is not None and destination.clearing and destination.closed:
            return [self._half_cleared(destination)]
        if destination is not None and destination.closed:
            return [f"{self._destination_name} is in another move: {fence_text(destination)}"]
        if await self._destination.count(_ALL):
            return [_in_use(self._destination_name)]
        if (await self._destination.limits()).limits:
            return [f"{self._destination_name} has limits; remove them: those of the source come"]
        return []

    def _half_cleared(self, destination: Fence) -> str:
        return (
            f"{self._destination_name}: a move from {destination.other} is being given up; if that "
            "broke off, give it up again (abort), then make it anew"
        )

    def _demand_named(self, source: Fence) -> None:
        """Demand that the destination is named as when the source was closed."""
        if source.other != self._destination_name:
            raise StoreFenced(
                f"{self._source_name} was closed for a move to {source.other}, and "
                f"{self._destination_name} does not know of it; name the destination as then"
            )

    async def _demand_unchanged(self, source: Fence, destination: Fence) -> None:
        """Close a destination that was open, and demand that it holds what the source does."""
        closed = msgspec.structs.replace(destination, closed=True)
        await self._fence(self._destination, self._destination_name, closed)
        difference = await self._difference(unfinished_only=source.unfinished_only)
        if difference:
            await self._destination.lift_fence(source.move)
            raise BackendError(
                f"{difference} at {self._destination_name}, so the move cannot be given up any "
                "more; move back with a new one, to an empty store"
            )

    async def _difference(self, *, unfinished_only: bool) -> str:
        before, after = (
            InstanceReader(self._source, unfinished_only),
            InstanceReader(self._destination),
        )
        while (one := await before.next()) is not None:
            if await after.next() != one:
                return f"instance {one.id!r}, or one beside it, has gone on"
        more = await after.next()
        if more is not None:
            return f"instance {more.id!r} has been started"
        same = await self._source.export_common() == await self._destination.export_common()
        return "" if same else "locks or limits have changed"

    # --- the rest -----------------------------------------------------------------------

    async def _import(self, move: str, page: list[MovedInstance]) -> None:
        try:
            await self._put(self._destination.import_instances(move, page))
        except (BackendUnavailable, StoreFenced):
            raise
        except TrioflowError:
            for one in page:
                try:
                    await self._put(self._destination.import_instances(move, [one]))
                except (BackendUnavailable, StoreFenced):
                    raise
                except TrioflowError as exc:
                    raise BackendError(
                        f"{self._destination_name} does not take instance {one.id!r}: {exc}"
                    ) from exc

    async def _end(self, move: str, report: MoveReport) -> None:
        await self._put(self._destination.import_common(move, await self._source.export_common()))
        there, wanted = await self._destination.count(_ALL), report.unfinished + report.finished
        if there != wanted:
            raise BackendError(
                f"{self._destination_name} has {there} instances, and should have {wanted}: "
                "somebody has changed one of the stores past trioflow. Give this move up with "
                "abort, and make it anew"
            )
        await self._open_destination(move)
        logger.info("%d instances are at %s, which is open", there, self._destination_name)

    async def _put(self, call: Awaitable[bool]) -> None:
        if not await call:
            raise StoreFenced(self._given_up())

    async def _clear(self, move: str) -> None:
        if not await self._destination.clear(move):
            raise StoreFenced(
                f"{self._destination_name} is not closed for this move any more: somebody has "
                "ended it, or given it up, meanwhile; try again"
            )

    async def _numbers(self) -> MoveReport:
        unfinished = await self._source.count(_UNFINISHED)
        finished = await self._source.count(_ALL) - unfinished
        if self._unfinished_only:
            return MoveReport(unfinished=unfinished, left=finished)
        return MoveReport(unfinished=unfinished, finished=finished)

    async def _finish_abort(self, source: Fence | None, destination: Fence | None) -> None:
        """Do what is left of an `abort` that broke off when the source was, or was to be, open.

        Args:
            source: What the source knows of a move. One that it is the source of, and not closed
                for, was to be forgotten; what keeps everybody out may still be there.
            destination: What the destination does; likewise, if it was never complete.
        """
        left = False
        if source is not None and source.role == "source":
            left = await self._source.lift_fence(source.move, forget=True)
        if (
            destination is not None
            and destination.role == "destination"
            and destination.other == self._source_name  # or another store is being moved there
            and not destination.completed
            # One that is closed, and holds something, is another one's.
            and not (destination.closed and await self._destination.count(_ALL))
        ):
            left = await self._destination.lift_fence(destination.move, forget=True)
        if not left:
            raise BackendError(
                f"{self._source_name} is not being moved; there is nothing to give up"
            )


def _is_end_of(destination: Fence | None, source: Fence) -> TypeGuard[Fence]:
    """Return whether a store knows itself as the destination of a source's move."""
    return (
        destination is not None
        and destination.role == "destination"
        and destination.move == source.move
    )


def _is_complete(known: Fence, wanted: Fence) -> bool:
    """Return whether a store was not closed for a move since that is complete."""
    return known.completed and _is_end_of(known, wanted) and wanted.role == "destination"


def _in_use(name: str) -> str:
    return (
        f"{name} holds instances already; move to an empty store, such as another file, database "
        "or prefix"
    )


def _same(name: str) -> str:
    return f"{name} is the source and the destination; name two stores"


def _movable(given: str | Backend) -> MovableBackend:
    backend: Any = open_backend(given)
    if not callable(getattr(backend, "import_instances", None)):
        raise BackendError(f"a {backend.name} store cannot take part in a move")
    return cast("MovableBackend", backend)


def _name(given: str | Backend) -> str:
    """Return what people call a store; without a password."""
    if isinstance(given, str):
        return shown(given).strip("'\"")
    place = getattr(given, "place", None) or getattr(given, "address", None)
    return str(getattr(place, "shown", place) or f"the {given.name} store")
