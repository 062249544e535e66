"""Stopping in a debugger inside of a workflow's code, at a chosen task."""

from __future__ import annotations

import pdb  # noqa: T100  # it is what this is for
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import trio

from trioflow._engine.execution import Execution
from trioflow._engine.guard.files import is_user_file

__all__ = ["Debugger", "Stop", "stopping"]

Debugger = Callable[[FrameType], object]
"""Begins a debugger that stops at the next line of a frame, as ``pdb.Pdb().set_trace``."""


class Stop:
    """What `stopping` gives.

    Attributes:
        reached: Whether the debugger was begun.
    """

    def __init__(self) -> None:
        self.reached = False


@contextmanager
def stopping(
    execution: Execution, task: str | None, debugger: Debugger | None = None
) -> Generator[Stop]:
    """Begin the debugger once, where code of the user's is entered or goes on in the block.

    Args:
        execution: Whose code.
        task: The path of the task, ``"0.1"``; ``None`` for any.
        debugger: By default `pdb`.
    """
    stop = Stop()
    begin = pdb.Pdb().set_trace if debugger is None else debugger

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        """Be called with each frame that is entered, and with coroutines that go on."""
        file = frame.f_code.co_filename
        if event != "call" or stop.reached or file.startswith("<") or not is_user_file(file):
            return None
        if task is not None and _running(execution) != task:
            return None
        stop.reached = True
        sys.settrace(before)
        begin(frame)
        return frame.f_trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield stop
    finally:
        if not stop.reached:
            sys.settrace(before)


def _running(execution: Execution) -> str:
    try:
        running = trio.lowlevel.current_task()
    except RuntimeError:  # between two tasks
        return ""
    return next((state.path for task, state in execution.loop.tasks() if task is running), "")
