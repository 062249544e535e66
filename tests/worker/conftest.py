"""Fixtures of the tests that run workers."""

from __future__ import annotations

import pytest

from tests.stores import marked
from tests.worker.flow import Flow

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


def _of(params):
    return marked(params, store=lambda param: param[0])


@pytest.fixture(params=_of(_ALL))
def flow(request, tmp_path, servers):
    """Every kind of store, host and cache."""
    return Flow(*request.param, tmp_path, servers)


@pytest.fixture(params=_of(_CACHED))
def cached(request, tmp_path, servers):
    """Every kind of store and host, with a cache."""
    return Flow(*request.param, tmp_path, servers)


@pytest.fixture
def sqlite(tmp_path):
    """A file on trio."""
    return Flow("sqlite", "trio", 1000, tmp_path)
