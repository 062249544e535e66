"""What others have sent to an execution: signals, updates, and the values of promises."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

import trio

from trioflow._engine.handlers import Updates
from trioflow._engine.mailbox import Mailbox
from trioflow._engine.promises import Promises
from trioflow._model.events import Message, SignalReceived

if TYPE_CHECKING:
    from trioflow._engine.execution import Execution

__all__ = ["Messages"]


class Messages:
    """The signals, updates and promises of one execution, each made when it is first used.

    Signals and updates share one order of arrival. The execution is an argument, and is not kept:
    each execution would be part of a reference cycle.
    """

    __slots__ = ("_arrived", "_mailbox", "_promises", "_updates")

    def __init__(self) -> None:
        self._mailbox: Mailbox | None = None
        self._updates: Updates | None = None
        self._promises: Promises | None = None
        self._arrived = 0

    @property
    def mailbox(self) -> Mailbox:
        """The signals."""
        if self._mailbox is None:
            self._mailbox = Mailbox()
        return self._mailbox

    def updates(self, execution: Execution) -> Updates:
        """Return the updates, and their handlers."""
        if self._updates is None:
            self._updates = Updates(execution)
        return self._updates

    @property
    def has_updates(self) -> bool:
        """Whether there were updates, or handlers of some."""
        return self._updates is not None

    @property
    def promises(self) -> Promises:
        """The promises."""
        if self._promises is None:
            self._promises = Promises()
        return self._promises

    def deliver(self, message: Message, execution: Execution) -> None:
        """Give a signal or an update to the code that waits for it, or keep it."""
        self._arrived += 1
        if isinstance(message, SignalReceived):
            self.mailbox.deliver(execution.loop, message, self._arrived)
        else:
            self.updates(execution).deliver(message, self._arrived)

    def unread(self) -> list[Message]:
        """The signals that were not received, and the updates that have not begun, as they came."""
        if not self._arrived:
            return []
        unread: list[tuple[int, Message]] = []
        if self._mailbox is not None:
            unread += self._mailbox.unread()
        if self._updates is not None:
            unread += self._updates.waiting()
        return [message for _, message in sorted(unread, key=itemgetter(0))]

    def signal_waiters(self) -> dict[trio.lowlevel.Task, str]:
        """The tasks that wait for a signal, with its name."""
        return {} if self._mailbox is None else self._mailbox.waiters()

    def promise_waiters(self) -> set[trio.lowlevel.Task]:
        """The tasks that wait for a promise."""
        return set() if self._promises is None else self._promises.waiters()
