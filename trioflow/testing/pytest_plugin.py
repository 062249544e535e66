"""The pytest plugin: the fixture ``flow``, and the marker of its options.

It is loaded by itself where trioflow is installed, and works with the async tests of pytest-trio
and of anyio's plugin::

    async def test_checkout(flow):
        flow.fake(charge, lambda order: "receipt")
        assert await flow.run(checkout, order) == "receipt"

    @pytest.mark.flow(start_time=datetime(2030, 1, 1, tzinfo=UTC), cache_size=0)
    async def test_with_options(flow): ...
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from trioflow._registry import Registry, default_registry

__all__ = ["flow", "flow_registry"]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "flow(registry=..., start_time=..., timeout=..., ...): options of the fixture "
        "'flow', those of trioflow.testing.open_tester",
    )


def pytest_collection_finish() -> None:
    """Let Hypothesis draw schedules by their type, if some test has imported both."""
    if {"hypothesis", "trioflow.testing"} <= sys.modules.keys():
        from trioflow.testing.hypothesis_plugin import register  # noqa: PLC0415  # an extra

        register()


@pytest.fixture
def flow_registry() -> Registry:
    """The definitions of the fixture ``flow``; override it to give others."""
    return default_registry


@pytest.fixture
async def flow(request: pytest.FixtureRequest, flow_registry: Registry) -> AsyncGenerator[Any]:
    """A `trioflow.testing.Tester` on virtual time, for the length of a test."""
    from trioflow.testing.tester import open_tester  # noqa: PLC0415  # only where it is used

    options: dict[str, Any] = {"registry": flow_registry}
    for marker in reversed(list(request.node.iter_markers("flow"))):
        options.update(marker.kwargs)
    async with open_tester(**options) as tester:
        yield tester
