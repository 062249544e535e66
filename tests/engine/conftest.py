"""Fixtures that tests of the engine share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.engine import driver
from trioflow._engine import guard

guard.install()  # as a worker does


@pytest.fixture(params=driver.HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """Under which event loop the engine is called."""
    return str(request.param)


@pytest.fixture(params=["kept", "evicted"])
def run(request: pytest.FixtureRequest, host: str) -> Callable[..., Any]:
    """`driver.run` on each host, with and without an eviction before each turn."""

    def run(fn: Callable[..., Any], *args: Any, **activities: Any) -> Any:
        evict = request.param == "evicted"
        whole = partial(driver.run, fn, *args, evict=evict, **activities)
        with driver.nothing_left():
            return driver.on_host(host, whole)

    return run


@pytest.fixture(params=["kept", "evicted"])
def drive(request: pytest.FixtureRequest) -> Iterator[Callable[..., driver.Driver]]:
    """`driver.Driver`, kept in memory or evicted and replayed before each turn."""
    drivers: list[driver.Driver] = []

    def drive(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> driver.Driver:
        made = driver.Driver(fn, *args, evict_always=request.param == "evicted", **kwargs)
        drivers.append(made)
        return made

    yield drive
    for made in drivers:
        made.evict()
