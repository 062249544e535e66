"""Commands of an execution, from when they are given until their answer comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import outcome
import trio
from outcome import Value

from trioflow._codec.limits import storable_reason
from trioflow._codec.values import Codec, seal_text
from trioflow._engine.loop.nested import NestedLoop
from trioflow._model import events as ev
from trioflow._model.commands import (
    CancelActivity,
    CancelChild,
    ClaimShared,
    Command,
    ReleaseShared,
    StartChild,
    command_order,
)

__all__ = ["Commands", "Pending"]


class Pending:
    """A command under way, and the task that waits for its answer."""

    __slots__ = ("abandon", "command", "raise_cancel", "task", "turn")

    def __init__(
        self, command: Command, task: trio.lowlevel.Task, turn: int, *, abandon: bool
    ) -> None:
        self.command = command
        self.task = task
        self.turn = turn
        self.abandon = abandon
        self.raise_cancel: Callable[[], Any] | None = None


class Commands:
    """The commands of one execution.

    A task that gives a command waits for the event that answers it; until then the command is
    under way. If the wait is cancelled:

    - a command of the present turn is taken back, since nothing has been stored of it;
    - for one of an earlier turn a cancel is given, and the task goes on waiting for the answer, as
      `trio.to_thread.run_sync` does;
    - for one with ``on_cancel="abandon"`` a cancel is given, and the task does not wait; to a
      sub-workflow no cancel is given: it goes on.

    Attributes:
        given: The commands of this turn by id, without cancels.
        cancels: The cancels of this turn.
        under_way: The commands whose tasks wait, by id.
        recorded: On replay the stored turn's commands by id, otherwise ``None``.
        cancel_reason: Why the instance is being cancelled, as it is stored.
    """

    __slots__ = (
        "_codec",
        "_loop",
        "_turn",
        "cancel_reason",
        "cancels",
        "given",
        "recorded",
        "under_way",
    )

    def __init__(self, loop: NestedLoop, codec: Codec) -> None:
        self._loop = loop
        self._codec = codec
        self._turn = 0
        self.given: dict[str, Command] = {}
        self.cancels: list[Command] = []
        self.under_way: dict[str, Pending] = {}
        self.recorded: dict[str, Command] | None = None
        self.cancel_reason: str | None = None

    def find_recorded(self, command_id: str) -> Command | None:
        """Return the stored turn's command of that id, ``None`` when live or if it has none."""
        return None if self.recorded is None else self.recorded.get(command_id)

    def give(self, command: Command) -> None:
        """Add a command that nobody waits for to the turn."""
        self.given[command.id] = command

    async def give_and_wait(self, command: Command, *, abandon: bool = False) -> Any:
        """Add a command to the turn and wait for the event that answers it.

        Returns:
            One of `ActivityAnswer`, `ChildAnswer`, `SignalAnswer` or `RequestAnswer`, by the kind
            of the command.
        """
        pending = Pending(command, trio.lowlevel.current_task(), self._turn, abandon=abandon)
        self.given[command.id] = command
        self.under_way[command.id] = pending

        def abort(raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
            return self._abort(pending, raise_cancel)

        return await trio.lowlevel.wait_task_rescheduled(abort)

    def answer(
        self,
        command_id: str,
        event: ev.ActivityAnswer | ev.ChildAnswer | ev.SignalAnswer | ev.RequestAnswer,
    ) -> None:
        """Wake the task that waits for a command with the event that answers it."""
        # Nobody waits if the command was abandoned, or if the answer is a repeated one.
        pending = self.under_way.pop(command_id, None)
        if pending is None:
            return
        if pending.raise_cancel is not None and isinstance(
            event, ev.ActivityCancelled | ev.ChildCancelled
        ):
            self._loop.reschedule(pending.task, outcome.capture(pending.raise_cancel))
        else:
            self._loop.reschedule(pending.task, Value(event))

    def waiting_tasks(self) -> dict[trio.lowlevel.Task, Command]:
        """The tasks that wait for the answer to a command."""
        return {pending.task: pending.command for pending in self.under_way.values()}

    def end_turn(self) -> list[Command]:
        """End the turn; return its commands in their order."""
        self._turn += 1
        commands = [*self.given.values(), *self.cancels]
        if len(commands) > 1:
            commands.sort(key=command_order)
        self.given.clear()
        self.cancels.clear()
        return commands

    def _abort(self, pending: Pending, raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        command = pending.command
        if pending.turn == self._turn or self._loop.fenced:
            self.given.pop(command.id, None)
            del self.under_way[command.id]
            return trio.lowlevel.Abort.SUCCEEDED
        if not pending.abandon or not isinstance(command, StartChild):
            self.cancels.append(self._cancel_of(command, raise_cancel))
        if pending.abandon:
            del self.under_way[command.id]
            return trio.lowlevel.Abort.SUCCEEDED
        pending.raise_cancel = raise_cancel
        return trio.lowlevel.Abort.FAILED

    def _cancel_of(self, command: Command, raise_cancel: Callable[[], Any]) -> Command:
        """Return the command that cancels another one."""
        why = self._reason(raise_cancel)
        if isinstance(command, ClaimShared):
            return ReleaseShared(id=command.id, name=command.name)
        if isinstance(command, StartChild):
            return CancelChild(id=command.id, instance=command.instance, reason=why)
        return CancelActivity(id=command.id, reason=why)

    def _reason(self, raise_cancel: Callable[[], Any]) -> str | None:
        """Return what the scope's ``cancel(reason)`` was given; ``None`` if that was not called."""
        try:
            raise_cancel()
        except trio.Cancelled as cancelled:
            if cancelled.source != "explicit":
                return None  # a deadline, or an error beside it, which says itself what it is
            if cancelled.source_task is None:
                return self.cancel_reason  # the whole instance is cancelled
            return seal_text(self._codec, storable_reason(cancelled.reason))
        return None
