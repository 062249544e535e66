"""The tree of an execution's tasks: where each one waits, for what, and until when."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from math import inf
from typing import Any

import trio

from trioflow._engine.execution import Execution
from trioflow._engine.loop.runner import TaskState, effective_deadline
from trioflow._engine.replay import OUR_PACKAGES
from trioflow._model.commands import (
    CancelInstance,
    ClaimShared,
    Command,
    RunActivity,
    SendSignal,
    SetShared,
    StartChild,
    StartDetached,
    TerminateInstance,
)
from trioflow._model.info import TaskInfo
from trioflow._model.shared import shared_words

__all__ = ["tasks_of"]


def tasks_of(execution: Execution) -> list[TaskInfo]:
    """Describe the tasks of an execution between two turns, parents before their children."""
    commands = execution.commands.waiting_tasks()
    signals = execution.messages.signal_waiters()
    promises = execution.messages.promise_waiters()
    return [
        _describe(
            task,
            state,
            commands.get(task),
            "a promise" if task in promises else _signal(signals.get(task)),
        )
        for task, state in execution.loop.tasks()
    ]


def _describe(
    task: trio.lowlevel.Task, state: TaskState, command: Command | None, message: str
) -> TaskInfo:
    line, call = _place(task)
    deadline = effective_deadline(task)
    children = sum(len(n.child_tasks) for n in task.child_nurseries)
    if command is not None:
        waits_for = _command(command)
    elif message:
        waits_for = message
    elif hasattr(state, "timer"):
        waits_for = f"timer {state.timer!r}"
    elif call == "sleep":
        waits_for = "the time"
    elif children and call in ("", "NurseryManager.__aexit__", "TaskGroup.__aexit__"):
        waits_for = f"{children} task{'' if children == 1 else 's'} of its nursery"
    else:
        waits_for = call or "its turn"
    parent = None if state.parent is None else state.parent.path
    until = None if deadline == inf else deadline
    since = getattr(state, "waits_since", None)  # a task that has not run yet has none
    return TaskInfo(state.path, parent, task.name, waits_for, line, until, since)


def _signal(name: str | None) -> str:
    if name is None:
        return ""
    return f"signal {name!r}" if name else "any signal"


def _command(command: Command) -> str:
    match command:
        case RunActivity():
            return f"activity {command.activity!r} ({command.id})"
        case StartChild():
            return f"sub-workflow {command.workflow!r} ({command.instance})"
        case StartDetached():
            return f"start of {command.workflow!r} ({command.instance})"
        case CancelInstance() | TerminateInstance():
            what = "cancel" if isinstance(command, CancelInstance) else "terminate"
            return f"{what} of {command.instance!r}"
        case SendSignal():
            return f"delivery of signal {command.name!r} to {command.instance!r}"
        case ClaimShared() | SetShared():
            what = "" if isinstance(command, ClaimShared) else "the setting of "
            return f"{what}{shared_words(command.name)}"
        case _:
            raise AssertionError(f"no task waits for {command!r}")


def _place(task: trio.lowlevel.Task) -> tuple[str, str]:
    """Return the line of user code at which a task waits, and what it called there."""
    line = call = ""
    inside = False
    for frame, number in task.iter_await_frames():
        module: Any = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in OUR_PACKAGES:
            line, call, inside = f"{frame.f_code.co_filename}:{number}", "", False
        elif not inside:
            call, inside = frame.f_code.co_qualname, True
    return line, call
