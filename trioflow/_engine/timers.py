"""Sleeps with a name. Those without one, and all other deadlines, are trio's own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from trioflow._codec.limits import check_name
from trioflow._model.commands import NameTimer
from trioflow._model.ids import check_command_id
from trioflow.errors import ArgumentError

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["sleep"]


async def sleep(caller: Caller, seconds: float, name: str) -> None:
    """Sleep as trio does, and record for what; a deadline itself needs no command."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no type checker
        raise ArgumentError(f"sleep() takes a number of seconds, not {seconds!r}")
    if not 0 <= seconds < math.inf:
        raise ArgumentError(
            f"sleep() takes a number of seconds from 0 on, not {seconds!r}; trio.sleep_forever() "
            "has no end"
        )
    state = await caller.begin("sleep()", name)
    check_name(name, "a timer")
    command_id = state.next_id()
    check_command_id(command_id, f"timer {name!r}")
    due_at = caller.now + seconds
    caller.execution.commands.give(NameTimer(id=command_id, name=name, due_at=due_at))
    state.timer = name
    try:
        await trio.sleep_until(due_at)
    finally:
        del state.timer
