"""The stores of a run: opened once, emptied after every example, opened anew after a failure."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Any, TypeAlias, TypeVar

from anyio.from_thread import BlockingPortal

from trioflow.backends.abc import Backend
from trioflow.testing.lockstep.facts import Clock
from trioflow.testing.lockstep.model import Model
from trioflow.testing.lockstep.sides import Side, Sides

__all__ = ["OpenBackend", "Session"]

T = TypeVar("T")

OpenBackend: TypeAlias = Callable[[], AbstractAsyncContextManager[Backend]]
"""Returns what gives an open backend whose store is empty, and closes it at the end."""


class Session:
    """One run's stores.

    Args:
        portal: Into the loop that the backends are used in.
        stores: By name.
    """

    def __init__(self, portal: BlockingPortal, stores: Mapping[str, OpenBackend]) -> None:
        self.clock = Clock()
        self.number = 0
        self._portal = portal
        self._stores = {"model": self._model, **stores}
        self._open = ExitStack()
        self._backends: dict[str, Backend] = {}

    @asynccontextmanager
    async def _model(self) -> AsyncGenerator[Backend]:
        yield Model(clock=self.clock)

    def call(self, step: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run a step in the loop."""
        result: T = self._portal.call(step, *args)
        return result

    def begin(self) -> Sides:
        """Return the stores for an example; they are empty."""
        self.number += 1
        if not self._backends:
            for name, store in self._stores.items():
                manager = self._portal.wrap_async_context_manager(store())
                self._backends[name] = self._open.enter_context(manager)
        return Sides(self.clock, [Side(name, backend) for name, backend in self._backends.items()])

    def end(self, *, clean: bool) -> None:
        """End an example. If it has not left the stores empty, the next one gets others."""
        if not clean:
            self.close()

    def close(self) -> None:
        """Close the stores."""
        self._backends = {}
        self._open.close()
