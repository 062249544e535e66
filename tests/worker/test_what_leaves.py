"""Whatever leaves an activity is that attempt's failure, and the worker goes on; but for Ctrl-C."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest

from tests.worker.flow import Flow
from trioflow import (
    JsonCodec,
    Registry,
    RemoteError,
    RetryPolicy,
    WrappedCodec,
    activity_info,
    open_worker,
)

twice = RetryPolicy(max_attempts=2, initial_interval=0, jitter=0)


class Odd(BaseException):
    pass


@pytest.fixture(params=["trio", "asyncio"])
def host(request, tmp_path, harness):
    return Flow("memory", request.param, 1000, tmp_path).of(harness)


async def stray_cancel():
    """Raise the cancel of a scope that is long left."""
    kept = None
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(0)
        except anyio.get_cancelled_exc_class() as exc:
            kept = exc
            raise
    raise kept


async def cancelled_pool():
    """Wait for a task of a library's own that somebody cancels."""
    task = asyncio.ensure_future(asyncio.sleep(10))
    await asyncio.sleep(0)
    task.cancel()
    await task


def raising(error):
    async def fail():
        raise error

    return fail


ERRORS = [
    SystemExit(2),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    asyncio.CancelledError(),
    Odd("odd"),
    BaseExceptionGroup("odd", [SystemExit(1), Odd()]),
]


async def run_failing(host, body, *, in_thread=False):
    """Run an activity that fails with ``body``; return what its workflow saw, and its attempts."""
    flows = Registry()
    attempts = []

    if in_thread:

        @flows.activity(name="fails", retry=twice)
        def fails() -> None:
            attempts.append(activity_info().attempt)
            raise body

    else:

        @flows.activity(name="fails", retry=twice)
        async def fails() -> None:
            attempts.append(activity_info().attempt)
            await body()

    @flows.activity
    async def works() -> int:
        return 7

    @flows.workflow
    async def work() -> tuple[str, int]:
        try:
            await fails()
        except Exception as exc:
            seen = exc.type if isinstance(exc, RemoteError) else type(exc).__name__
        return seen, await works()

    async with host.worker(flows) as worker:
        seen, after = await worker.client.run(work)
    assert after == 7
    return seen, attempts


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_of_whatever_class_it_is(host, error):
    seen, attempts = await run_failing(host, raising(error))
    assert attempts == [1, 2]
    wanted = RuntimeError if isinstance(error, StopIteration) else type(error)
    assert seen.endswith(wanted.__name__.removeprefix("Base"))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_of_a_thread_too(host, error):
    seen, attempts = await run_failing(host, error, in_thread=True)
    assert attempts == [1, 2]
    assert seen.endswith(type(error).__name__.removeprefix("Base"))


async def test_the_cancel_of_another_scope_is_a_failure(host):
    seen, attempts = await run_failing(host, stray_cancel)
    assert attempts == [1, 2]
    assert "Cancelled" in seen


@pytest.mark.parametrize("host", ["asyncio"], indirect=True)
async def test_the_cancel_of_a_librarys_task_is_a_failure(host):
    seen, attempts = await run_failing(host, cancelled_pool)
    assert attempts == [1, 2]
    assert "CancelledError" in seen


@pytest.mark.parametrize("host", ["asyncio"], indirect=True)
async def test_a_task_that_cancels_itself_has_failed(host):
    async def suicide():
        asyncio.current_task().cancel()
        await asyncio.sleep(10)

    seen, attempts = await run_failing(host, suicide)
    assert attempts == [1, 2]
    assert "CancelledError" in seen


@pytest.mark.parametrize("in_group", [False, True])
async def test_ctrl_c_in_an_activity_ends_the_worker_in_order(host, in_group):
    flows = Registry()
    calls = []
    error = KeyboardInterrupt()

    @flows.activity
    async def interrupted() -> int:
        calls.append(activity_info().attempt)
        if len(calls) == 1:
            raise BaseExceptionGroup("some", [error]) if in_group else error
        return 1

    @flows.workflow
    async def work() -> int:
        return await interrupted()

    backend = await host.backend()
    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:  # noqa: PT012
        async with host.worker(flows, backend=backend) as worker:
            await worker.client.start(work.options(id="w"))
            await anyio.sleep_forever()
    assert isinstance(caught.value, BaseExceptionGroup) is in_group
    async with host.worker(flows, backend=backend) as worker:
        assert await worker.client.handle("w", work).result() == 1
    assert calls == [1, 1]


