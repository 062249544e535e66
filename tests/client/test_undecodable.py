"""What cannot be decoded is shown as that, in the midst of what can."""

from __future__ import annotations

import sqlite3

import msgspec
import pytest

from tests.worker.flow import Gate, until, until_parked, until_status
from trioflow import (
    CorruptStore,
    InstanceCancelled,
    JsonCodec,
    Registry,
    RetryPolicy,
    Signal,
    Undecodable,
    WrappedCodec,
    continue_as_new,
    open_client,
    set_status,
    side_effect,
)
from trioflow.backends.commits import NewInstance

number = Signal("number", int)
flows = Registry()


@flows.activity
async def double(n: int) -> int:
    return 2 * n


@flows.workflow
async def work(n: int) -> int:
    set_status({"n": n})
    if n < 0:
        raise ValueError("negative")
    return await double(n) + side_effect(lambda: 1, int) + await number.receive()


@flows.workflow
async def twice(again: bool) -> int:
    if again:
        continue_as_new(again=False)
    return 1


@flows.workflow
async def greets(text: str) -> str:
    return text


def flip(data):
    return bytes(byte ^ 0x55 for byte in data)


def change(file, statement, *parameters):
    with sqlite3.connect(file) as connection:
        assert connection.execute(statement, parameters).rowcount == 1
    connection.close()


async def test_an_input_that_is_no_json_is_shown_on_every_store(flow):
    async with flow.client(flows) as client:
        broken = NewInstance("b", "work", "default", b'{"brok')
        await client.backend.create([broken])
        await client.start(work.options(id="a"), 1)
        good, bad = sorted(await client.list(), key=lambda d: d.id)
        assert (good.input, good.undecodable) == ({"n": 1}, {})
        assert isinstance(bad.input, Undecodable)
        assert "JSON" in bad.input.why
        assert bad.undecodable == {"input": bad.input.why}
        assert (bad.status, bad.workflow, bad.queue) == ("running", "work", "default")
        assert await client.handle("b").describe() == bad


@pytest.mark.parametrize(
    ("column", "of", "named"),
    [
        ("input", "done", "input"),
        ("outcome", "done", "outcome"),
        ("outcome", "failed", "outcome"),
        ("outcome", "stopped", "suspension"),
        ("custom_status", "done", "custom_status"),
        ("metadata", "done", "metadata"),
    ],
)
@pytest.mark.parametrize("data", [b'{"brok', b"\xff\xfe", b'"text"', b"[1]"])
async def test_each_part_of_a_row_may_be_broken(sqlite, column, of, named, data):
    async with sqlite.worker(flows) as worker:
        client = worker.client
        done = await client.start(work.options(id="done"), 1)
        await done.signal(number, 1)
        await done.result()
        failed = await client.start(work.options(id="failed"), -1)
        with pytest.raises(ValueError, match="negative"):
            await failed.result()
        stopped = await client.start(work.options(id="stopped"), 2)
        await until_parked(stopped, turns=2)
        change(
            sqlite.file,
            "UPDATE instances SET status = 'suspended', outcome = ? WHERE id = 'stopped'",
            b'{"kind": "diverged", "message": "it did"}',
        )
        before = {d.id: d for d in await client.list()}
        change(sqlite.file, f"UPDATE instances SET {column} = ? WHERE id = ?", data, of)
        after = {d.id: d for d in await client.list()}
        assert after.keys() == before.keys()
        others = before.keys() - {of}
        assert [after[id] for id in others] == [before[id] for id in others]
        if data not in (b'"text"', b"[1]") or named not in ("input", "custom_status"):
            assert list(after[of].undecodable) == [named]
        shown = msgspec.structs.asdict(after[of])
        for field, value in msgspec.structs.asdict(before[of]).items():
            parts = ("result", "failure", "reason") if named == "outcome" else (named,)
            if field not in (*parts, "undecodable"):
                assert shown[field] == value
        assert await client.handle(of).describe() == after[of]
        if column == "outcome":
            with pytest.raises(CorruptStore, match=f"end of instance '{of}' cannot be read"):
                await client.handle(of).result(wait_suspended=False)


@pytest.mark.parametrize("column", ["turns", "events", "ready_at", "priority", "finished_at"])
async def test_a_number_that_is_none_is_shown_as_it_is(sqlite, column):
    async with sqlite.client(flows) as client:
        for id in ("a", "b"):
            await client.start(work.options(id=id), 1)
        change(sqlite.file, f"UPDATE instances SET {column} = 'some' WHERE id = 'a'")
        shown = {d.id: d for d in await client.list()}
        name = "wakes_at" if column == "ready_at" else column
        assert getattr(shown["a"], name) == "some"
        assert shown["a"].input == shown["b"].input == {"n": 1}


