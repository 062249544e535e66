"""A plugin of pytest: calls of a store let others run before and after, so often as chance says.

A store in memory, or the moment after a commit, does not: so a test sees one order of what happens
at once, and a store on a server, or a machine under load, others. What this finds is either a
mistake of the product, which trusts that nothing happens between a commit and what follows it, or
one of a test, which waits for what it reads too late, or counts on how turns are divided.

``pytest -p tests.orders --orders 7``. The number and the test's id make the order, so a failure can
be repeated alone, as far as no thread and no time has a part in it.
"""

from __future__ import annotations

import functools
import inspect
import random

import anyio
import anyio.lowlevel
import pytest

from trioflow.backends.memory import MemoryBackend
from trioflow.backends.moves import MovableBackend
from trioflow.backends.sql.backend import SqlBackend
from trioflow.backends.sqlite.backend import SqliteBackend

_TURNS = (0, 0, 0, 1, 1, 2, 3, 5, 10, 30)  # of the loop
_chance = random.Random()

# They compare two runs, which then differ.
_LEFT_OUT = (
    "test_the_same_seed_gives_the_same_run",
    "test_it_does_not_depend_on_the_process",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--orders", type=int, default=0, help="Which orders; see tests/orders.py.")


def pytest_configure() -> None:
    """Let the calls of stores in this process wait."""
    calls = {name for name in dir(MovableBackend) if not name.startswith("_")} - {"open", "aclose"}
    for store in {each for top in (MemoryBackend, SqlBackend, SqliteBackend) for each in top.mro()}:
        if store.__module__.startswith("trioflow.backends.") and store is not MovableBackend:
            for name in calls & vars(store).keys():
                if inspect.iscoroutinefunction(call := vars(store)[name]):
                    setattr(store, name, _among_others(call))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what can not have another order each time."""
    left_out = [item for item in items if item.name.startswith(_LEFT_OUT)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the test's id say what comes."""
    _chance.seed(f"{item.config.getoption('--orders')} {item.nodeid}")


def _among_others(call):
    @functools.wraps(call)
    async def waits(*args, **kwargs):
        await _let_others_run()
        result = await call(*args, **kwargs)
        with anyio.CancelScope(shield=True):  # it was done: the caller hears of it
            await _let_others_run()
        return result

    return waits


async def _let_others_run() -> None:
    for _ in range(_chance.choice(_TURNS)):
        await anyio.lowlevel.checkpoint()
