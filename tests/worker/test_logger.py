"""The workflow's logger: whose line, and how often."""

from __future__ import annotations

import logging

import pytest

from tests.worker.flow import until_parked
from trioflow import Registry, Signal, logger

number = Signal("number", int)
METHODS = ("debug", "info", "warning", "error", "critical", "exception")


async def test_the_record_names_the_line_that_logged(sqlite, caplog):
    flows = Registry()

    def helper(text):
        logger.warning("by a helper: %s", text, stacklevel=2)

    @flows.workflow
    async def work() -> None:
        for method in METHODS:
            getattr(logger, method)("by %s", method)
        logger.log(logging.INFO, "by log")
        helper("here")

    with caplog.at_level(logging.DEBUG, "trioflow.workflow"):
        async with sqlite.worker(flows) as worker:
            await worker.client.run(work)
    records = [r for r in caplog.records if r.name == "trioflow.workflow"]
    assert len(records) == len(METHODS) + 2
    first = work.fn.__code__.co_firstlineno
    assert {(r.pathname, r.funcName) for r in records} == {(__file__, "work")}
    lines = [r.lineno - first for r in records]
    assert lines == [*[lines[0]] * len(METHODS), lines[0] + 1, lines[0] + 2]


@pytest.mark.parametrize("cache_size", [0, 1000])
async def test_nothing_is_logged_twice(sqlite, caplog, cache_size):
    flows = Registry()

    @flows.workflow
    async def work() -> int:
        total = 0
        for n in range(3):
            logger.info("before %s", n)
            total += await number.receive()
            logger.info("after %s", n)
        return total

    with caplog.at_level(logging.INFO, "trioflow.workflow"):
        async with sqlite.client(flows) as client:
            handle = await client.start(work)
            for turns in (1, 2, 3):
                # Another worker each time, so that it is replayed.
                async with sqlite.worker(flows, cache_size=cache_size):
                    await until_parked(handle, turns=turns)
                    await handle.signal(number, turns)
            async with sqlite.worker(flows, cache_size=cache_size):
                assert await handle.result() == 6
    said = [r.getMessage() for r in caplog.records if r.name == "trioflow.workflow"]
    assert said == [f"{when} {n}" for n in range(3) for when in ("before", "after")]
