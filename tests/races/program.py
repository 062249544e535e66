"""A worker of the races: ``python -m tests.races.program URL LOG OPTIONS``, options as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import partial

import anyio
import trio

from tests.races.flows import LOG, registry
from trioflow import BackendUnavailable, run_worker

READY = "ready for SIGTERM"


class Status:
    """Says on standard output that the worker is ready."""

    def started(self, value: object = None) -> None:
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()


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
    settings = json.loads(written)
    host = settings.pop("host")
    run = partial(main, given, settings)
    if host == "trio":
        trio.run(run)
    else:
        anyio.run(run)
