"""Signals: named, typed messages to an instance, as workflows and clients share them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar, cast

from trioflow._codec.limits import check_name
from trioflow._model.awaited import NotAwaited
from trioflow._model.invoker import invoker_for

__all__ = ["AnySignal", "Signal"]

T = TypeVar("T")


class Signal(NotAwaited, Generic[T]):
    """A named, typed message to an instance.

    Signals wait in the order of their arrival until the workflow receives them, also those that
    came before it asked. Iterating receives for ever: ``async for item in signal``.

    Args:
        name: Which signal; any object of the same name is the same signal.
        type: The type of its values; without one, plain JSON data.

    Example:
        >>> approved = Signal("approved", bool)
        >>> approved
        Signal('approved', bool)
    """

    __slots__ = ("name", "type")

    if TYPE_CHECKING:

        def __init__(self, name: str, type: type[T]) -> None:
            self.name = name
            self.type = type
    else:

        def __init__(self, name: str, type: object = Any) -> None:
            self.name = check_name(name, "a signal")
            self.type = type

    def __repr__(self) -> str:
        return f"Signal({self.name!r}, {getattr(self.type, '__name__', self.type)})"

    def _instead(self) -> str:
        return "write signal.receive(), which waits for its next value"

    def receive(self) -> Coroutine[Never, object, T]:
        """Wait for the next value and return it. A cancelled wait loses nothing.

        Raises:
            NotInWorkflow: Outside of a workflow.
        """
        # Not async: the engine tracks the call and its line, to find one that is not awaited.
        return invoker_for("Signal.receive()").receive_signal(self.name, self.type)

    def receive_nowait(self) -> T:
        """Return the next value that has already arrived.

        Raises:
            trio.WouldBlock: None has.
            NotInWorkflow: Outside of a workflow.
        """
        return cast(
            "T",
            invoker_for("Signal.receive_nowait()").receive_signal_nowait(self.name, self.type),
        )

    @staticmethod
    def any() -> AnySignal:
        """Return what receives all signals that nobody receives by their names.

        A name counts as received as soon as the workflow has asked for it once. So ask for those
        that have receivers of their own before any other.
        """
        return AnySignal()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    def __anext__(self) -> Coroutine[Never, object, T]:
        return invoker_for("Signal.receive()").receive_signal(self.name, self.type)


class AnySignal:
    """All signals that nobody receives by their names; `Signal.any` gives it.

    Iterating receives for ever: ``async for name, value in Signal.any()``.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "Signal.any()"

    def receive(self) -> Coroutine[Never, object, tuple[str, Any]]:
        """Wait for the next one; return its name, and its value as plain JSON data.

        Raises:
            NotInWorkflow: Outside of a workflow.
        """
        return invoker_for("Signal.any().receive()").receive_any_signal()

    def receive_nowait(self) -> tuple[str, Any]:
        """Return the next one that has already arrived.

        Raises:
            trio.WouldBlock: None has.
            NotInWorkflow: Outside of a workflow.
        """
        return invoker_for("Signal.any().receive_nowait()").receive_any_signal_nowait()

    def __aiter__(self) -> AsyncIterator[tuple[str, Any]]:
        return self

    def __anext__(self) -> Coroutine[Never, object, tuple[str, Any]]:
        return self.receive()
