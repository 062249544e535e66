"""Comparison of a replayed turn with the stored one, and the report of a difference."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence

from trioflow._engine.loop.nested import NestedLoop
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
    command_order,
    command_target,
)
from trioflow._model.ids import MAIN_TASK, CommandId
from trioflow._model.info import SuspendReport
from trioflow._model.turns import Outcome

__all__ = ["OUR_PACKAGES", "Diverged", "check_turn", "line_of"]

OUR_PACKAGES = ("trioflow", "trio", "anyio", "outcome")
"""Whose frames are not the user's code."""


_NEW_END = "new-end"
_PATCH_LENGTH = 40  # characters of the name of a patch that a report proposes


class Diverged(NeedsSuspension):
    """Raised when the code no longer gives the commands of its history.

    Attributes:
        recorded: The commands of the turn in which they differ, as the history has them.
        current: Those that the code gave now.
    """

    def __init__(
        self,
        report: SuspendReport,
        recorded: Sequence[Command] = (),
        current: Sequence[Command] = (),
    ) -> None:
        super().__init__(report)
        self.recorded = recorded
        self.current = current


_KINDS: dict[type[Command], str] = {
    RunActivity: "activity",
    StartChild: "sub-workflow",
    SendSignal: "signal",
    RecordSideEffect: "side effect",
    EmitValue: "value for stream",
    NameTimer: "timer",
    RecordPatch: "patch",
    AnswerUpdate: "answer to update",
    CancelActivity: "cancel of activity",
    CancelChild: "cancel of sub-workflow",
    StartDetached: "detached start",
    CancelInstance: "cancel of instance",
    ClaimShared: "claim of shared",
    SetShared: "setting of shared",
    ReleaseShared: "release of shared",
    TerminateInstance: "terminate of instance",
}


def _show(command: Command | None) -> str:
    if command is None:
        return ""
    name = command_target(command)
    kind = _KINDS[type(command)]
    return f"{kind} {name!r} ({command.id})" if name else f"{kind} ({command.id})"


def _same(a: Command, b: Command) -> bool:
    return a is b or (
        type(a) is type(b) and a.id == b.id and command_target(a) == command_target(b)
    )


def check_turn(
    loop: NestedLoop,
    turn: int,
    was: tuple[Sequence[Command], Outcome | None],
    is_now: tuple[Sequence[Command], Outcome | None],
    source_changed: Callable[[], bool | None],
    *,
    early: bool = False,
    missing: Collection[str] = (),
) -> None:
    """Compare a replayed turn with the stored one.

    Args:
        loop: Where to look for the source line of the task concerned.
        turn: The turn's number.
        was: The commands of the history in their order, and how the execution ended in that turn.
        is_now: What the code gave now, and how it ends now.
        source_changed: Says whether the workflow's source has changed since the execution began,
            ``None`` where that is not known. Asked only if the turns differ.
        early: The code ended before it had seen all signals and updates of the turn.
        missing: The ids of the markers of patches that the code asked for and the history lacks.

    Raises:
        Diverged: At the first difference.
    """
    (recorded, recorded_outcome), (current, current_outcome) = was, is_now
    if early:
        why = _why(source_changed())
        report = _outcome_report(loop, turn, recorded_outcome, current_outcome, why, early=True)
        raise Diverged(report, recorded, current)
    if len(recorded) == len(current) and all(map(_same, recorded, current)):
        if type(recorded_outcome) is type(current_outcome):
            return
        why = _why(source_changed())
        report = _outcome_report(loop, turn, recorded_outcome, current_outcome, why)
        raise Diverged(report, recorded, current)
    why = _why(source_changed())
    report = _command_report(loop, turn, recorded, current, why, missing)
    raise Diverged(report, recorded, current)


def _why(changed: bool | None) -> str:  # noqa: FBT001  # three answers
    """Return what may be the cause of a difference."""
    if changed:
        return "The workflow's source has changed since the execution began."
    cause = "it is not deterministic (random numbers, clocks, the order of sets)"
    if changed is None:
        return f"The code has changed since, or {cause}."
    return (
        "The workflow's own source is as it was when the execution began: a function that it calls "
        f"has changed, or {cause}."
    )


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


def _command_report(  # noqa: PLR0917 - what is known of the turn
    loop: NestedLoop,
    turn: int,
    recorded: Sequence[Command],
    current: Sequence[Command],
    why: str,
    missing: Collection[str],
) -> SuspendReport:
    was, is_now = _first_difference(recorded, current)
    first = was or is_now
    assert first is not None
    task = str(CommandId.parse(first.id).task)
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
        where = "history" if was is None else "code"
        lines.append(f"The nearest one that the {where} has in this turn is {near}.")
    lines.append(f"{why} Nothing was changed.")
    refused = sorted(each for each in missing if each.startswith(f"{first.id}!"))
    if refused:
        patch, hint = "", _old_way(refused[-1].partition("!")[2], turn)
    else:
        patch, hint = _patch_to_add(was, is_now, line)
    lines.append(hint)
    return SuspendReport(
        kind="diverged",
        message=" ".join(lines),
        turn=turn,
        task=task,
        recorded=_show(was),
        current=_show(is_now),
        line=line,
        patch=patch,
    )


def _patch_to_add(was: Command | None, is_now: Command | None, line: str) -> tuple[str, str]:
    """Return the patch with which the history would fit the code, and what to do with it."""
    if isinstance(was, RecordPatch):
        patch = command_target(was)
        return patch, (
            f"If the old way of this patch is gone, call deprecate_patch({patch!r}) in the place "
            f"of patched({patch!r}) until no execution is left that has recorded it; otherwise "
            "bring the call back. Then resume the instance."
        )
    changed = is_now or was
    assert changed is not None
    name = command_target(changed) or _KINDS[type(changed)]
    text = name if is_now else f"no {name}"
    patch = re.sub(r"\W+", "-", text).strip("-").lower()[:_PATCH_LENGTH]
    where = f" at {line}" if line else ""
    return patch, (
        "Bring the code back to what this history needs, then resume the instance. If the change "
        f"is meant, keep the old way for executions that have passed it: put the new one{where} "
        f"into 'if patched({patch!r}):' and the old one into its 'else:'."
    )


def _old_way(patch: str, turn: int) -> str:
    """Return what to do where a patch is asked for, and the old way is not that of the history."""
    return (
        f"There patched({patch!r}) is false, since the history has no record of it, and the code "
        "goes the old way. If the execution went the new way before there was the patch, no patch "
        f"helps: reset the instance to before turn {turn}. If not, bring the old way back to what "
        "this history needs, then resume the instance."
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
    said = (_show(was), _show(is_now))  # the report names them already
    by_text = {text: other for other in others if (text := _show(other)) not in said}
    found = difflib.get_close_matches(_show(wanted), by_text, n=1, cutoff=0.5)
    return found[0] if found else ""


def _outcome_report(
    loop: NestedLoop,
    turn: int,
    was: Outcome | None,
    is_now: Outcome | None,
    why: str,
    *,
    early: bool = False,
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
        if early:
            what += " before it has seen all signals and updates of that turn"
    return SuspendReport(
        kind="diverged",
        message=(
            f"the workflow's code does not match its history: in turn {turn}, {what}. {why} "
            "Nothing was changed. Bring the code back to what this history needs, then resume the "
            "instance. If the change is meant, keep the old way for executions that have passed "
            "it: put the new "
            f"one into 'if patched({_NEW_END!r}):' and the old one into its 'else:'."
        ),
        turn=turn,
        task=MAIN_TASK,
        recorded=ended,
        current=ends,
        line=line,
        patch=_NEW_END,
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
