"""What a worker logs: once each, with fields for programs; and who blocks its loop."""

# mypy: ignore-errors

from __future__ import annotations

import ctypes
import logging
import math
import sys
import time

import anyio
import pytest

from tests.worker.flow import until
from trioflow import Registry, RetryPolicy, logger, open_worker
from trioflow._worker.watchdog import Step, Watchdog
from trioflow.backends.records import ActivityKey, ActivityTask

twice = RetryPolicy(max_attempts=2, initial_interval=0.001)
ACTIVITY = ("instance", "execution", "command", "activity", "attempt", "queue")


def of_worker(caplog, level=None):
    return [
        r for r in caplog.records if r.name == "trioflow.worker" and level in (None, r.levelname)
    ]


def blocked(caplog):
    """Those about a loop that is blocked; a busy machine may also stop the watchdog for a while."""
    found = of_worker(caplog, "ERROR")
    return [r for r in found if not r.getMessage().startswith("no Python code has run")]


def until_blocked(caplog, line):
    """Block the loop until a record shows that line, which is the caller's."""
    ended = time.monotonic() + 40
    while not any(line in r.getMessage() for r in blocked(caplog)):
        assert time.monotonic() < ended, "nobody has noticed"
        time.sleep(0.02)
    time.sleep(0.5)  # for a second record, which must not come


def fields(record, names):
    return {name: vars(record)[name] for name in names}


@pytest.mark.parametrize("cache_size", [0, 1000])
async def test_each_record_says_whose_it_is(host, cache_size, caplog):
    caplog.set_level(logging.INFO)
    flows = Registry()

    @flows.activity(retry=twice)
    async def fails() -> None:
        raise OSError("broken")

    @flows.workflow
    async def work() -> None:
        logger.info("begun")
        await anyio.sleep(0.001)
        await fails()

    async with open_worker(
        "memory://",
        registry=flows,
        name="me",
        drain=0,
        cache_size=cache_size,
        stuck_after=math.inf,  # a record that only a slow machine makes
    ) as worker:
        id = worker._registration.id
        with pytest.raises(OSError, match="broken"):
            await worker.client.run(work.options(id="w"))
    assert [r.getMessage() for r in caplog.records].count("begun") == 1
    records = of_worker(caplog)
    assert {(r.worker, r.worker_name) for r in records} == {(id, "me")}
    begins, again, lost, failed, *ends = records
    assert begins.getMessage().startswith(
        f"worker me ({id}) serves memory: 1 workflows of queues default, 1 activities of queues "
        "default; trioflow "
    )
    assert "trio " in begins.getMessage()
    assert (begins.workflows, begins.activities) == ([work.name], [fails.name])
    expected = {
        "instance": "w",
        "execution": 1,
        "command": "0:0",
        "activity": fails.name,
        "attempt": 1,
        "queue": "default",
    }
    assert fields(again, ACTIVITY) == expected
    assert (again.levelname, again.failure) == ("INFO", "OSError")
    assert fields(lost, ACTIVITY) == {**expected, "attempt": 2}
    assert lost.levelname == "ERROR"
    assert fields(failed, ("instance", "workflow", "execution", "status")) == {
        "instance": "w",
        "workflow": work.name,
        "execution": 1,
        "status": "failed",
    }
    assert failed.levelname == "ERROR"
    assert ["takes no more work" in ends[0].getMessage(), "has ended" in ends[1].getMessage()] == [
        True,
        True,
    ]
    assert len(ends) == 2


async def test_the_logger_knows_activities_too(host, caplog):
    flows = Registry()

    @flows.activity
    async def tells() -> None:
        logger.warning("by a coroutine")

    @flows.activity
    def tells_in_a_thread() -> None:
        logger.warning("by a function", extra={"attempt": 77})

    @flows.workflow
    async def work() -> None:
        await tells()
        await tells_in_a_thread()

    async with open_worker("memory://", registry=flows, drain=0) as worker:
        await worker.client.run(work.options(id="w"))
    first, second = (r for r in caplog.records if r.name == "trioflow.workflow")
    assert (first.instance, first.activity, first.attempt) == ("w", tells.name, 1)
    assert (second.instance, second.command, second.attempt) == ("w", "0:1", 77)


