"""Mistakes: each has an error of its own that names the cause, and changes nothing."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from functools import partial

import anyio
import pytest
import trio

from tests.worker.flow import until_parked
from trioflow import (
    ArgumentError,
    DefinitionError,
    InstanceFinished,
    NotInWorkflow,
    Registry,
    Signal,
    UnknownDefinition,
    ValueMismatch,
    continue_as_new,
    info,
    now,
    open_client,
    open_worker,
    send_signal,
    set_status,
    side_effect,
)

number = Signal("number", int)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_a_sync_function_is_no_workflow():
    with pytest.raises(DefinitionError, match="'pay'.*must be an 'async def'"):

        @Registry().workflow
        def pay() -> None:
            pass


def test_a_method_is_no_workflow():
    with pytest.raises(DefinitionError, match=r"'Shop.pay'.* is a method.*Make it a function"):

        class Shop:
            @Registry().workflow
            async def pay(self, amount: int) -> None:
                pass


def test_a_workflow_may_stand_in_a_class_that_is_no_more_than_a_place():
    class Shop:
        @Registry().workflow
        async def pay(amount: int) -> None:  # noqa: N805  # it is none
            pass

    assert Shop.pay.name == "Shop.pay"


def test_a_generator_is_no_activity():
    with pytest.raises(DefinitionError, match="generator"):

        @Registry().activity
        async def pay():
            yield 1


def test_a_name_is_taken_once():
    flows = Registry()

    @flows.activity(name="pay")
    def one() -> None:
        pass

    with pytest.raises(DefinitionError, match=r"'pay'.*taken.*name=\.\.\."):

        @flows.activity(name="pay")
        def two() -> None:
            pass


async def test_types_that_cannot_be_stored_are_found_when_the_worker_starts(cached):
    flows = Registry()

    @flows.workflow
    async def work(lock: threading.Event) -> None:
        pass

    with pytest.raises(DefinitionError, match="work.*'lock'"):
        async with cached.worker(flows):
            pass


async def test_what_only_a_workflow_may_call_says_so_elsewhere():
    flows = Registry()

    @flows.workflow
    async def work() -> None:
        pass

    for call in (
        now,
        info,
        lambda: set_status(1),
        lambda: side_effect(lambda: 1, int),
        continue_as_new,
    ):
        with pytest.raises(NotInWorkflow, match="workflow"):
            call()
    for call in (work, number.receive, lambda: send_signal("x", number, 1)):
        with pytest.raises(NotInWorkflow, match="workflow"):
            await call()


async def test_nothing_is_stored_of_a_start_that_is_refused(flow):
    flows = Registry()

    @flows.workflow
    async def work(n: int) -> int:
        return n

    async with open_client(await flow.backend(), registry=flows) as client:
        for call, error in [
            (lambda: client.start(work, "x"), ArgumentError),
            (lambda: client.start(work), ArgumentError),
            (lambda: client.start("wrk", 1), UnknownDefinition),
            (lambda: client.run(work, 1, 2), ArgumentError),
            (lambda: client.start(work, {1, object()}), ArgumentError),
        ]:
            with pytest.raises(error):
                await call()
        assert await client.count() == 0
        assert await client.stats() == []


def test_bad_options_are_refused():
    flows = Registry()

    @flows.workflow
    async def work() -> None:
        pass

    @flows.activity
    async def act() -> None:
        pass

    for call, says in [
        (lambda: act.options(timeout=0), "timeout"),
        (lambda: act.options(schedule_timeout=-1), "schedule_timeout"),
        (lambda: flows.workflow(max_events=1)(work.fn), "max_events"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()


async def test_mistakes_inside_a_workflow_can_be_caught_and_leave_no_trace(flow):
    flows = Registry()

    @flows.activity
    async def take(n: int) -> int:
        return n

    @flows.workflow
    async def child(n: int) -> int:
        return n

    @flows.workflow
    async def work() -> list[str]:
        caught = []
        for call in (
            lambda: take("x"),
            lambda: child("x"),
            lambda: send_signal("nobody", number, "x"),
        ):
            try:
                await call()
            except (ArgumentError, ValueMismatch) as exc:
                caught.append(type(exc).__name__)
        for call in (lambda: set_status(object()), lambda: side_effect(lambda: "x", int)):
            try:
                call()
            except ValueMismatch:
                caught.append("ValueMismatch")
        caught.append(str(await take(1)))
        await number.receive()
        return caught

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await until_parked(handle, turns=2)
        await handle.signal(number, 1)
        assert await handle.result() == [
            *["ArgumentError", "ArgumentError"],
            *["ValueMismatch", "ValueMismatch", "ValueMismatch", "1"],
        ]
        (execution,) = await handle.history()
        names = [type(c).__name__ for turn in execution.turns for c in turn.commands]
        assert names == ["RecordSideEffect", "RunActivity"]  # the effect did happen
        with pytest.raises(InstanceFinished):
            await handle.signal(number, 2)


async def test_a_failure_of_a_definition_does_not_stop_the_worker(flow, caplog):
    """An instance whose stored input is no longer JSON fails alone."""
    flows = Registry()

    @flows.workflow
    async def work(n: int) -> int:
        return n

    with caplog.at_level(logging.CRITICAL, "trioflow"):
        async with flow.worker(flows) as worker:
            from trioflow.backends.commits import NewInstance  # noqa: PLC0415

            broken = NewInstance("broken", "work", "default", b'{"n": ')
            await worker.client.backend.create([broken])
            with pytest.raises(Exception, match=r"work|truncated|JSON"):
                await worker.client.handle("broken").result(wait_suspended=False)
            assert await worker.client.run(work, 3) == 3


@pytest.mark.parametrize(
    "call",
    [
        partial(trio.sleep_until, NOON),
        partial(trio.sleep, NOON - NOON),
        lambda: in_a_scope(trio.move_on_at, NOON),
        lambda: in_a_scope(trio.fail_after, NOON - NOON),
        lambda: in_a_scope(anyio.move_on_after, NOON - NOON),
        lambda: in_a_task(trio.sleep_until, NOON),
    ],
)
async def test_a_datetime_for_trio_s_time_says_what_to_give(sqlite, call):
    flows = Registry()

    @flows.workflow
    async def work() -> None:
        await call()

    async with sqlite.worker(flows) as worker:
        with pytest.raises((TypeError, ExceptionGroup)) as raised:
            await worker.client.run(work)
        error = raised.value
        while isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        assert any("datetime.timestamp()" in note for note in error.__notes__)


async def in_a_scope(scope, time):
    with scope(time):
        await trio.sleep(1)


async def in_a_task(fn, time):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fn, time)


@pytest.mark.parametrize("signal", ["any", Signal("any")])
async def test_a_signal_that_would_lose_keys_changes_nothing(cached, signal):
    registry = Registry()

    @registry.workflow
    async def waits() -> None:
        await number.receive()

    async with cached.client(registry) as client:
        handle = await client.start(waits)
        with pytest.raises(ValueMismatch, match="'any': of 2 keys 1 would come back"):
            await handle.signal(signal, {1: "one", "1": "eins"})
        assert (await handle.describe()).unread == 0


async def test_a_client_that_waits_without_a_worker_says_so_once(tmp_path, monkeypatch):
    monkeypatch.setattr("trioflow._client.waiters.PATIENCE", 0.01)
    flows = Registry()
    told = []
    said = anyio.Event()

    @flows.workflow
    async def checkout() -> None: ...

    class Hears(logging.Handler):
        def emit(self, record):
            told.append(record.getMessage())
            said.set()

    hears = Hears(logging.WARNING)
    log = logging.getLogger("trioflow.client")
    log.addHandler(hears)
    try:
        async with (
            open_client(f"sqlite:///{tmp_path}/shop.db", registry=flows) as client,
            anyio.create_task_group() as group,
        ):
            handle = await client.start(checkout.options(id="order-7"))
            group.start_soon(handle.result)
            await said.wait()
            async with open_worker(client.backend, registry=flows):
                await handle.result()
    finally:
        log.removeHandler(hears)
    assert len(told) == 1
    assert "waits for instance 'order-7', and no worker runs on the store" in told[0]
