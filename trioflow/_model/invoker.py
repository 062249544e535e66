"""What definitions, signals and the like call inside a workflow.

They find the engine through `current_invoker`, a context variable that the engine sets in the
contexts it runs workflow code in. So they need no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from trioflow.errors import NotInWorkflow

if TYPE_CHECKING:
    from trioflow._model.activities import Activity
    from trioflow._model.workflows import Workflow

__all__ = [
    "Invoker",
    "answering_to",
    "current_invoker",
    "invoker_for",
]

R = TypeVar("R")


class Invoker(Protocol):
    """What definitions and signals call inside a workflow: the engine's `Caller`."""

    def call(
        self,
        definition: Activity[..., R] | Workflow[..., R],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Coroutine[Any, Any, R]:
        """Run an activity or a sub-workflow durably and wait for its result."""
        ...

    def receive_signal(self, name: str, type_: object) -> Coroutine[Any, Any, Any]:
        """Wait for the next signal of that name."""
        ...

    def receive_signal_nowait(self, name: str, type_: object) -> Any:
        """Return the next signal of that name, or raise `trio.WouldBlock`."""
        ...

    def receive_any_signal(self) -> Coroutine[Any, Any, tuple[str, Any]]:
        """Wait for the next signal that nobody receives by its name."""
        ...

    def receive_any_signal_nowait(self) -> tuple[str, Any]:
        """Return the next such signal, or raise `trio.WouldBlock`."""
        ...

    def make_promise(self, name: str) -> str:
        """Make a promise, and return its token."""
        ...

    def receive_promise(self, name: str, token: str, type_: object) -> Coroutine[Any, Any, Any]:
        """Wait until a promise is settled."""
        ...

    def claim_shared(self, name: str, size: int) -> Coroutine[Any, Any, None]:
        """Wait for a place, or an event, of what instances share."""
        ...

    def release_shared(self, name: str) -> None:
        """Release what the running task has claimed last of that name."""
        ...

    def set_shared(self, name: str, *, value: bool) -> Coroutine[Any, Any, None]:
        """Set or clear an event that instances share."""
        ...

    def set_query_handler(self, query: Any, fn: Callable[..., Any]) -> None:
        """Answer queries of that name with a function; with ``None`` those that have none."""
        ...

    def set_update_handler(
        self, update: Any, fn: Callable[..., Any], validator: Callable[..., Any] | None
    ) -> None:
        """Answer updates of that name with a function; with ``None`` those that have none."""
        ...


current_invoker: ContextVar[Invoker | None] = ContextVar("trioflow_invoker", default=None)


def invoker_for(what: str) -> Invoker:
    """Return what calls of the running workflow go to.

    Raises:
        NotInWorkflow: Outside of a workflow; ``what`` names what was called.
    """
    invoker = current_invoker.get()
    if invoker is None:
        raise NotInWorkflow(
            f"{what} can only be called inside a workflow, and none runs here: call it there, and "
            "pass on to activities what they need as arguments"
        )
    return invoker


@contextmanager
def answering_to(invoker: Invoker) -> Generator[None]:
    """Let all calls of the block go to this one. The block does not await."""
    token = current_invoker.set(invoker)
    try:
        yield
    finally:
        current_invoker.reset(token)
