"""Warn of queues that hold work and that no living worker serves. It only logs."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import anyio

from trioflow._worker.registration import Registration
from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Backend
from trioflow.backends.records import QueueStats
from trioflow.errors import BackendError

__all__ = ["watch_queues"]

logger = logging.getLogger("trioflow.worker")

_EVERY = 60.0  # seconds at least between two looks
_SHARE = 0.01  # of the time, at most, goes to them, however much there is to count


class _Unserved(NamedTuple):
    queue: str
    kind: Literal["instances", "activities"]


async def watch_queues(backend: Backend, registration: Registration) -> None:
    """Warn of what waits in a queue that no living worker serves, in two looks running.

    Once per queue and kind, until the queue is served or empty. Two looks, since a worker that is
    restarted is away for a moment.

    Args:
        backend: The store.
        registration: The worker's row: what it lets go of is of a queue that it serves.
    """
    changed = selection_of(backend)
    before: set[_Unserved] = set()
    told: set[_Unserved] = set()
    await anyio.sleep(_EVERY)
    while True:
        looked = seen = backend.changes()
        began_at = anyio.current_time()
        with suppress(BackendError):  # whoever takes work says so
            found = dict(_unserved(await backend.stats()))
            twice = found.keys() & before
            for each in sorted(twice - told):
                _warn(each, found[each])
            before, told = set(found), twice
        await anyio.sleep(max(_EVERY, (anyio.current_time() - began_at) / _SHARE))
        if before == told and not backend.shared:
            # All that happens is a change here, so that an idle worker looks at nothing.
            while not (
                changed("instances", looked, registration.id) or changed("activities", looked)
            ):
                await backend.wait_change(seen, math.inf)
                seen = backend.changes()


def _unserved(stats: Sequence[QueueStats]) -> Iterator[tuple[_Unserved, int]]:
    for one in stats:
        if one.pending_instances and not one.workers:
            yield _Unserved(one.queue, "instances"), one.pending_instances
        if one.pending_activities and not one.activity_workers:
            yield _Unserved(one.queue, "activities"), one.pending_activities


_ONE: Final = {"instances": "instance", "activities": "activity"}


def _warn(what: _Unserved, number: int) -> None:
    option = "queues" if what.kind == "instances" else "activity_queues"
    logger.warning(
        "%d %s in queue %r, and no living worker takes %s from it. Run a worker with %s=[%r]; "
        "or, if the name is wrong, correct it in options(queue=…) and cancel what waits",
        number,
        f"{_ONE[what.kind]} waits" if number == 1 else f"{what.kind} wait",
        what.queue,
        what.kind,
        option,
        what.queue,
    )
