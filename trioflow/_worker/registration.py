"""A worker's registration: the id of its row in the store, and whether that row is still there."""

from __future__ import annotations

import anyio

__all__ = ["Registration"]


class Registration:
    """Which row of the store stands for this worker: what it holds is leased to that row's id.

    Whatever finds the row gone calls `lose`: the heartbeat, a commit, a look for work. One task
    waits for that with `wait_lost`, drops everything and registers anew.

    Args:
        name: The worker's, for people.

    Attributes:
        name: The same.
        id: The row's id; ``""`` before the first registration, another one after each loss.
        answer_lost: An answer of the store did not arrive: it may have leased something to this
            worker that the worker does not know of, and is to be asked for it again.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.id = ""
        self.answer_lost = False
        self._lost = anyio.Event()

    def lose(self) -> None:
        """Say that the row is gone: others took the worker for dead."""
        self._lost.set()

    def renewed(self) -> None:
        """Say that another row is stored, under `id`."""
        self._lost = anyio.Event()

    async def wait_lost(self) -> None:
        """Wait for `lose`."""
        await self._lost.wait()