async def test_a_final_failure_is_in_the_log_once_with_ids(host, caplog):
    with caplog.at_level(logging.INFO, "trioflow"):
        await run_failing(host, raising(OSError("nothing there")))
    failed = "failed for good on attempt 2: OSError: nothing there"
    final = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(final) == 1
    assert final[0].getMessage().startswith("activity 'fails' of instance 'work-")
    line = raising.__code__.co_firstlineno + 2
    assert final[0].getMessage().endswith(f"(0:0) {failed} (at {__file__}:{line})")
    retries = [r for r in caplog.records if "next attempt" in r.getMessage()]
    assert [r.levelno for r in retries] == [logging.INFO]
    assert f"1: OSError: nothing there (at {__file__}:{line}); next" in retries[0].getMessage()


async def test_the_traceback_of_a_final_failure_is_in_the_log_once(host, caplog):
    async def fails() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(raising(OSError("nothing there")))

    with caplog.at_level(logging.INFO, "trioflow"):
        await run_failing(host, fails)
    shown = [logging.Formatter().format(record) for record in caplog.records]
    traced = [text for text in shown if "Traceback" in text]
    assert len(traced) == 1
    assert "failed for good" in traced[0]
    assert "Member 1 of the group" in traced[0]
    line = raising.__code__.co_firstlineno + 2
    assert f'File "{__file__}", line {line}, in fail' in traced[0]
    assert [r for r in caplog.records if vars(r).get("traceback")] == [
        r for r in caplog.records if "for good" in r.getMessage()
    ]


async def test_a_codec_keeps_the_traceback_out_of_the_log(caplog):
    flows = Registry()

    @flows.activity(retry=RetryPolicy(max_attempts=1))
    async def fails() -> None:
        try:
            raise KeyError("4711")
        except KeyError as cause:
            raise OSError("broken") from cause

    @flows.workflow
    async def work() -> None:
        await fails()

    codec = WrappedCodec(JsonCodec(), bytes, bytes)
    async with open_worker("memory://", registry=flows, codec=codec) as worker:
        with pytest.raises(OSError, match="broken"):
            await worker.client.run(work)
    shown = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert f"OSError: broken (at {__file__}:" in shown
    assert "Traceback" not in shown
    assert "4711" not in shown


async def test_an_activity_inside_another_is_warned_of_once(host, caplog):
    flows = Registry()

    @flows.activity
    async def inner() -> int:
        return 1

    @flows.activity
    async def outer() -> int:
        return await inner() + await inner()

    @flows.workflow
    async def work() -> int:
        return await outer() + await outer()

    names = f"outer_{host.host}", f"inner_{host.host}"
    outer.name, inner.name = names  # the warning is given once in a process
    flows = Registry()
    flows.add(outer)
    flows.add(inner)
    flows.add(work)
    async with host.worker(flows) as worker:
        assert await worker.client.run(work) == 4
    said = [r.getMessage() for r in caplog.records if "as a part of it" in r.getMessage()]
    assert len(said) == 1
    assert all(repr(name) in said[0] for name in names)


async def test_the_worker_says_when_it_begins_and_ends(host, caplog):
    flows = Registry()

    @flows.activity
    async def act() -> None: ...

    with caplog.at_level(logging.INFO, "trioflow.worker"):
        async with host.worker(flows, queues=["a", "b"], name="me"):
            pass
    begun, drained, ended = (r.getMessage() for r in caplog.records)
    assert "me" in begun
    assert "serves memory: 0 workflows of queues a, b, 1 activities of queues a, b" in begun
    assert "takes no more work; 0 activities have 0 s to end" in drained
    assert "has ended" in ended
