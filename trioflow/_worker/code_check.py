"""What a worker does about instances that its code does not fit, before it takes any."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import anyio

from trioflow._codec.values import Codec
from trioflow._model.interceptors import Interceptor
from trioflow._model.propagation import Propagator
from trioflow._registry import Registry
from trioflow._worker.compatibility import check_code
from trioflow._worker.instances.holdings import Holdings, Left
from trioflow.backends.abc import Backend
from trioflow.backends.records import ENDED
from trioflow.errors import BackendError, IncompatibleCode

__all__ = ["Check", "CodeCheck"]

logger = logging.getLogger("trioflow.worker")

Check = Literal["off", "warn", "leave", "refuse"]
"""What a worker does about instances that its code does not fit."""

_EVERY = 60.0  # seconds between two looks at those that were left


class CodeCheck:
    """Checks the running instances of a worker's queues once, when it starts.

    Args:
        how: What follows.
        backend: The store.
        registry: The worker's definitions.
        codec: Its codec.
        queues: Whose instances it takes.
        propagators: Its propagators.
        interceptors: What is around its workflows.
        holdings: Where it is noted which instances are left to others.
        look_again: Called when one of those is not left any more: it may be ready.
    """

    def __init__(
        self,
        how: Check,
        *,
        backend: Backend,
        registry: Registry,
        codec: Codec,
        queues: Collection[str],
        propagators: Sequence[Propagator],
        interceptors: Sequence[Interceptor],
        holdings: Holdings,
        look_again: Callable[[], None],
    ) -> None:
        self._how = how
        self._backend = backend
        self._registry = registry
        self._codec = codec
        self._queues = queues
        self._propagators = propagators
        self._interceptors = interceptors
        self._holdings = holdings
        self._look_again = look_again
        holdings.leaves = how == "leave"

    async def begin(self) -> None:
        """Replay what is under way, and do what is to be done about what does not fit.

        Raises:
            IncompatibleCode: Some do not fit, and the worker is to refuse then.
        """
        if self._how == "off" or not self._queues:
            return
        found = await check_code(
            self._backend,
            self._registry,
            self._codec,
            queues=self._queues,
            propagators=self._propagators,
            interceptors=self._interceptors,
        )
        for misfit in found.differing:
            logger.warning(
                "the code fits the history of instance %s; but it passes other data now", misfit
            )
        if self._how == "refuse" and found.diverging:
            raise IncompatibleCode(f"the worker does not start: {found}")
        for misfit in found.diverging:
            logger.warning("the code does not fit a running instance: %s", misfit)
        if self._how == "leave":
            self._holdings.leave(
                Left(each.instance, each.workflow, each.life, each.execution)
                for each in found.diverging
            )

    async def watch_left(self) -> None:
        """Forget those that were left and have ended, or gone on to the next execution."""
        left = self._holdings.left
        while self._how == "leave":
            await anyio.sleep(_EVERY)
            for id, each in list(left.items()):
                try:
                    record = await self._backend.get(id)
                except BackendError:
                    break  # whoever takes work says so
                if (
                    record is None
                    or record.status in ENDED
                    or (record.life, record.execution) != (each.life, each.execution)
                ):
                    left.pop(id, None)
                    self._look_again()
