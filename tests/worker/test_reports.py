"""What the log says of an instance that has failed."""

# mypy: ignore-errors

from __future__ import annotations

import inspect

import pytest
import trio

from trioflow import Registry


def _raises():
    raise LookupError("no such order")  # the line


async def _in_a_nursery():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)
        _raises()


async def _at_once():
    _raises()


@pytest.mark.parametrize("fn", [_at_once, _in_a_nursery])
async def test_the_log_of_a_failed_instance_names_its_line(flow, caplog, fn):
    flows = Registry()
    program = flows.workflow(fn)

    async with flow.worker(flows) as worker:
        with pytest.raises(Exception):  # noqa: B017
            await worker.client.run(program)
    [told] = [r.getMessage() for r in caplog.records if " failed: " in r.getMessage()]
    lines, first = inspect.getsourcelines(_raises)
    assert f"(at {__file__}:{first + len(lines) - 1})" in told
