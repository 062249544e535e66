"""The signals of one execution: buffered until somebody receives them, in the order of arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio
from outcome import Value

from trioflow._model.events import SignalReceived

if TYPE_CHECKING:
    from trioflow._engine.loop.nested import NestedLoop

__all__ = ["Mailbox"]


class Mailbox:
    """Unread signals and who waits for one. A signal goes to one receiver and is never lost."""

    __slots__ = ("_unread", "_waiting")

    def __init__(self) -> None:
        self._unread: dict[str, deque[tuple[int, SignalReceived]]] = {}
        self._waiting: dict[str, deque[trio.lowlevel.Task]] = {}

    def deliver(self, loop: NestedLoop, signal: SignalReceived, arrival: int) -> None:
        """Hand a signal to the longest waiting receiver, or keep it."""
        if waiting := self._waiting.get(signal.name):
            loop.reschedule(waiting.popleft(), Value(signal))
        else:
            self._unread.setdefault(signal.name, deque()).append((arrival, signal))

    def take(self, name: str) -> SignalReceived | None:
        """Return the oldest unread signal of that name, ``None`` if there is none."""
        unread = self._unread.get(name)
        return unread.popleft()[1] if unread else None

    async def wait(self, name: str) -> SignalReceived:
        """Wait for the next signal of that name; nothing is lost if the wait is cancelled."""
        task = trio.lowlevel.current_task()
        waiting = self._waiting.setdefault(name, deque())
        waiting.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            waiting.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        signal: SignalReceived = await trio.lowlevel.wait_task_rescheduled(abort)
        return signal

    def waiters(self) -> dict[trio.lowlevel.Task, str]:
        """The tasks that wait, each with the name of its signal."""
        return {task: name for name, waiting in self._waiting.items() for task in waiting}

    def unread(self) -> Iterator[SignalReceived]:
        """All unread signals in the order of their arrival."""
        everything = [item for unread in self._unread.values() for item in unread]
        return (signal for _, signal in sorted(everything, key=lambda item: item[0]))
