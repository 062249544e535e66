"""How far one activity goes through the code: the files it passes, and the moves between them.

Whoever wants to see how an activity gets its result reads those files, and jumps between them so
often. So this measures how the code is laid out, not how fast it is.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import FrameType

import trio
import trio.testing

import trioflow
from benchmarks.flows import single
from benchmarks.measuring import Figure, Sizes, working
from benchmarks.stores import fresh
from trioflow import Client

__all__ = ["moves"]

_PACKAGE = f"{Path(trioflow.__file__).parent}/"


class _Trail:
    """Records in which files of trioflow calls begin, in their order.

    Returns do not count, nor do calls within one file. Resuming a coroutine counts as a call.

    Attributes:
        all: The file of each call between the client's start and the workflow's result.
        activity: The same between the activity's call in the workflow and its result there.
    """

    def __init__(self) -> None:
        self.all: list[str] = []
        self.activity: list[str] = []
        self._resumed = 0  # how often the workflow's function was entered

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call; for `sys.setprofile`."""
        if event != "call":
            return
        if frame.f_code is single.fn.__code__:
            self._resumed += 1
        path = frame.f_code.co_filename
        if not path.startswith(_PACKAGE):
            return
        path = path.removeprefix(_PACKAGE)
        self.all.append(path)
        if self._resumed == 1:  # the second time it has the result
            self.activity.append(path)


async def _follow(client: Client) -> _Trail:
    trail = _Trail()
    await trio.testing.wait_all_tasks_blocked()  # the worker is at rest after what was before
    sys.setprofile(trail.profile)
    try:
        handle = await client.start(single, 1)
        await handle.result()
    finally:
        sys.setprofile(None)
    return trail


async def moves(sizes: Sizes) -> list[Figure]:
    """One workflow with one activity, on a worker with nothing else to do, in memory."""
    async with working(fresh("memory", sizes.directory)) as client:
        for _ in range(3):
            await client.run(single, 1)  # so that nothing is done for the first time below
        # Medians, since trio's order of tasks is random.
        trails = [await _follow(client) for _ in range(sizes.of(51, 3))]
    figures: list[Figure] = []
    for what, many, aims in (
        ("activity", [trail.activity for trail in trails], ("< 25", "< 150")),
        ("workflow", [trail.all for trail in trails], ("", "")),
    ):
        worker = [[file for file in files if file.startswith("_worker/")] for files in many]
        figures += [
            Figure("moves", f"{what}: files", _files(many), "", aims[0]),
            Figure("moves", f"{what}: moves between them", _moves(many), "", aims[1]),
            Figure("moves", f"{what}: files of the worker", _files(worker)),
            Figure("moves", f"{what}: moves between those", _moves(worker)),
        ]
    return figures


def _files(trails: list[list[str]]) -> float:
    return median(len(set(trail)) for trail in trails)


def _moves(trails: list[list[str]]) -> float:
    return median(sum(here != there for here, there in pairwise(trail)) for trail in trails)
