"""Workflows that do what cannot be repeated: refused at the line, and the worker goes on."""

from __future__ import annotations

import asyncio
import pathlib
import random
import socket
import sys
import time
import urllib.request
import uuid
from datetime import UTC, datetime

import anyio
import anyio.to_thread
import pytest
import trio

from trioflow import DeterminismError, Registry

watched = sys.version_info >= (3, 12)  # from then on calls are watched, not only what is audited


def bad_calls():
    """What must not be called, with the part of the message that says what to do instead."""
    always = {
        "open": (lambda: open(__file__), "activity"),  # noqa: SIM115, PTH123 - refused
        "pathlib": (lambda: pathlib.Path(__file__).read_text(encoding="utf-8"), "activity"),
        "socket": (lambda: socket.create_connection(("127.0.0.1", 9)), "activity"),
        "urlopen": (lambda: urllib.request.urlopen("http://127.0.0.1:9"), "activity"),
    }
    only_watched = {
        "time.sleep": (lambda: time.sleep(0.001), r"trio\.sleep"),
        "time.time": (time.time, r"now\(\)"),
        "datetime.now": (lambda: datetime.now(UTC), r"now\(\)"),
        "random": (random.random, r"random\(\)"),
        "uuid4": (uuid.uuid4, r"uuid4\(\)"),
    }
    return always | (only_watched if watched else {})


def awaited():
    return {
        "trio.to_thread": lambda: trio.to_thread.run_sync(lambda: 1),
        "anyio.to_thread": lambda: anyio.to_thread.run_sync(lambda: 1),
        "asyncio.sleep": lambda: asyncio.sleep(0.001),
        "trio socket": lambda: trio.open_tcp_stream("127.0.0.1", 9),  # noqa: ASYNC105 - awaited there
        "process": lambda: trio.run_process(["true"]),  # noqa: ASYNC105
        "asyncio.to_thread": lambda: asyncio.to_thread(lambda: 1),
        "trio file": lambda: trio.open_file(__file__),  # noqa: ASYNC105
    }


@pytest.mark.parametrize("name", bad_calls())
async def test_a_call_is_refused_with_what_to_use_instead(cached, name):
    call, instead = bad_calls()[name]
    flows = Registry()

    @flows.workflow(name="bad")
    async def bad() -> None:
        call()

    @flows.workflow
    async def good() -> int:
        return 1

    async with cached.worker(flows) as worker:
        handle = await worker.client.start(bad)
        with pytest.raises(DeterminismError, match=instead) as raised:
            await handle.result()
        assert "test_determinism.py" in str(raised.value) + str(raised.value.__cause__)
        assert (await handle.describe()).status == "failed"
        assert await worker.client.run(good) == 1


@pytest.mark.parametrize("name", awaited())
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
async def test_awaiting_what_is_not_the_workflows_own_is_refused(cached, name):
    call = awaited()[name]
    flows = Registry()

    @flows.workflow(name="bad")
    async def bad() -> None:
        await call()

    async with cached.worker(flows) as worker:
        handle = await worker.client.start(bad)
        with pytest.raises(DeterminismError):
            await handle.result()
        assert (await handle.describe()).status == "failed"


@pytest.mark.filterwarnings("ignore::trioflow.DeterminismWarning")
async def test_the_refusal_is_an_error_that_can_be_handled(cached):
    flows = Registry()

    @flows.workflow
    async def careful() -> str:
        try:
            open(__file__)  # noqa: ASYNC230, SIM115, PTH123 - refused
        except DeterminismError:
            return "caught"

    async with cached.worker(flows) as worker:
        assert await worker.client.run(careful) == "caught"


async def test_an_activity_may_do_all_that(cached):
    flows = Registry()

    @flows.activity
    def free() -> bool:
        time.sleep(0)
        return bool(time.time() + random.random() and pathlib.Path(__file__).exists())

    @flows.activity
    async def free_too() -> bool:
        return await anyio.to_thread.run_sync(lambda: bool(uuid.uuid4()))

    @flows.workflow
    async def work() -> list[bool]:
        return list(await anyio.gather(free(), free_too()))

    async with cached.worker(flows) as worker:
        assert await worker.client.run(work) == [True, True]