async def test_an_activity_that_blocks_the_loop_is_named_once(host, caplog):
    flows = Registry()

    def blocks():
        until_blocked(caplog, "blocks it")  # blocks it

    @flows.activity
    async def rude() -> None:
        await anyio.sleep(0)
        blocks()

    @flows.workflow
    async def work() -> None:
        await rude()

    async with open_worker("memory://", registry=flows, drain=0, stuck_after=0.1) as worker:
        await worker.client.run(work.options(id="w"))
    (record,) = [r for r in blocked(caplog) if "blocks it" in r.getMessage()]
    assert record.getMessage().startswith(
        f"activity {rude.name!r} of instance 'w' (0:0, attempt 1) has been running for "
    )
    assert fields(record, ("instance", "activity", "attempt")) == {
        "instance": "w",
        "activity": rude.name,
        "attempt": 1,
    }
    assert record.worker


async def test_other_code_that_blocks_the_loop_is_shown(host, caplog):
    async with open_worker("memory://", registry=Registry(), drain=0, stuck_after=0.1):
        await anyio.sleep(0.01)
        until_blocked(caplog, "blocks it")  # blocks it
    (record,) = [r for r in blocked(caplog) if "blocks it" in r.getMessage()]
    assert "event loop of this worker has not come round" in record.getMessage()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no usleep")
async def test_native_code_that_keeps_the_lock_is_told_of(caplog):
    flows = Registry()

    @flows.activity
    async def native() -> None:
        ctypes.PyDLL(None).usleep(700_000)

    @flows.workflow
    async def work() -> None:
        await native()

    async with open_worker("memory://", registry=flows, drain=0, stuck_after=0.2) as worker:
        await worker.client.run(work)

        async def told():
            found = [r.getMessage() for r in of_worker(caplog, "ERROR")]
            return [text for text in found if text.startswith("no Python code has run")]

        said = await until(told)
    assert any("in this process for " in text and "had no processor" in text for text in said)


@pytest.mark.parametrize("whose", ["a workflow", "an activity", "nobody"])
def test_who_stood_still_is_named(whose, monkeypatch, caplog):
    host = Clocked()
    step = Step(1, "checkout", "order-7") if whose == "a workflow" else None
    task = ActivityTask(ActivityKey("order-8", 1, "0:0"), "charge", "default", b"", b"", 2, 0.0)
    at = "trioflow._worker.watchdog._task_at"
    monkeypatch.setattr(at, lambda _: task if whose == "an activity" else None)
    dog = Watchdog(host, 1.0, lambda: step)
    dog._looked_at = host.now
    host.now += 10
    dog._look()
    (record,) = of_worker(caplog, "ERROR")
    said = {
        "a workflow": "Its loop is in workflow 'checkout' (instance 'order-7') here:\n",
        "an activity": "Its loop is in activity 'charge' of instance 'order-8' here:\n",
        "nobody": "Its loop is here:\n",
    }
    assert said[whose] in record.getMessage()
    assert "test_who_stood_still_is_named" in record.getMessage(), "the stack"
    named = {"a workflow": "order-7", "an activity": "order-8", "nobody": None}
    assert getattr(record, "instance", None) == named[whose]


class Clocked:
    """A host whose clock and looks a test makes."""

    has_threads = True

    def __init__(self):
        self.now = 0.0
        self.asked = []

    def monotonic(self):
        return self.now

    def call_soon(self):
        return self.asked.append


def test_a_loop_that_waits_is_not_disturbed(monkeypatch):
    host = Clocked()
    dog = Watchdog(host, 1.0, lambda: None)

    def get_events():
        return sys._getframe()

    def busy():
        return sys._getframe()

    monkeypatch.setattr("trioflow._worker.watchdog._frame_of", lambda _: get_events())
    for _ in range(20):
        host.now += 0.25
        dog._look()
    assert host.asked == []
    monkeypatch.setattr("trioflow._worker.watchdog._frame_of", lambda _: busy())
    for _ in range(3):
        host.now += 0.25
        dog._look()
    assert len(host.asked) == 1
    host.asked.pop()()
    host.now += 0.25
    dog._look()
    assert len(host.asked) == 1
