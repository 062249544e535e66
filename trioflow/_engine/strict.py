"""An execution that replays strictly: what a command carries has to be the same as well."""

from __future__ import annotations

from typing import Any, assert_never

import msgspec

from trioflow._codec.values import is_plain
from trioflow._engine.execution import Execution
from trioflow._engine.pending import Commands
from trioflow._engine.replay import line_of
from trioflow._engine.suspension import NeedsSuspension
from trioflow._model.commands import (
    AnswerUpdate,
    CancelActivity,
    CancelChild,
    CancelInstance,
    ClaimShared,
    Command,
    EmitValue,
    NameTimer,
    RecordPatch,
    RecordSideEffect,
    ReleaseShared,
    RunActivity,
    SendSignal,
    SetShared,
    StartChild,
    StartDetached,
    TerminateInstance,
    command_target,
)
from trioflow._model.ids import MAIN_TASK, CommandId, derived_id
from trioflow._model.info import SuspendReport
from trioflow._model.turns import Completed, Continued, Outcome, Turn

__all__ = ["StrictExecution"]


class _StrictCommands(Commands):
    __slots__ = ()

    def find_recorded(self, command_id: str) -> Command | None:
        """Give back what cannot be made again; everything else is made and encoded anew."""
        command = super().find_recorded(command_id)
        return command if isinstance(command, RecordSideEffect | RecordPatch) else None


class StrictExecution(Execution):
    """Compares arguments, queues, values of signals, ids of instances and results too.

    A worker does not: there, such a difference does no harm to the history. In a test it shows that
    the code depends on something that is not in the history.
    """

    commands_class = _StrictCommands

    __slots__ = ()

    def _compare(
        self,
        number: int,
        recorded: Turn,
        commands: list[Command],
        end: Outcome | None,
        *,
        early: bool,
    ) -> None:
        super()._compare(number, recorded, commands, end, early=early)
        for was, is_now in zip(recorded.commands, commands, strict=True):
            if was is is_now:
                continue
            task = str(CommandId.parse(was.id).task)
            what = f"{command_target(was) or type(was).__name__!r} ({was.id})"
            there, here = _goes_to(was), _goes_to(self._as_forked(was, is_now))
            if there != here:
                raise NeedsSuspension(
                    self._differs(number, task, f"{what} goes elsewhere", there, here)
                )
            self._same_data(number, task, what, _data(was), _data(is_now))
        before, now = _result(recorded.outcome), _result(end)
        self._same_data(number, MAIN_TASK, "the result", before, now)

    def _as_forked(self, was: Command, is_now: Command) -> Command:
        """Return what a command is now, for the sub-workflow that a fork has begun anew."""
        if not isinstance(was, StartChild | CancelChild) or type(is_now) is not type(was):
            return is_now
        origins = [] if self.begun.started is None else self.begun.started.origins
        forks = [self.identity.id, *(origin.instance for origin in origins)] if origins else []
        if was.instance not in {derived_id(fork, 1, was.id) for fork in forks}:
            return is_now
        return msgspec.structs.replace(is_now, instance=was.instance)

    def _same_data(  # where, then what was and what is
        self, turn: int, task: str, what: str, was: bytes, is_now: bytes
    ) -> None:
        if was == is_now:
            return
        if is_plain(self.codec):
            there, here = _short(was), _short(is_now)
        elif self._opened(was) == self._opened(is_now):
            return  # a codec may encode the same value otherwise each time
        else:
            there, here = "one value", "another one (the codec hides which)"
        raise NeedsSuspension(
            self._differs(turn, task, f"{what} carries other data on replay", there, here)
        )

    def _opened(self, data: bytes) -> object:
        try:
            return self.codec.decode(data, Any)
        except Exception:  # noqa: BLE001  # whatever a codec says of what it cannot read
            return data

    def _differs(  # where, then what was and what is
        self, turn: int, task: str, what: str, was: str, is_now: str
    ) -> SuspendReport:
        line = line_of(self.loop, task)
        where = f", at {line}" if line else ""
        return SuspendReport(
            kind="diverged",
            message=(
                f"in turn {turn}, task {task}{where}, {what}: the history has {was}, the code "
                f"gives {is_now}. The code depends on something that is not in the history: the "
                "order of a set, a global variable, a clock, random numbers."
            ),
            turn=turn,
            task=task,
            recorded=was,
            current=is_now,
            line=line,
        )


def _data(command: Command) -> bytes:
    match command:
        case RunActivity() | StartChild() | StartDetached():
            return bytes(command.input)
        case SendSignal() | EmitValue():
            return bytes(command.value)
        case AnswerUpdate():
            return bytes(command.result)
        case (
            RecordSideEffect()
            | RecordPatch()
            | NameTimer()
            | CancelActivity()
            | CancelChild()
            | CancelInstance()
            | ClaimShared()
            | SetShared()
            | ReleaseShared()
            | TerminateInstance()
        ):
            return b""  # taken from the history, or nothing
        case _:
            assert_never(command)


def _goes_to(command: Command) -> str:
    match command:
        case RunActivity():
            return f"queue {command.queue!r}"
        case StartChild() | StartDetached():
            return f"instance {command.instance!r} in queue {command.queue!r}"
        case SendSignal() | CancelInstance() | TerminateInstance():
            return f"instance {command.instance!r}"
        case _:
            return ""


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
