"""Sagas: blocks of workflow code whose steps are undone if the block does not succeed."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import trio

from trioflow._codec.failures.groups import continuation
from trioflow.errors import ArgumentError

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["Saga"]

R = TypeVar("R")


class Saga:
    """The steps of a block, and what undoes them. ``async with saga() as s:`` gives it.

    A block that raises, is cancelled, or runs into a deadline is undone before that leaves it: the
    last step first, each after the other, under a shield. What could not be undone is added to what
    the block raised, in an exception group. Whoever leaves the block otherwise, by ``return`` or
    ``continue_as_new()`` too, keeps what was done.
    """

    def __init__(self, caller: Caller, undo_timeout: float | None) -> None:
        self._caller = caller
        self._undo_timeout = undo_timeout
        self._undos: list[Callable[[], Awaitable[object]]] = []
        self._open = False

    async def do(
        self,
        call: Callable[[], Awaitable[R]],
        *,
        undo: Callable[[], Awaitable[object]] | None = None,
    ) -> R:
        """Make a step, and return its result.

        The step is undone also if it fails or is cancelled: it may have happened all the same, as a
        payment whose answer came too late. So ``undo`` has to be right where there is nothing to
        undo.

        Args:
            call: An activity or a sub-workflow with its arguments, not called yet:
                ``partial(book, trip)``.
            undo: What undoes it, likewise; ``None`` for nothing.

        Raises:
            ArgumentError: One of them was called already.
            RuntimeError: The block has ended.
            Exception: What the step raises.
        """
        _check_call(call)
        if undo is not None:
            _check_call(undo)
        self._check_open()
        await trio.lowlevel.checkpoint_if_cancelled()  # a step that does not begin is not undone
        if undo is not None:
            self.add_undo(undo)
        return await call()

    def add_undo(self, undo: Callable[[], Awaitable[object]]) -> None:
        """Add what undoes something that was done already, for example with its result.

        Raises:
            ArgumentError: It was called already.
            RuntimeError: The block has ended.
        """
        _check_call(undo)
        self._check_open()
        self._undos.append(undo)

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        if error is None or self._caller.execution.loop.fenced or continuation(error) is not None:
            return
        failures = await self._undo()
        if failures:
            raise BaseExceptionGroup(
                "a saga has failed, and could not be undone as a whole", [error, *failures]
            ) from None

    def _check_open(self) -> None:
        if not self._open:
            raise RuntimeError("a saga's steps belong into its block: async with saga() as s: ...")

    async def _undo(self) -> list[Exception]:
        """Undo all steps, and return what that raised."""
        failures: list[Exception] = []
        limit = float("inf") if self._undo_timeout is None else self._undo_timeout
        scope = trio.move_on_after(limit, shield=True)
        try:
            with scope:
                while self._undos:
                    try:
                        await self._undos[-1]()
                    except Exception as exc:  # noqa: BLE001  # the others are undone all the same
                        failures.append(self._noted(exc))
                    self._undos.pop()
        except Exception as exc:  # noqa: BLE001  # beside the deadline's cancel, in a group
            failures.append(self._noted(exc))
        if scope.cancelled_caught:
            left = ", ".join(map(_name, reversed(self._undos)))
            failures.append(
                TimeoutError(f"undoing a saga took longer than {limit:g} s; not undone: {left}")
            )
        return failures

    def _noted(self, error: Exception) -> Exception:
        error.add_note(f"raised by what undoes a step of a saga: {_name(self._undos[-1])}")
        return error


def _check_call(call: object) -> None:
    if inspect.iscoroutine(call):
        name = call.__qualname__
        call.close()
        raise ArgumentError(
            f"a saga takes calls that were not made yet, and got the coroutine of {name}; give it "
            "functools.partial(activity, argument) in place of activity(argument)"
        )
    if not callable(call):
        raise ArgumentError(
            f"a saga takes calls without arguments, such as functools.partial(activity, argument), "
            f"not {call!r}"
        )


def _name(call: Any) -> str:
    while isinstance(call, functools.partial):
        call = call.func
    name = getattr(call, "name", None) or getattr(call, "__qualname__", None)
    return str(name or repr(call))
