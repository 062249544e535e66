"""A worker of the races: ``python -m tests.races.program URL LOG OPTIONS``, options as JSON."""

from __future__ import annotations

import faulthandler
import gc
import json
import logging
import os
import signal
import sys
from functools import partial

import anyio
import trio

from tests.races.flows import LOG, registry
from trioflow import BackendUnavailable, run_worker
from trioflow._worker.instances.pump import Pump

READY = "ready for SIGTERM"


class Status:
    """Says on standard output that the worker is ready."""

    def started(self, value: object = None) -> None:
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()


def tell(number: int, frame: object) -> None:
    """Print what the worker holds, and where its threads are: it seems to be stuck."""
    pumps = [found for found in gc.get_objects() if isinstance(found, Pump)]
    for pump in pumps:
        isolated = [instance.id for instance in pump.isolation.suspects]
        print(f"isolated: {isolated}; batch: {len(pump._batch.units)}", file=sys.stderr)  # noqa: T201
        hand = [f"{key.instance} {key.command}" for key in pump.in_hand()]
        lanes = [
            f"{lane.running} run, {lane.waiting} wait" for lane in pump.activities.capacity.lanes
        ]
        print(f"in hand: {hand}; {lanes}", file=sys.stderr)  # noqa: T201
        for instance in pump.holdings.held.values():
            names = ("state", "life", "number", "turns", "suspect", "deaths", "due", "queued")
            shown = {name: getattr(instance, name, None) for name in names}
            print(f"held: {instance.id} {shown} {instance.received}", file=sys.stderr)  # noqa: T201
    faulthandler.dump_traceback()


async def main(url: str, options: dict[str, object]) -> None:
    while True:
        try:
            await run_worker(url, registry=registry, task_status=Status(), **options)  # type: ignore[arg-type]  # drawn
        except BackendUnavailable as exc:
            # Its server cannot be reached just now: whoever watches over it would start it again.
            logging.getLogger("races").warning("started again: %s", exc)
            await anyio.sleep(0.2)
        else:
            return


if __name__ == "__main__":
    _, given, log, written = sys.argv
    os.environ[LOG] = log
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    signal.signal(signal.SIGUSR1, tell)
    settings = json.loads(written)
    host = settings.pop("host")
    run = partial(main, given, settings)
    if host == "trio":
        trio.run(run)
    else:
        anyio.run(run)
