"""Fixtures of the tests that run workers."""

from __future__ import annotations

import pytest

from tests.worker.flow import Flow

_ALL = [
    ("memory", "trio", 1000),
    ("memory", "trio", 0),
    ("sqlite", "trio", 1000),
    ("sqlite", "trio", 0),
    ("sqlite", "asyncio", 1000),
]


@pytest.fixture(params=_ALL, ids=lambda param: "-".join(map(str, param)))
def flow(request, tmp_path):
    """Every kind of store, host and cache."""
    return Flow(*request.param, tmp_path)


@pytest.fixture(params=_ALL[::2], ids=lambda param: "-".join(map(str, param)))
def cached(request, tmp_path):
    """Every kind of store and host, with a cache."""
    return Flow(*request.param, tmp_path)


@pytest.fixture
def sqlite(tmp_path):
    """A file on trio."""
    return Flow("sqlite", "trio", 1000, tmp_path)