async def test_with_another_codec_everything_else_is_shown(cached):
    secret = WrappedCodec(JsonCodec(), flip, flip)
    other = WrappedCodec(JsonCodec(), lambda data: data, lambda data: data)

    async with cached.worker(flows, codec=secret) as worker:
        handle = await worker.client.start(work.options(id="x"), 3)
        await until_parked(handle, turns=2)
        await handle.signal(number, 1)
        assert await handle.result() == 8
        async with open_client(await cached.backend(), registry=flows, codec=other) as client:
            (d,) = await client.list()
            assert d.undecodable.keys() == {"input", "result", "custom_status"}
            assert d.status == "completed"
            (execution,) = await client.handle("x").history()
            assert len(execution.turns) == 3
            (started,) = execution.turns[0].events
            assert isinstance(started.input, Undecodable)
            assert started.workflow == "work"
        (execution,) = await handle.history()
        assert execution.turns[0].events[0].input == {"n": 3}


async def test_a_history_is_readable(cached):
    async with cached.worker(flows) as worker:
        handle = await worker.client.start(work, 3)
        await until_parked(handle, turns=2)
        await handle.signal(number, 1)
        assert await handle.result() == 8
        (execution,) = await handle.history()
        first, second, third = execution.turns
        assert first.events[0].input == {"n": 3}
        assert first.commands[0].input == {"n": 3}
        assert second.events[0].result == 6
        assert second.commands[0].value == 1
        assert third.events[0].value == 1
        assert third.outcome.result == 8
        assert "Raw" not in repr(execution)
        handle = await worker.client.start(twice, True)
        assert await handle.result() == 1
        one, _ = await handle.history()
        assert one.turns[0].outcome.input == {"again": False}


async def test_signals_that_are_carried_over_are_readable(cached):
    @flows.workflow(name=f"carrying {cached.kind} {cached.host}")
    async def carrying(left: int) -> int:
        if left:
            await number.receive()
            continue_as_new(left - 1)
        return await number.receive()

    async with cached.client(flows) as client:
        handle = await client.start(carrying, 1)
        await handle.signal(number, 5)
        await handle.signal(number, 6)
        async with cached.worker(flows):
            assert await handle.result() == 6
            _, second = await handle.history()
            carried = [signal.value for signal in second.turns[0].events[0].carried]
            unread = [e.value for t in second.turns for e in t.events[1:]]
            assert carried + unread == [6]


async def test_a_turn_that_cannot_be_read_stands_in_the_history_as_that(sqlite):
    async with sqlite.worker(flows) as worker:
        handle = await worker.client.start(work, 3)
        await until_parked(handle, turns=2)
        change(sqlite.file, "UPDATE turns SET data = ? WHERE number = 1", b'{"no')
        (execution,) = await handle.history()
        first, second = execution.turns
        assert first.events[0].input == {"n": 3}
        assert isinstance(second, Undecodable)
        assert second.why


async def test_unfinished_activities_are_readable(cached):
    gates, registry = [], Registry()

    @registry.activity(retry=RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=0))
    async def flaky(text: str) -> str:
        if gates[0].entered == 0:
            gates[0].entered += 1
            raise ValueError("not yet")
        await gates[0].wait()
        return text

    @registry.workflow
    async def flow() -> str:
        return await flaky.options(timeout=60)("x")

    gates[:] = [Gate()]
    async with cached.worker(registry) as worker:
        handle = await worker.client.start(flow)

        async def second():
            return gates[0].entered == 2

        await until(second)
        (activity,) = (await handle.describe()).activities
        assert (activity.activity, activity.input) == ("flaky", {"text": "x"})
        assert (activity.attempt, activity.queue) == (2, "default")
        assert activity.options.timeout == 60
        assert (activity.failure.type, activity.failure.message) == ("ValueError", "not yet")
        assert activity.undecodable == {}
        gates[0].open()
        assert await handle.result() == "x"


async def test_an_activity_that_cannot_be_read_is_shown_beside_the_others(sqlite):
    @flows.workflow
    async def elsewhere() -> int:
        return await double.options(queue="nobody", timeout=5)(1)

    async with sqlite.worker(flows) as worker:
        handle = await worker.client.start(elsewhere)
        await until_status(handle, "running")

        async def there():
            return (await handle.describe()).activities

        await until(there)
        for column in ("input", "options", "failure"):
            change(sqlite.file, f"UPDATE activities SET {column} = ?", b'{"no')
        (activity,) = (await handle.describe()).activities
        assert (activity.activity, activity.attempt) == ("double", 1)
        assert activity.undecodable.keys() == {"input", "options", "failure"}
        assert isinstance(activity.input, Undecodable)
        assert (activity.options, activity.failure) == (None, None)


