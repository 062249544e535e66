"""Wait for the results of instances.

Three things end a wait: a worker of this process tells of an instance that it held (`tell`), a look
into the store after a change of it (`watch`), or the client is closed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from typing import NamedTuple

import anyio

from trioflow._client.executions import row_of_life
from trioflow._client.waiters import Waiters
from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Backend
from trioflow.backends.records import InstanceRecord
from trioflow.errors import (
    BackendError,
    BackendUnavailable,
    InstanceNotFound,
)

__all__ = ["TAKEN_SINCE", "Moment", "ResultWaiter"]

logger = logging.getLogger("trioflow.client")

TAKEN_SINCE = "another instance has taken its id since"


class _Waiter:
    """One call that waits for an instance's end.

    Attributes:
        number: Of this wait, from 1: later ones have greater numbers.
        life: Which life of the id is meant; ``None`` until it is known.
        told: How it ended: its status and its stored outcome. ``None`` after `woken`: look at the
            store.
        doubtful: Look at the store even if a worker of this process holds the instance.
        trusts: At the last look such a worker held it, so that the store was not asked. If it lets
            go of it, nobody tells that it has ended: the store is asked after the next change.
    """

    __slots__ = ("doubtful", "life", "number", "told", "trusts", "woken")

    def __init__(self, life: str | None) -> None:
        self.number = 0
        self.life = life
        self.doubtful = self.trusts = False
        self.told: tuple[str, bytes] | None = None
        self.woken = anyio.Event()

    def tell(self, status: str, outcome: bytes) -> None:
        self.told = status, outcome
        self.woken.set()

    def look(self) -> None:
        self.doubtful = True
        self.woken.set()


class Moment(NamedTuple):
    """A moment in the life of a client.

    Attributes:
        waits: How many waits for results had begun.
        changes: The number of changes of the store that were seen.
    """

    waits: int
    changes: int


class ResultWaiter:
    """Waits for instances to end, and wakes the calls that wait.

    Args:
        backend: The store.
        life_here: Gives the life of an instance that a worker in this process holds; that worker
            tells of its end by itself. ``None`` if it holds none of that id.
    """

    def __init__(self, backend: Backend, life_here: Callable[[str], str | None]) -> None:
        self._backend = backend
        self._life_here = life_here
        self._changed = selection_of(backend)
        self._waits = 0  # that have begun
        self._waiters: Waiters[str, _Waiter] = Waiters(backend, self._any_trusts)
        self._all_at = -math.inf  # when the last look was also at what is held here
        self._looked_for_workers = False

    @property
    def waiting(self) -> int:
        """How many instances are waited for."""
        return len(self._waiters.waiting)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._waiters.closed

    # --- waking -------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look for instances that have ended after each change of the store, until `close`."""
        self._all_at = anyio.current_time()
        await self._waiters.watch(self._look)

    def close(self) -> None:
        """Stop `watch`, and end all waits with `ClientClosed`."""
        self._waiters.close()

    def moment(self) -> Moment:
        """Return what `tell` and `let_go` ask for, before something is stored."""
        return Moment(self._waits, self._backend.changes())

    def tell(self, id: str, life: str, status: str, outcome: bytes, before: Moment) -> None:
        """Wake the calls that wait for an instance: a worker in this process has let go of it.

        Args:
            id: The instance.
            life: Which life of the id is meant.
            status: How it has ended, or ``"suspended"``.
            outcome: Its stored outcome, or report.
            before: When this was not stored yet. Whoever began to wait later may know of the end,
                and have reset the instance: it looks at the store.
        """
        for waiter in self._waiters.waiting.get(id, ()):
            if waiter.life is None or waiter.life == life:
                if waiter.number <= before.waits:
                    waiter.tell(status, outcome)
                else:
                    waiter.look()

    def let_go(self, id: str, before: Moment | None = None) -> None:
        """Look for an instance that a worker of this process no longer holds.

        It may have been ended from elsewhere meanwhile, and the change be seen when it was still
        held: then nothing else would tell of it for a while.

        Args:
            id: The instance.
            before: When it had surely not ended; ``None`` if it may have at any time.
        """
        waiters = self._waiters.waiting.get(id)
        if waiters and (before is None or self._changed("outcomes", before.changes)):
            self.look_again(id)

    def look_again(self, id: str) -> None:
        """Make the calls that wait for an instance look at the store, even if it is held here."""
        for waiter in self._waiters.waiting.get(id, ()):
            waiter.look()

    async def _look(self) -> None:
        everybody = anyio.current_time() - self._all_at >= self._waiters.patience
        try:
            await self._look_for_ends(everybody=everybody)
        except BackendUnavailable:
            raise
        except Exception:  # noqa: BLE001 - each of them meets it by itself, and raises it
            for id in self._waiters.waiting:
                self.look_again(id)
        if everybody:
            self._all_at = anyio.current_time()
            if self._waiters.waiting and not self._looked_for_workers:
                self._looked_for_workers = True
                with suppress(BackendError):
                    await self._warn_without_workers()

    async def _warn_without_workers(self) -> None:
        """Say once that nothing will happen to what is waited for: the worker was forgotten."""
        if any(worker.alive for worker in await self._backend.workers()):
            return
        for id in list(self._waiters.waiting)[:1]:
            logger.warning(
                "this waits for instance %r, and no worker runs on the store, so that nothing "
                "happens there. Start one, with run_worker(), open_worker() or `trioflow worker "
                "MODULE`; what was started goes on then",
                id,
            )

    def _any_trusts(self) -> bool:
        return any(waiter.trusts for waiter in chain.from_iterable(self._waiters.waiting.values()))

    async def _look_for_ends(self, *, everybody: bool) -> None:
        # Of what this process holds, `tell` tells.
        asked: dict[tuple[str, str], None] = {}
        for id, waiters in self._waiters.waiting.items():
            for waiter in waiters:
                waiter.trusts = not waiter.doubtful and self._life_here(id) == waiter.life
                if everybody or not waiter.trusts:
                    asked[id, waiter.life or ""] = None
        if not asked:
            return
        ids, lives = [id for id, _ in asked], [life for _, life in asked]
        for id in set(await self._backend.not_running(ids, lives=lives)):
            # Who begins to wait meanwhile looks after this does, perhaps at a later execution.
            waiting = tuple(self._waiters.waiting.get(id, ()))
            record = await self._backend.get(id)
            for waiter in waiting:
                if record is None or record.life != waiter.life:
                    waiter.look()
                elif record.status != "running":
                    waiter.tell(record.status, record.outcome)

    # --- waiting ------------------------------------------------------------------------

    async def wait(self, id: str, life: str | None, *, wait_suspended: bool) -> tuple[str, bytes]:
        """Return the status and the stored outcome (the stored report if suspended).

        Args:
            id: The instance.
            life: Which life of the id is meant, or ``None`` for the present one.
            wait_suspended: Whether a suspended one is waited for.

        Raises:
            InstanceNotFound: There is no such instance, or no longer.
            ClientClosed: The client was closed.
        """
        waiter = _Waiter(life)
        while True:
            told = await self._wait_once(id, waiter, wait_suspended)
            if told is not None and (told[0] != "suspended" or not wait_suspended):
                return told
            if told is not None:
                # It waits for a person: nothing is lost by looking now and then.
                await anyio.sleep(0.5)

    async def _wait_once(
        self,
        id: str,
        waiter: _Waiter,
        wait_suspended: bool,  # noqa: FBT001
    ) -> tuple[str, bytes] | None:
        self._waits += 1
        waiter.number = self._waits
        waiter.told = None
        if waiter.woken.is_set():
            waiter.woken = anyio.Event()

        async def look() -> bool:
            if self._is_here(id, waiter):
                return False
            record = await self._get(id, waiter)
            if record.status == "running" or (record.status == "suspended" and wait_suspended):
                return False
            waiter.told = record.status, record.outcome
            return True

        await self._waiters.wait(id, waiter, look)
        return waiter.told

    def _is_here(self, id: str, waiter: _Waiter) -> bool:
        """Return whether a worker of this process holds it, and will tell of its end."""
        doubtful, waiter.doubtful = waiter.doubtful, False
        here = None if doubtful else self._life_here(id)
        if here is None or waiter.life not in (None, here):
            return False
        waiter.life = here
        waiter.trusts = True
        return True

    async def _get(self, id: str, waiter: _Waiter) -> InstanceRecord:
        """Return the row of the instance that is waited for."""
        record = await self._backend.get(id)
        if record is None:
            raise InstanceNotFound(id)
        if waiter.life is None:
            waiter.life = record.life
        if waiter.life == record.life:
            return record
        kept = await row_of_life(self._backend, id, waiter.life)
        if kept is None:
            raise InstanceNotFound(id, f"it has ended, and {TAKEN_SINCE}")
        return kept
