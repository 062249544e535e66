"""Helpers for exceptions in groups: cancels, interrupts, and what a block raises."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from typing import Any, Final, cast

import anyio
import trio

from trioflow.errors import ContinueAsNew

__all__ = ["continuation", "first_interrupt", "is_cancel", "is_own", "joined"]

# What is raised where something was cancelled; the last is what threads get of anyio.
_OF_LOOPS = (trio.Cancelled, asyncio.CancelledError)
_CANCELLED = (*_OF_LOOPS, concurrent.futures.CancelledError)
_GROUP: Final[Any] = BaseExceptionGroup


def is_cancel(exc: BaseException) -> bool:
    """Return whether an exception is a cancel, or a group of nothing else."""
    return all(issubclass(type(leaf), _CANCELLED) for leaf in _leaves(exc))


def is_own(exc: BaseException, task: anyio.TaskInfo) -> bool:
    """Return whether what a block with a task group has raised is to be raised after the group.

    A cancel is the group's, which perhaps has to catch it. And in another task than the block's, in
    which a generator is closed that nobody closed before, the group cannot end but with an error.

    Args:
        exc: What it has raised, or a group with that in it.
        task: Which one has entered the block.
    """
    held = any(issubclass(type(leaf), _OF_LOOPS) for leaf in _leaves(exc))
    return not held and anyio.get_current_task() == task


def first_interrupt(exc: BaseException) -> KeyboardInterrupt | None:
    """Return the first `KeyboardInterrupt` in an exception or group, or ``None``."""
    for leaf in _leaves(exc):
        if issubclass(type(leaf), KeyboardInterrupt):
            return cast("KeyboardInterrupt", leaf)
    return None


def joined(own: BaseException | None, other: BaseException | None) -> BaseException | None:
    """Return the exception to raise after a block with a task group in it.

    Args:
        own: What the block itself has raised. It is returned as it is, and not in a group, if
            nothing else has failed; a cancellation is not a failure.
        other: What the task group has raised.
    """
    if own is None:
        return other
    if other is None or is_cancel(other):
        return own
    if isinstance(other, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", other)
        return BaseExceptionGroup(group.message, [*group.exceptions, own])
    return BaseExceptionGroup("unhandled errors of a block and its tasks", [other, own])


def continuation(error: BaseException) -> ContinueAsNew | None:
    """Find `ContinueAsNew` in an exception, or alone in the groups that nurseries make."""
    # Not isinstance(), which may run code of the exception's class.
    while issubclass(type(error), BaseExceptionGroup):
        members = cast("BaseExceptionGroup[BaseException]", error).exceptions
        if len(members) != 1:
            break
        error = members[0]
    return cast("ContinueAsNew", error) if issubclass(type(error), ContinueAsNew) else None


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    # Without recursion: a group may be nested deeper than Python's stack.
    waiting = [exc]
    while waiting:
        each = waiting.pop()
        if issubclass(type(each), BaseExceptionGroup):
            # Not .exceptions, and not isinstance(): both may run the code of the exception's class.
            waiting.extend(reversed(_GROUP.exceptions.__get__(each)))
        else:
            yield each
