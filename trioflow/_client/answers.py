"""Wait for the answers to requests that were made of instances.

A look asks first whether there are answers, then whether instances have ended. So an answer that
was stored with an end is found by asking again.
"""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from trioflow._client.waiters import Waiters
from trioflow.backends.abc import Backend
from trioflow.backends.records import ENDED, InstanceRecord, RequestKey
from trioflow.errors import ClientClosed

__all__ = ["AnswerWaiter", "Ended"]


class Ended:
    """An instance that ended, or cannot go on, and has not answered.

    Attributes:
        record: Its row, ``None`` if it is no longer there, or another one has the id.
    """

    __slots__ = ("record",)

    def __init__(self, record: InstanceRecord | None) -> None:
        self.record = record


class _Waiter:
    """One call that waits.

    Attributes:
        told: The answer, or why there is none; ``None`` after `woken` if the client was closed.
        wait_suspended: Whether it goes on waiting while the instance is suspended.
    """

    __slots__ = ("told", "wait_suspended", "woken")

    def __init__(self, *, wait_suspended: bool) -> None:
        self.told: bytes | Ended | None = None
        self.wait_suspended = wait_suspended
        self.woken = anyio.Event()


_Waiting = dict[RequestKey, tuple[_Waiter, ...]]


class AnswerWaiter:
    """Waits for answers, and wakes the calls that wait.

    Args:
        backend: The store.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiters: Waiters[RequestKey, _Waiter] = Waiters(backend)

    @property
    def waiting(self) -> int:
        """How many answers are waited for."""
        return len(self._waiters.waiting)

    async def watch(self) -> None:
        """Look for answers after each change of the store, until `close`."""

        async def look() -> None:
            await self._look(list(self._waiters.waiting))

        await self._waiters.watch(look)

    def close(self) -> None:
        """Stop `watch`, and end all waits with `ClientClosed`."""
        self._waiters.close()

    async def wait(self, key: RequestKey, *, wait_suspended: bool) -> bytes | Ended:
        """Return the answer to a request that was made, or that there will be none.

        Args:
            key: The request.
            wait_suspended: False also returns if the instance is suspended.

        Raises:
            ClientClosed: The client was closed.
        """
        waiter = _Waiter(wait_suspended=wait_suspended)

        async def look() -> bool:
            await self._look([key])
            return False

        await self._waiters.wait(key, waiter, look)
        if waiter.told is None:
            raise ClientClosed
        return waiter.told

    # --- inside -------------------------------------------------------------------------

    async def _look(self, keys: list[RequestKey]) -> None:
        """Tell those who wait for these answers, if there is something to tell.

        Who begins to wait meanwhile looks after this does: the instance may have been reset since.
        """
        waiting = {key: tuple(self._waiters.waiting.get(key, ())) for key in keys}
        left = await self._look_for_answers(waiting)
        if not left:
            return
        ids, lives = [key.instance for key in left], [key.life for key in left]
        stopped = set(await self._backend.not_running(ids, lives=lives))
        if not stopped:
            return
        records = {id: await self._backend.get(id) for id in stopped}
        # What was answered with the end was stored after the look for answers.
        left = {key: left[key] for key in left if key.instance in stopped}
        for key, waiters in (await self._look_for_answers(left)).items():
            record = records[key.instance]
            if record is None or record.life != key.life:
                _tell(waiters, Ended(None))
            elif record.status in ENDED:
                _tell(waiters, Ended(record))
            elif record.status == "suspended":
                _tell([each for each in waiters if not each.wait_suspended], Ended(record))

    async def _look_for_answers(self, waiting: _Waiting) -> _Waiting:
        """Tell those whose answers are there; return the others."""
        answers: Iterable[bytes | None] = await self._backend.answers(list(waiting))
        left: _Waiting = {}
        for (key, waiters), answer in zip(waiting.items(), answers, strict=True):
            if answer is None:
                left[key] = waiters
            else:
                _tell(waiters, answer)
        return left


def _tell(waiters: Iterable[_Waiter], told: bytes | Ended) -> None:
    for waiter in waiters:
        waiter.told = told
        waiter.woken.set()
