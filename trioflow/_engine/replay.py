"""Comparison of a replayed turn with the stored one, and the report of a difference."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import assert_never

from trioflow._engine.loop.nested import NestedLoop
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
    command_order,
    command_target,
)
from trioflow._model.ids import MAIN_TASK, CommandId
from trioflow._model.info import SuspendReport
from trioflow._model.turns import Outcome

__all__ = ["OUR_PACKAGES", "Diverged", "check_turn", "line_of"]

OUR_PACKAGES = ("trioflow", "trio", "anyio", "outcome")
"""Whose frames are not the user's code."""


class Diverged(NeedsSuspension):
    """Raised when the code no longer gives the commands of its history."""


def _kind(command: Command) -> str:  # noqa: PLR0911 - one for each
    match command:
        case RunActivity():
            return "activity"
        case StartChild():
            return "sub-workflow"
        case SendSignal():
            return "signal"
        case RecordSideEffect():
            return "side effect"
        case CancelActivity():
            return "cancel of activity"
        case CancelChild():
            return "cancel of sub-workflow"
        case StartDetached():
            return "detached start"
        case CancelInstance():
            return "cancel of instance"
        case _:
            assert_never(command)


def _show(command: Command | None) -> str:
    if command is None:
        return ""
    name = command_target(command)
    return (
        f"{_kind(command)} {name!r} ({command.id})" if name else f"{_kind(command)} ({command.id})"
    )


def _same(a: Command, b: Command) -> bool:
    return a is b or (
        type(a) is type(b) and a.id == b.id and command_target(a) == command_target(b)
    )


def check_turn(  # noqa: PLR0917  # what was, then what is
    loop: NestedLoop,
    turn: int,
    recorded: Sequence[Command],
    recorded_outcome: Outcome | None,
    current: Sequence[Command],
    current_outcome: Outcome | None,
) -> None:
    """Compare a replayed turn with the stored one.

    Args:
        loop: Where to look for the source line of the task concerned.
        turn: The turn's number.
        recorded: The commands of the history, in their order.
        recorded_outcome: How the execution ended in that turn, or ``None``.
        current: What the code gave now, in their order.
        current_outcome: How it ends now, or ``None``.

    Raises:
        Diverged: At the first difference.
    """
    if len(recorded) == len(current) and all(map(_same, recorded, current)):
        if type(recorded_outcome) is type(current_outcome):
            return
        raise Diverged(_outcome_report(loop, turn, recorded_outcome, current_outcome))
    was, is_now = _first_difference(recorded, current)
    first = was or is_now
    assert first is not None
    task = str(CommandId.parse(first.id).task)
    raise Diverged(_command_report(loop, turn, task, was, is_now, recorded, current))


def _first_difference(
    recorded: Sequence[Command], current: Sequence[Command]
) -> tuple[Command | None, Command | None]:
    by_key_was = {command_order(c): c for c in recorded}
    by_key_now = {command_order(c): c for c in current}
    for key in sorted(by_key_was.keys() | by_key_now.keys()):
        was, is_now = by_key_was.get(key), by_key_now.get(key)
        if was is None or is_now is None or not _same(was, is_now):
            return was, is_now
    raise AssertionError("two turns that differ have a first difference")


def _command_report(  # noqa: PLR0917  # what was, then what is
    loop: NestedLoop,
    turn: int,
    task: str,
    was: Command | None,
    is_now: Command | None,
    recorded: Sequence[Command],
    current: Sequence[Command],
) -> SuspendReport:
    line = line_of(loop, task)
    if was is None:
        what = f"the code gives {_show(is_now)}, of which the history has nothing"
    elif is_now is None:
        what = f"the history has {_show(was)}, which the code no longer gives"
    else:
        what = f"the history has {_show(was)}, the code gives {_show(is_now)}"
    lines = [
        f"the workflow's code does not match its history: in turn {turn}, task {task}, {what}."
    ]
    if line:
        lines.append(f"The task is at {line}.")
    if near := _nearest(was, is_now, recorded, current):
        lines.append(f"The nearest match is {near}.")
    lines.append(
        "The code has changed since, or it is not deterministic (random numbers, clocks, the order "
        "of sets). Nothing was changed. Bring the code back to what this history needs, then "
        "resume the instance; let new code begin with new instances, or under another workflow "
        "name."
    )
    return SuspendReport(
        kind="diverged",
        message=" ".join(lines),
        turn=turn,
        task=task,
        recorded=_show(was),
        current=_show(is_now),
        line=line,
    )


def _nearest(
    was: Command | None,
    is_now: Command | None,
    recorded: Sequence[Command],
    current: Sequence[Command],
) -> str:
    """Find the command of the other side that is most similar to the one that differs."""
    wanted, others = (was, current) if was is not None else (is_now, recorded)
    if wanted is None:
        return ""
    by_text = {_show(other): other for other in others if other is not wanted}
    found = difflib.get_close_matches(_show(wanted), by_text, n=1, cutoff=0.5)
    return found[0] if found else ""


def _outcome_report(
    loop: NestedLoop, turn: int, was: Outcome | None, is_now: Outcome | None
) -> SuspendReport:
    ended = "" if was is None else type(was).__name__.lower()
    ends = "" if is_now is None else type(is_now).__name__.lower()
    line = line_of(loop, MAIN_TASK)
    if is_now is None:
        what = f"the history ends there ({ended}), but the code goes on" + (
            f" at {line}" if line else ""
        )
    elif was is None:
        what = f"the code ends there ({ends}), but the history goes on"
        failure = getattr(is_now, "failure", None)
        if failure is not None:
            what += f"; it raised {failure.type}: {failure.message}"
    else:
        what = f"the history ends there as {ended}, the code as {ends}"
    return SuspendReport(
        kind="diverged",
        message=(
            f"the workflow's code does not match its history: in turn {turn}, {what}. Nothing was "
            "changed. Bring the code back to what this history needs, then resume the instance."
        ),
        turn=turn,
        task=MAIN_TASK,
        recorded=ended,
        current=ends,
        line=line,
    )


def line_of(loop: NestedLoop, path: str) -> str:
    """Return ``file:line`` at which a task's user code waits, ``""`` if the task is gone."""
    for task, state in loop.tasks():
        if state.path == path:
            found = ""
            for frame, line in task.iter_await_frames():
                module = frame.f_globals.get("__name__", "")
                if module.split(".")[0] not in OUR_PACKAGES:
                    found = f"{frame.f_code.co_filename}:{line}"
            return found
    return ""
