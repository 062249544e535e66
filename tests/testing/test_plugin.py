"""The pytest plugin, in a project of its own, with pytest-trio and with anyio's plugin."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

PROJECT = """
import anyio, pytest, trio
from trioflow import Registry, Signal, workflow, activity, now
from trioflow.testing import Tester

go = Signal("go", int)
own = Registry()

@activity
async def charge(amount: int) -> str:
    raise AssertionError("the real one")

@workflow
async def checkout(amount: int) -> str:
    await trio.sleep(30 * 86400)
    return await charge(amount)

@workflow
async def hangs() -> None:
    await go.receive()

@own.workflow(name="checkout")
async def other(amount: int) -> float:
    return now()
"""

TESTS = """
async def test_run(flow: Tester):
    fake = flow.fake(charge, lambda amount: f"paid {amount}", times=1)
    assert await flow.run(checkout, 5) == "paid 5"
    assert flow.elapsed == pytest.approx(30 * 86400)

@pytest.mark.flow(registry=own, start_time=1000.0)
async def test_options(flow):
    assert await flow.run(other, 5) == 1000.0

async def test_stuck(flow):
    await flow.run(hangs)

async def test_expectation(flow):
    flow.fake(charge, lambda amount: "", times=1)
"""


def project(pytester, monkeypatch, plugin, mark, ini):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini(f"[pytest]\n{ini}")
    pytester.makepyfile(test_flows=PROJECT + mark + TESTS)
    return pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-p", plugin, "-p", "trioflow.testing.pytest_plugin"),
        *("-W", "error::pytest.PytestCollectionWarning"),
    )


@pytest.mark.parametrize(
    ("plugin", "mark", "ini", "hosts"),
    [
        ("trio", "", "trio_mode = true", 1),
        ("trio", "pytestmark = pytest.mark.trio\n", "", 1),
        ("anyio", "pytestmark = pytest.mark.anyio\n", "", 2),  # runs each test on both
    ],
)
def test_with(pytester, monkeypatch, plugin, mark, ini, hosts):  # noqa: PLR0917
    result = project(pytester, monkeypatch, plugin, mark, ini)
    result.stdout.fnmatch_lines(["*nothing will ever happen any more*"])
    result.stdout.fnmatch_lines(["*'charge' was called 0 times, 1 was expected*"])
    outcomes = result.parseoutcomes()
    # An expectation that is not met is an error of the fixture's end, or a failure of its test.
    wrong = outcomes.get("failed", 0) + outcomes.get("errors", 0) + outcomes.get("error", 0)
    assert wrong == 2 * hosts, outcomes
    assert outcomes["passed"] >= 2 * hosts, outcomes
