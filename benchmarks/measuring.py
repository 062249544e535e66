"""What all measurements share: the sizes, the figures, fresh stores, and alternating rounds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from benchmarks.flows import registry
from trioflow import Client, open_worker
from trioflow.backends.abc import Backend

__all__ = [
    "Commits",
    "Figure",
    "Sizes",
    "alternate",
    "scratch",
    "working",
]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        benchmark: Which benchmark it is from.
        what: What was measured.
        value: How much.
        unit: Of the value; ``""`` for a ratio.
        reach: What is aimed at, as in ``">= 1900"`` or ``"< 6"``; ``""`` if nothing is.
        store: On what, if that can be chosen.
    """

    benchmark: str
    what: str
    value: float
    unit: str = ""
    reach: str = ""
    store: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the aim is reached; ``None`` if there is none."""
        if not self.reach:
            return None
        relation, limit = self.reach.split()
        aim = float(limit)
        return {
            ">=": self.value >= aim,
            "<=": self.value <= aim,
            "<": self.value < aim,
        }[relation]


@dataclass(frozen=True)
class Sizes:
    """How much is measured. The first six are the tree's.

    Attributes:
        runs: Roots at once.
        depth: Levels below a root; its children have ``depth - 1``.
        fanout: Children of a root, and of a middle workflow that is not the last.
        leaffanout: Leaves of a last middle workflow.
        activities: Of a leaf.
        resultsize: Bytes that an activity returns.
        backend: ``"sqlite"`` for a fresh file, ``"memory"``, a URL, or the name of a server, of
            which a private one is started (see `benchmarks.stores`).
        quick: Small numbers everywhere: shows that it works, not how fast.
        directory: Where files are made.
    """

    runs: int = 200
    depth: int = 2
    fanout: int = 2
    leaffanout: int = 2
    activities: int = 2
    resultsize: int = 100
    backend: str = "sqlite"
    quick: bool = False
    directory: Path = field(default_factory=Path.cwd)

    def of(self, normal: int, quick: int) -> int:
        """Return one of the two numbers."""
        return quick if self.quick else normal

    @property
    def rounds(self) -> int:
        """How often what alternates is measured."""
        return self.of(5, 1)

    @property
    def tree(self) -> tuple[int, int, int, int, int]:
        """The arguments of ``root``."""
        return self.depth, self.fanout, self.leaffanout, self.activities, self.resultsize

    @property
    def workflows(self) -> int:
        """How many workflows one root means, itself included."""
        mids: list[int] = [self.fanout**level for level in range(1, self.depth + 1)]
        return 1 + sum(mids) + mids[-1] * self.leaffanout


class Commits:
    """Counts a backend's transactions that store something of an instance.

    Attributes:
        made: How many there were.
    """

    def __init__(self, backend: Backend) -> None:
        self.made = 0
        for name in ("commit", "create"):
            setattr(backend, name, self._counted(getattr(backend, name)))

    def _counted(self, method: Callable[..., Awaitable[_T]]) -> Callable[..., Awaitable[_T]]:
        def counted(*args: Any) -> Awaitable[_T]:
            self.made += 1
            return method(*args)

        return counted


@contextmanager
def scratch(sizes: Sizes) -> Iterator[Path]:
    """Give an empty directory, and remove it with all that is in it."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=sizes.directory))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@asynccontextmanager
async def working(backend: Backend, **options: Any) -> AsyncIterator[Client]:
    """Run a worker on a store, close the store afterwards, and give the worker's client."""
    try:
        async with open_worker(backend, registry=registry, **options) as worker:
            yield worker.client
    finally:
        await backend.aclose()


async def alternate(rounds: int, *measures: Callable[[], Awaitable[float]]) -> list[float]:
    """Measure in turns, so that what slows the machine slows all; return the medians."""
    values: list[list[float]] = [[] for _ in measures]
    for _ in range(rounds):
        for measure, found in zip(measures, values, strict=True):
            found.append(await measure())
    return [median(found) for found in values]
