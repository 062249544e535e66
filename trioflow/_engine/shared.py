"""Calls that claim and release the locks, semaphores and events that instances share.

A claim is a command whose answer comes when it is granted. Who is cancelled while waiting withdraws
it, and does not wait for that: should it have been granted meanwhile, the store gives it to the
next. Leaving the block of a granted one releases it, with the same command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import trio

from trioflow._model.commands import ClaimShared, ReleaseShared, SetShared
from trioflow._model.events import RequestAnswer, RequestDone, RequestFailed
from trioflow._model.ids import check_command_id
from trioflow._model.shared import shared_words

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["claim", "release", "set_event"]


async def claim(caller: Caller, name: str, size: int) -> None:
    """Wait for a place among ``size``, and hold it; for an event if it is 0."""
    state = await caller.begin("claim of", name)
    command_id = state.next_id()
    check_command_id(command_id, f"claim of {name!r}")
    command = ClaimShared(id=command_id, name=name, size=size)
    execution = caller.execution
    _read(caller, await execution.commands.give_and_wait(command, abandon=True))
    if size:
        execution.claims.setdefault(name, []).append((state, command_id))


def release(caller: Caller, name: str) -> None:
    """Release what was claimed last of that name: by the running task, if it has claimed any.

    A block may be left in another task than it was entered in, as with `contextlib.AsyncExitStack`.
    All places of one name are alike, so then it does not matter which one is given back.

    Raises:
        RuntimeError: Nothing of that name is held.
    """
    if caller.execution.loop.fenced:
        return  # it is only unwound out of memory: the instance still holds it
    state = caller.task_state("a shared scope")
    held = caller.execution.claims.get(name)
    if not held:
        raise RuntimeError(
            f"{shared_words(name)} is not held, so it cannot be given back: leave each block as "
            "often as it is entered, best by 'async with'"
        )
    own = [at for at, (owner, _) in enumerate(held) if owner is state]
    _, command_id = held.pop(own[-1] if own else -1)
    caller.execution.commands.cancels.append(ReleaseShared(id=command_id, name=name))


async def set_event(caller: Caller, name: str, *, value: bool) -> None:
    """Set or clear an event, and wait until that is stored."""
    state = await caller.begin("setting of", name)
    command_id = state.next_id()
    check_command_id(command_id, f"setting of {name!r}")
    with trio.CancelScope(shield=True):  # it is under way; the answer comes at once
        command = SetShared(id=command_id, name=name, value=value)
        _read(caller, await caller.execution.commands.give_and_wait(command))


def _read(caller: Caller, answer: RequestAnswer) -> None:
    match answer:
        case RequestDone():
            pass
        case RequestFailed():
            raise caller.rebuild(answer.failure)
        case _:
            assert_never(answer)
