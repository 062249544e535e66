"""Fixtures of the tests that run workers."""

from __future__ import annotations

import pytest

from tests.stores import marked, opened
from tests.worker.flow import Flow, in_memory

_ALL = [
    ("memory", "trio", 1000),
    ("memory", "trio", 0),
    ("sqlite", "trio", 1000),
    ("sqlite", "trio", 0),
    ("sqlite", "asyncio", 1000),
    ("postgres", "trio", 1000),
    ("mariadb", "trio", 1000),
    ("redis", "trio", 1000),
]
_CACHED = [param for param in _ALL if param[2]]


# What the default run leaves out: each of its stores, hosts and caches is in another row as well.
_MORE = [("memory", "trio", 1000), ("sqlite", "trio", 0)]
_MORE_CACHED = [("sqlite", "trio", 1000)]


def _of(params, more):
    return marked(params, store=lambda param: param[0], campaign=more)


@pytest.fixture(params=_of(_ALL, _MORE))
def flow(request, tmp_path, servers, harness):
    """Every kind of store, host and cache."""
    return Flow(*request.param, tmp_path, servers).of(harness)


@pytest.fixture(params=_of(_CACHED, _MORE_CACHED))
def cached(request, tmp_path, servers, harness):
    """Every kind of store and host, with a cache."""
    return Flow(*request.param, tmp_path, servers).of(harness)


@pytest.fixture
def sqlite(tmp_path, harness):
    """A file on trio."""
    return Flow("sqlite", "trio", 1000, tmp_path).of(harness)


@pytest.fixture
def backend(clock, harness):
    """A store in memory; the test runs in virtual time."""
    backend = in_memory(clock)
    harness.enter(opened(backend))
    return backend
