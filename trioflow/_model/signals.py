"""Signals: named, typed messages to an instance, as workflows and clients share them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar, cast

from trioflow._codec.limits import check_name
from trioflow._model.definitions import invoker_for

__all__ = ["Signal"]

T = TypeVar("T")


class Signal(Generic[T]):
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

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    def __anext__(self) -> Coroutine[Never, object, T]:
        return invoker_for("Signal.receive()").receive_signal(self.name, self.type)
