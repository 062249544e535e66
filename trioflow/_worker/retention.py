"""Remove from the store what ended long ago, if the worker's options say how long it is kept."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

from trioflow.backends.abc import Backend
from trioflow.backends.filters import InstanceFilter
from trioflow.errors import BackendError

__all__ = ["tidy"]

logger = logging.getLogger("trioflow.worker")

_BATCH = 200
_BREATH = 0.05  # seconds between two batches, so that others get at the store
_SHARE = 0.1  # of the time that something is kept: so much later it goes at most…
_RARELY, _OFTEN = 3600.0, 1.0  # …but the looks are at most and at least so many seconds apart


async def tidy(
    backend: Backend, keep_finished: float | None, keep_executions: float | None
) -> None:
    """Remove finished instances, and ended executions of any, once they are old enough.

    Several workers may do so: what one has removed another does not find. No instance that goes on
    needs what is removed. A parent gets the result of a child in the transaction in which that
    ends, and an execution that was continued has given the next one all that it needs.

    Args:
        backend: The store, whose clock counts.
        keep_finished: Seconds for which finished instances are kept, ``None`` for ever.
        keep_executions: Likewise executions that others followed.
    """
    kept = [seconds for seconds in (keep_finished, keep_executions) if seconds is not None]
    if not kept:
        return
    pause = min(_RARELY, max(_OFTEN, min(kept) * _SHARE))
    while True:
        try:
            instances = 0 if keep_finished is None else await _remove(backend, keep_finished)
            executions = (
                0 if keep_executions is None else await _remove_executions(backend, keep_executions)
            )
        except BackendError as exc:
            logger.debug("could not remove what is old, and will try again: %s", exc)
        else:
            if instances or executions:
                logger.info("removed %d old instances and %d executions", instances, executions)
        await anyio.sleep(pause)


async def _remove(backend: Backend, seconds: float) -> int:
    where = InstanceFilter(finished_before=backend.now() - seconds)
    return await _in_batches(lambda: backend.remove(where, limit=_BATCH))


async def _remove_executions(backend: Backend, seconds: float) -> int:
    before = backend.now() - seconds
    return await _in_batches(lambda: backend.remove_executions(before, limit=_BATCH))


async def _in_batches(remove: Callable[[], Awaitable[int]]) -> int:
    removed = last = await remove()
    while last >= _BATCH:
        await anyio.sleep(_BREATH)
        last = await remove()
        removed += last
    return removed
