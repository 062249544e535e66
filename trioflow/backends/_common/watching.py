"""Wake the tasks that wait for new work or a new outcome in a store."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple, Protocol, cast, get_args

import anyio
import anyio.lowlevel

from trioflow.backends._common.backoff import Backoff
from trioflow.backends.abc import Backend, Concern, SelectiveBackend
from trioflow.backends.commits import CommitFailure, Unit

__all__ = [
    "EVERYTHING",
    "OF_ENDS",
    "OF_INSTANCES",
    "OF_NOTHING",
    "OF_QUESTIONS",
    "Watcher",
    "concerns_of",
    "selection_of",
]

EVERYTHING: frozenset[Concern] = frozenset(get_args(Concern))
OF_INSTANCES: frozenset[Concern] = frozenset({"instances"})
OF_ENDS: frozenset[Concern] = frozenset({"instances", "cancels", "outcomes"})
OF_ACTIVITIES: frozenset[Concern] = frozenset({"activities"})
OF_ANSWERS: frozenset[Concern] = frozenset({"outcomes"})
OF_QUESTIONS: frozenset[Concern] = frozenset({"questions"})
OF_NOTHING: frozenset[Concern] = frozenset()  # but for clients that wait for any change

_SHORTEST = 0.002  # seconds


class Watcher:
    """A number that grows with every change, and the tasks that wait for it to grow.

    Changes made here are told by `notify`. Where others may change the store too, one of the
    waiting tasks looks for their changes: often while there is activity, seldom when there is none.

    Args:
        look: Returns whether somebody else has changed the store since it was called last;
            ``None`` if nobody else can.
        seldom: The longest time between two looks, seconds.
    """

    def __init__(
        self, look: Callable[[], Awaitable[bool]] | None = None, *, seldom: float = 0.1
    ) -> None:
        self.number = 0
        self._look = look
        self._looking = False
        self._delays = Backoff(_SHORTEST, seldom)
        self._event: anyio.Event | None = None
        # Of each kind: the latest change, whom it is no news to, and the latest that is.
        self._latest: dict[Concern, tuple[int, str, int]] = dict.fromkeys(EVERYTHING, (0, "", 0))

    def notify(self, about: Collection[Concern] = EVERYTHING, by: str = "") -> None:
        """Count a change and wake everybody.

        Args:
            about: What it may have brought.
            by: The worker to which it is no news.
        """
        self.number += 1
        for what in about:
            latest, knows, news = self._latest[what]
            self._latest[what] = self.number, by, news if by and by == knows else latest
        self._delays.reset()
        self._wake()

    def notify_commit(
        self, worker: str, left: Concerns | None, results: Sequence[CommitFailure | None]
    ) -> None:
        """Count what a commit has changed, if it is anything to others.

        Args:
            worker: Whose it was.
            left: What its units leave.
            results: Which of them were refused. That is news to the worker, which looks anew.
        """
        if left is not None:
            refused = any(results)
            known = left.known and not refused
            self.notify(EVERYTHING if refused else left.about, worker if known else "")

    def changed(self, what: Concern, since: int, worker: str = "") -> bool:
        """Return whether a change since that number may have brought something new of a kind."""
        latest, knows, news = self._latest[what]
        return (news if worker and worker == knows else latest) > since

    async def wait(self, seen: int, timeout: float) -> None:
        """Return when the number is not ``seen``, or after ``timeout`` seconds."""
        if self.number != seen:
            await anyio.lowlevel.checkpoint()
            return
        if timeout == math.inf:
            await self._until_changed(seen)
            return
        with anyio.move_on_after(timeout):
            await self._until_changed(seen)

    async def _until_changed(self, seen: int) -> None:
        while self.number == seen:
            if self._look is None or self._looking:
                await self._changed().wait()
            else:
                await self._keep_looking(self._look, seen)

    async def _keep_looking(self, look: Callable[[], Awaitable[bool]], seen: int) -> None:
        self._looking = True
        try:
            while self.number == seen:
                with anyio.move_on_after(self._delays.delay):
                    await self._changed().wait()
                if self.number != seen:
                    break
                if await look():
                    self.notify()
                else:
                    next(self._delays)
        finally:
            self._looking = False
            self._wake()  # one of those who wait on has to look from now on

    def _changed(self) -> anyio.Event:
        if self._event is None:
            self._event = anyio.Event()
        return self._event

    def _wake(self) -> None:
        event, self._event = self._event, None
        if event is not None:
            event.set()


class Selection(Protocol):
    """See `SelectiveBackend.changed`."""

    def __call__(self, what: Concern, since: int, worker: str = "", /) -> bool: ...


def selection_of(backend: Backend) -> Selection:
    """Return how to ask a store whether something of a kind may have changed since a number."""
    # Of the class: what stands before a store and passes all calls on need not pass on this one.
    if hasattr(type(backend), "changed"):
        return cast("SelectiveBackend", backend).changed

    def any_change(_what: Concern, since: int, _worker: str = "") -> bool:
        return backend.changes() != since

    return any_change


class Concerns(NamedTuple):
    """What a commit leaves for others than the committing worker.

    Attributes:
        about: What it may bring.
        known: Whether all of it is known to that worker, which looks again when it is due.
    """

    about: Collection[Concern]
    known: bool


def concerns_of(units: Sequence[Unit]) -> Concerns | None:  # noqa: C901 - on the hot path
    """Return what units leave for others, ``None`` for nothing at all.

    Places that become free under limits are not among it: a worker that knows limits looks anyway.
    """
    about: frozenset[Concern] = OF_NOTHING
    known, told = True, False
    for unit in units:
        if unit.results:
            about |= OF_INSTANCES
            known = False
        if unit.retries:
            about |= OF_ACTIVITIES
            known = False
        for commit in unit.instances:
            if commit.messages or commit.cancelled or commit.closing or commit.suspended:
                about |= OF_ENDS
                known = False
            elif not commit.leased:
                about |= OF_INSTANCES
                if commit.due or commit.continued or commit.new:
                    known = False
            if commit.answers:
                about |= OF_ANSWERS
            for new in commit.activities:
                if not new.leased:
                    about |= OF_ACTIVITIES
                    known = False
                    break
            told = told or commit.read_along
    return Concerns(about, known) if about or told else None