async def test_what_a_wrapped_codec_stored_is_seen_without_it(cached):
    codec = WrappedCodec(JsonCodec(), flip, flip)

    async with cached.worker(flows, codec=codec) as worker, cached.client(flows) as blind:
        handle = await worker.client.start(work, 1)
        await until_parked(handle)
        seen = await blind.handle(handle.id).describe()
        assert set(seen.undecodable) == {"input", "custom_status"}
        for name, why in seen.undecodable.items():
            assert getattr(seen, name) == Undecodable(why)
            assert "stored by another codec" in why
            assert "codec=" in why
        (execution,) = await blind.handle(handle.id).history()
        assert isinstance(execution.turns[0].events[0].input, Undecodable)
        await handle.signal(number, 1)
        assert await handle.result() == 4
        seen = await blind.handle(handle.id).describe()
        assert isinstance(seen.result, Undecodable)
        assert "result" in seen.undecodable
        assert (await handle.describe()).undecodable == {}


async def test_a_text_in_base64_is_a_text(cached):
    async with cached.worker(flows) as worker:
        handle = await worker.client.start(greets, "YQ==")
        assert await handle.result() == "YQ=="
        described = await handle.describe()
        assert (described.result, described.undecodable) == ("YQ==", {})


SECRET = WrappedCodec(JsonCodec(), flip, flip)


@pytest.mark.parametrize(
    "other", [None, WrappedCodec(JsonCodec(), lambda data: data, lambda data: data)]
)
async def test_a_failure_that_cannot_be_read_is_shown_by_its_type_beside_the_others(cached, other):
    async with cached.worker(flows, codec=SECRET) as worker:
        for id, n in (("good", 1), ("bad", -1)):
            await worker.client.start(work.options(id=id), n)
        with pytest.raises(ValueError, match="negative"):
            await worker.client.handle("bad").result()
        await worker.client.handle("good").signal(number, 1)
        await worker.client.handle("good").result()
        backend = await cached.backend()
        async with open_client(backend, registry=flows, codec=other) as client:
            shown = {d.id: d for d in await client.list()}
            assert shown.keys() == {"good", "bad"}
            bad = shown["bad"]
            assert bad.status == "failed"
            assert (bad.failure.type, bad.failure.message) == ("ValueError", "")
            assert "what the stored ValueError says" in bad.undecodable["failure"]
            assert await client.handle("bad").describe() == bad
            (execution,) = await client.handle("bad").history()
            assert execution.turns[-1].outcome.failure.type == "ValueError"


async def test_with_the_codec_failures_and_reasons_are_readable_wherever_they_stand(cached):
    gates, registry = [], Registry()

    @registry.activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.001, jitter=0))
    async def flaky() -> None:
        if gates[0].entered == 0:
            gates[0].entered += 1
            raise ValueError("not yet")
        await gates[0].wait()
        raise KeyError("hello")

    @registry.workflow
    async def child() -> None:
        raise RuntimeError("of a child")

    def fails() -> int:
        raise OSError("of an effect")

    @registry.workflow
    async def flow() -> None:
        for call in (child, flaky):
            with pytest.raises((RuntimeError, KeyError)):
                await call()
        with pytest.raises(OSError, match="effect"):
            side_effect(fails)
        await number.receive()

    gates[:] = [Gate()]
    async with cached.worker(registry, codec=SECRET) as worker:
        handle = await worker.client.start(flow)

        async def second():
            return gates[0].entered == 2

        await until(second)
        (activity,) = (await handle.describe()).activities
        assert (activity.failure.type, activity.failure.message) == ("ValueError", "not yet")
        assert (activity.undecodable, activity.failure.sealed) == ({}, "")
        async with cached.client(registry) as blind:
            (activity,) = (await blind.handle(handle.id).describe()).activities
            assert (activity.failure.type, activity.failure.message) == ("ValueError", "")
            assert activity.undecodable.keys() == {"input", "failure"}
        gates[0].open()
        await until_parked(handle)

        async def waits():
            return not (await handle.describe()).activities

        await until(waits)
        await until_parked(handle)
        await handle.cancel("a secret")
        with pytest.raises(InstanceCancelled, match="a secret"):
            await handle.result()
        (execution,) = await handle.history()
        said = [
            fact.failure.message
            for turn in execution.turns
            for fact in (*turn.events, *turn.commands)
            if getattr(fact, "failure", None) is not None
        ]
        assert said == ["of a child", "'hello'", "of an effect"]
        last = execution.turns[-1]
        assert [last.events[0].reason, last.outcome.reason] == ["a secret", "a secret"]
