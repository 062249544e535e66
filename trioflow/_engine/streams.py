"""Streams: values that a workflow emits, in its history, for those who read along outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from trioflow._codec.limits import check_name
from trioflow._codec.values import encode_plain
from trioflow._model.commands import EmitValue
from trioflow._model.ids import check_command_id

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["emit"]


async def emit(caller: Caller, stream: str, value: object) -> None:
    """Append a value to a stream; it is seen outside once the turn is stored."""
    state = await caller.begin("emit() to", stream)
    name = check_name(stream, "a stream")
    command_id, what = state.next_id(), f"stream {name!r}"
    check_command_id(command_id, what)
    execution = caller.execution
    data = caller.count_new(encode_plain(execution.codec, value, what), what)
    execution.commands.give(EmitValue(id=command_id, stream=name, value=data))
    await trio.lowlevel.cancel_shielded_checkpoint()
