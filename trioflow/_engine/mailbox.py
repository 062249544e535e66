"""Signals: an execution's mailbox, and the calls that receive and send."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from collections.abc import Iterator
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, assert_never

import trio
from outcome import Value

from trioflow._codec.limits import check_characters
from trioflow._codec.values import encode_checked
from trioflow._model.commands import SendSignal
from trioflow._model.events import SignalAnswer, SignalFailed, SignalReceived, SignalSent
from trioflow._model.ids import check_command_id
from trioflow._model.rules import FORWARDED_ONCE

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller
    from trioflow._engine.loop.nested import NestedLoop

__all__ = ["Mailbox", "forward", "receive", "receive_any", "send"]

_ANY = ""
"""Stands for the name of any signal: names are not empty."""


class Mailbox:
    """Unread signals, and tasks that wait for one. A signal goes to one receiver.

    Those who receive any signal get what nobody has received, or waited for, by its name.
    """

    __slots__ = ("_named", "_unread", "_waiting")

    def __init__(self) -> None:
        self._unread: dict[str, deque[tuple[int, SignalReceived]]] = {}
        self._waiting: dict[str, deque[trio.lowlevel.Task]] = {}
        self._named: set[str] = set()

    def deliver(self, loop: NestedLoop, signal: SignalReceived, arrival: int) -> None:
        """Give a signal to the task that has waited longest, or keep it."""
        waiting = self._waiting.get(signal.name)
        if not waiting and signal.name not in self._named:
            waiting = self._waiting.get(_ANY)
        if waiting:
            loop.reschedule(waiting.popleft(), Value(signal))
            return
        unread = self._unread.setdefault(signal.name, deque())
        if unread and arrival < unread[-1][0]:  # it was taken out to be sent, and comes back
            unread.insert(bisect(unread, arrival, key=itemgetter(0)), (arrival, signal))
        else:
            unread.append((arrival, signal))

    def take(self, name: str) -> SignalReceived | None:
        """Return the oldest unread signal of that name, ``None`` if there is none."""
        self._named.add(name)
        unread = self._unread.get(name)
        return unread.popleft()[1] if unread else None

    def take_any(self) -> SignalReceived | None:
        """Return the oldest unread signal whose name nobody has named, ``None`` for none."""
        others = [
            (unread[0][0], name)
            for name, unread in self._unread.items()
            if unread and name not in self._named
        ]
        return self._unread[min(others)[1]].popleft()[1] if others else None

    def first(self) -> tuple[int, SignalReceived] | None:
        """Return the oldest unread signal of all, with its place, and keep it; or ``None``."""
        return min(self.unread(), key=itemgetter(0), default=None)

    def drop(self, signal: SignalReceived) -> None:
        """Remove an unread signal, unless somebody has received it meanwhile."""
        for unread in self._unread.values():
            for each in unread:
                if each[1] is signal:
                    unread.remove(each)
                    return

    async def wait(self, name: str) -> SignalReceived:
        """Wait for the next signal of that name; nothing is lost if the wait is cancelled.

        With `_ANY` it is the next one whose name nobody has named.
        """
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

    def unread(self) -> Iterator[tuple[int, SignalReceived]]:
        """All unread signals, each with its place in the order of arrival; in no order."""
        return chain.from_iterable(self._unread.values())


async def receive(caller: Caller, name: str, type_: object) -> Any:
    """Wait for the next signal of that name and return its value."""
    await caller.begin("signal", name)
    mailbox = caller.execution.messages.mailbox
    signal = mailbox.take(name)
    if signal is None:
        signal = await mailbox.wait(name)
    return caller.read(signal.value, type_, "signal {!r}", name, plain=signal.plain)


async def receive_any(caller: Caller) -> tuple[str, Any]:
    """Wait for the next signal that nobody receives by its name; return its name and its value."""
    await caller.begin("signal", "any")
    mailbox = caller.execution.messages.mailbox
    signal = mailbox.take_any()
    if signal is None:
        signal = await mailbox.wait(_ANY)
    return signal.name, caller.read(signal.value, Any, "signal {!r}", signal.name)


async def send(caller: Caller, instance: str, name: str, value: object, type_: object) -> None:
    """Put a signal into another instance's inbox, and wait until it is there."""
    execution = caller.execution
    state = await caller.begin("signal", name)
    command_id = state.next_id()
    command = execution.commands.find_recorded(command_id)
    if type(command) is not SendSignal or command.name != name:
        what = f"signal {name!r}"
        check_command_id(command_id, what)
        check_characters(instance, "an instance's id")
        data = encode_checked(execution.codec, value, type_, what)
        command = SendSignal(
            id=command_id, instance=instance, name=name, value=caller.count_new(data, what)
        )
    else:
        caller.count_recorded(command.value)
    await _put(caller, command)


async def forward(caller: Caller, to: str) -> int:
    """Send the unread signals to another instance, one after the other; return how many.

    One has left the mailbox before it is sent, or others would receive it too, and comes back if
    that fails.
    """
    check_characters(to, "an instance's id")
    execution, count = caller.execution, 0
    mailbox, once = execution.messages.mailbox, execution.rules >= FORWARDED_ONCE
    while True:
        state = await caller.begin("signal", "forward_unread()", attempt=count + 1)
        first = mailbox.first()
        if first is None:
            return count
        arrival, signal = first
        if once:
            mailbox.drop(signal)
        try:
            await _forward_one(caller, to, signal, state.next_id())
        except Exception:
            if once:
                mailbox.deliver(execution.loop, signal, arrival)
            raise
        if not once:
            mailbox.drop(signal)
        count += 1


async def _forward_one(caller: Caller, to: str, signal: SignalReceived, command_id: str) -> None:
    execution = caller.execution
    command = execution.commands.find_recorded(command_id)
    if type(command) is not SendSignal or command.name != signal.name:
        check_command_id(command_id, "forward_unread()")
        value = caller.count_new(bytes(signal.value), f"signal {signal.name!r}")
        command = SendSignal(id=command_id, instance=to, name=signal.name, value=value)
    else:
        caller.count_recorded(command.value)
    await _put(caller, command)


async def _put(caller: Caller, command: SendSignal) -> None:
    """Give the command that sends a signal, and wait until that is there."""
    execution = caller.execution
    with trio.CancelScope(shield=True):  # it is under way; the answer comes at once
        answer: SignalAnswer = await execution.commands.give_and_wait(command)
        match answer:
            case SignalSent():
                pass
            case SignalFailed():
                raise caller.rebuild(answer.failure)
            case _:
                assert_never(answer)
