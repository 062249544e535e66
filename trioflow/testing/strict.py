"""An execution that replays strictly: what a command carries has to be the same as well."""

from __future__ import annotations

from typing import assert_never

import msgspec

from trioflow._engine.execution import Execution
from trioflow._engine.pending import Commands
from trioflow._engine.replay import line_of
from trioflow._engine.suspension import NeedsSuspension
from trioflow._model.commands import (
    CancelActivity,
    CancelChild,
    CancelInstance,
    Command,
    RecordSideEffect,
    RunActivity,
    SendSignal,
    StartChild,
    StartDetached,
    command_target,
)
from trioflow._model.ids import MAIN_TASK, CommandId
from trioflow._model.info import SuspendReport
from trioflow._model.turns import Completed, Continued, Outcome, Turn

__all__ = ["StrictExecution"]


class _StrictCommands(Commands):
    __slots__ = ()

    def find_recorded(self, command_id: str) -> Command | None:
        """Give back what cannot be made again; everything else is made and encoded anew."""
        command = super().find_recorded(command_id)
        return command if isinstance(command, RecordSideEffect) else None


class StrictExecution(Execution):
    """Compares arguments, values of signals, ids of sub-workflows and results too.

    A worker does not: there, such a difference does no harm to the history. In a test it shows that
    the code depends on something that is not in the history.
    """

    commands_class = _StrictCommands

    __slots__ = ()

    def _compare(
        self, number: int, recorded: Turn, commands: list[Command], end: Outcome | None
    ) -> None:
        super()._compare(number, recorded, commands, end)
        for was, is_now in zip(recorded.commands, commands, strict=True):
            if _carried(was) != _carried(is_now):
                task = str(CommandId.parse(was.id).task)
                what = f"{command_target(was) or type(was).__name__!r} ({was.id})"
                raise NeedsSuspension(
                    self._differs(number, task, what, _carried(was), _carried(is_now))
                )
        before, now = _result(recorded.outcome), _result(end)
        if before != now:
            raise NeedsSuspension(self._differs(number, MAIN_TASK, "the result", before, now))

    def _differs(self, turn: int, task: str, what: str, was: bytes, is_now: bytes) -> SuspendReport:
        line = line_of(self.loop, task)
        where = f", at {line}" if line else ""
        return SuspendReport(
            kind="diverged",
            message=(
                f"in turn {turn}, task {task}{where}, {what} carries other data on replay: the "
                f"history has {_short(was)}, the code gives {_short(is_now)}. The code depends on "
                "something that is not in the history: the order of a set, a global variable, a "
                "clock, random numbers."
            ),
            turn=turn,
            task=task,
            recorded=_short(was),
            current=_short(is_now),
            line=line,
        )


def _carried(command: Command) -> bytes:
    match command:
        case RunActivity():
            return bytes(command.input)
        case StartChild():
            return bytes(command.input) + command.instance.encode(errors="replace")
        case SendSignal():
            return bytes(command.value) + command.instance.encode(errors="replace")
        case StartDetached():
            return bytes(command.input) + command.instance.encode(errors="replace")
        case CancelInstance():
            return command.instance.encode(errors="replace")
        case RecordSideEffect() | CancelActivity() | CancelChild():
            return b""  # taken from the history, or nothing
        case _:
            assert_never(command)


def _result(outcome: Outcome | None) -> bytes:
    match outcome:
        case Completed():
            return bytes(outcome.result)
        case Continued():
            return bytes(outcome.input)
        case _:
            return b""


def _short(data: bytes) -> str:
    text = bytes(msgspec.Raw(data)).decode(errors="replace")
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004
