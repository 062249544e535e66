"""``heartbeat()``: what activities say of their progress, who sees it, and who must talk."""

# mypy: ignore-errors

from __future__ import annotations

import threading
from dataclasses import dataclass

import anyio
import pytest
import trio

from tests.worker.flow import EPOCH, serving, until
from trioflow import (
    ActivityTimeout,
    Registry,
    RetryPolicy,
    TrioflowError,
    ValueMismatch,
    activity_info,
    heartbeat,
    now,
)
from trioflow._worker.activities.pulse import INTERVAL, Pulse

once = RetryPolicy(max_attempts=1)
twice = RetryPolicy(max_attempts=2, initial_interval=10, jitter=0)


@dataclass
class Rows:
    done: int
    of: int


async def described(handle):
    (activity,) = (await handle.describe()).activities
    return activity


async def test_what_an_attempt_said_last_reaches_describe_and_the_next_attempt(flow):
    flows = Registry()
    said, fail = anyio.Event(), anyio.Event()

    @flows.activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.001))
    async def copy() -> list:
        before = activity_info().heartbeat
        if before is None:
            for done in (1, 2, 3):
                heartbeat(Rows(done, 9))
            said.set()
            await fail.wait()
            heartbeat({"done": 5, "of": 9})
            raise OSError("broken")
        return [before, activity_info().attempt]

    @flows.workflow
    async def work() -> list:
        return await copy()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(work)
        await said.wait()

        async def seen():
            activities = (await handle.describe()).activities
            return activities and activities[0].heartbeat == {"done": 3, "of": 9}

        await until(seen)
        assert (await described(handle)).heartbeat_at is not None
        fail.set()
        assert await handle.result() == [{"done": 5, "of": 9}, 2]


async def test_a_plain_function_says_it_too(cached):
    flows = Registry()
    release = threading.Event()

    @flows.activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.001))
    def copy() -> list:
        before = activity_info().heartbeat
        if before is None:
            heartbeat("at first")
            release.wait(30)
            heartbeat("at last")
            raise OSError("broken")
        return [before]

    @flows.workflow
    async def work() -> list:
        return await copy()

    async with cached.worker(flows) as worker:
        handle = await worker.client.start(work)

        async def seen():
            activities = (await handle.describe()).activities
            return activities and activities[0].heartbeat == "at first"

        await until(seen)
        release.set()
        assert await handle.result() == ["at last"]


async def test_about_one_a_second_is_stored_and_always_the_last_one(backend, monkeypatch):
    flows = Registry()
    stored = []
    commit = backend.commit

    async def counting(worker, units):
        stored.extend(each for unit in units for each in unit.progress)
        return await commit(worker, units)

    monkeypatch.setattr(backend, "commit", counting)

    @flows.activity
    async def talks() -> None:
        for number in range(1000):
            heartbeat(number)
            await trio.sleep(0.01)
        await trio.sleep(5)

    @flows.workflow
    async def work() -> None:
        await talks()

    async with serving(backend, flows) as client:
        handle = await client.start(work)
        await trio.sleep(12)
        seen = await described(handle)
        assert seen.heartbeat == 999
        assert seen.heartbeat_at == pytest.approx(EPOCH + 10, abs=2 * INTERVAL)
        await handle.result()
    assert 10 <= len(stored) <= 13


async def test_many_that_talk_share_their_commits(backend, monkeypatch):
    flows = Registry()
    commits = []
    commit = backend.commit

    async def counting(worker, units):
        commits.append(sum(len(unit.progress) for unit in units))
        return await commit(worker, units)

    @flows.activity
    async def talks() -> None:
        for number in range(100):
            heartbeat(number)
            await trio.sleep(0.1)

    @flows.workflow
    async def work() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(talks)

    async with serving(backend, flows) as client:
        handle = await client.start(work)
        await trio.sleep(0.5)
        monkeypatch.setattr(backend, "commit", counting)
        await trio.sleep(8)
        monkeypatch.undo()
        await handle.result()
    assert sum(commits) >= 7 * 50
    assert len(commits) <= 9


async def test_an_attempt_that_is_silent_for_too_long_is_given_up_and_made_again(backend):
    flows = Registry()
    attempts = []

    @flows.activity(heartbeat_timeout=5, retry=twice)
    async def copies() -> str:
        attempts.append((activity_info().heartbeat, now_in_test()))
        for row in range(3):
            await trio.sleep(4)
            heartbeat(row)
        await trio.sleep(60)
        return "never"

    @flows.workflow
    async def work() -> tuple[str, float]:
        try:
            return await copies(), 0.0
        except ActivityTimeout as exc:
            return str(exc), now() - EPOCH

    def now_in_test():
        return trio.current_time()

    async with serving(backend, flows) as client:
        text, seconds = await client.run(work)
    assert text == (
        "activity 'copies' did not call heartbeat() for longer than its heartbeat_timeout of 5 s "
        "(attempt 2)"
    )
    assert attempts == [(None, pytest.approx(0)), (2, pytest.approx(12 + 5 + 10))]
    assert seconds == pytest.approx(2 * (12 + 5) + 10)


async def test_the_log_says_how_long_it_is_since_the_last_heartbeat(backend, caplog):
    caplog.set_level("INFO")
    flows = Registry()

    @flows.activity(retry=twice)
    async def fails() -> None:
        if activity_info().attempt == 1:
            heartbeat("details are not logged")
        await trio.sleep(7)
        raise OSError("broken")

    @flows.workflow
    async def work() -> None:
        await fails()

    async with serving(backend, flows) as client:
        with pytest.raises(OSError, match="broken"):
            await client.run(work)
    said = [r.getMessage() for r in caplog.records if "broken" in r.getMessage()]
    first, last = said[:2]
    assert first.endswith("next attempt in 10 s; its last heartbeat came 7 s before")
    assert "failed for good on attempt 2: OSError: broken (at " in last
    assert last.endswith(")")
    assert "details" not in caplog.text


async def test_silence_counts_from_the_beginning_and_options_may_set_it(backend):
    flows = Registry()

    @flows.activity(retry=once, heartbeat_timeout=1000)
    async def silent() -> None:
        await trio.sleep_forever()

    @flows.workflow
    async def work() -> float:
        try:
            await silent.options(heartbeat_timeout=3)()
        except ActivityTimeout:
            return now() - EPOCH

    async with serving(backend, flows) as client:
        assert await client.run(work) == pytest.approx(3)


async def test_a_silent_one_that_does_not_stop_is_given_up(backend, caplog):
    flows = Registry()

    @flows.activity(retry=once, heartbeat_timeout=3)
    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(100)
        heartbeat("nobody hears it")

    @flows.workflow
    async def work() -> float:
        try:
            await stubborn()
        except ActivityTimeout:
            return now() - EPOCH

    async with serving(backend, flows) as client:
        assert await client.run(work) == pytest.approx(3.5)
        await trio.sleep(200)
    assert "0.5 s after its heartbeat_timeout of 3 s, and is given up" in caplog.text


async def test_one_that_talks_still_has_its_timeout(backend):
    flows = Registry()

    @flows.activity(retry=once, heartbeat_timeout=3, timeout=20)
    async def talks() -> None:
        while True:
            heartbeat()
            await trio.sleep(1)

    @flows.workflow
    async def work() -> tuple[str, float]:
        try:
            await talks()
        except ActivityTimeout as exc:
            return str(exc), now() - EPOCH

    async with serving(backend, flows) as client:
        text, seconds = await client.run(work)
    assert "took longer than its timeout of 20 s" in text
    assert seconds == pytest.approx(20)


async def test_what_a_dead_worker_s_attempt_said_is_there_for_the_next(sqlite):
    flows = Registry()
    said = anyio.Event()

    @flows.activity
    async def copies() -> list:
        info = activity_info()
        if info.attempt == 1:
            heartbeat(["half"])
            said.set()
            await anyio.sleep_forever()
        return [info.heartbeat, info.attempt]

    @flows.workflow
    async def work() -> list:
        return await copies()

    async with sqlite.worker(flows, lease=0.3) as worker:
        handle = await worker.client.start(work)
        await said.wait()

        async def stored():
            return (await described(handle)).heartbeat == ["half"]

        await until(stored)
        assert await worker.client.backend.reclaim(-1.0)
        assert await handle.result() == [["half"], 2]


async def test_a_drain_passes_on_what_was_said_a_moment_before(backend):
    flows = Registry()
    said = trio.Event()

    @flows.activity
    async def copies() -> object:
        info = activity_info()
        if info.heartbeat is not None:
            return [info.heartbeat, info.attempt]
        heartbeat(1)
        await trio.sleep(0.1)
        heartbeat(2)
        said.set()
        await trio.sleep_forever()

    @flows.workflow
    async def work() -> object:
        return await copies()

    async with serving(backend, flows) as client:
        handle = await client.start(work.options(id="w"))
        await said.wait()
    async with serving(backend, flows) as client:
        assert await client.handle(handle.id).result() == [2, 1]


async def test_details_that_cannot_be_stored_are_refused_where_they_are_given(backend, caplog):
    flows = Registry()
    errors = []

    @flows.activity
    async def confused() -> None:
        try:
            heartbeat(object())
        except ValueMismatch as exc:
            errors.append(str(exc))
        heartbeat("good")
        heartbeat(object())  # nobody wants it at once
        await trio.sleep(5)

    @flows.workflow
    async def work() -> None:
        await confused()

    async with serving(backend, flows) as client:
        handle = await client.start(work)
        await trio.sleep(3)
        assert (await described(handle)).heartbeat == "good"
        await handle.result()
    assert len(errors) == 1
    assert "confused() heartbeat" in errors[0]
    assert caplog.text.count("confused() heartbeat") == 1


async def test_an_activity_that_is_called_directly_may_say_what_it_likes():
    @Registry().activity
    async def talks() -> str:
        heartbeat(object())
        return "done"

    assert await talks() == "done"


async def test_in_a_workflow_it_says_so(backend):
    flows = Registry()

    @flows.workflow
    async def work() -> None:
        heartbeat(1)

    async with serving(backend, flows) as client:
        with pytest.raises(TrioflowError, match="called in a workflow"):
            await client.run(work)


def pulse_of(encode, woken):
    return Pulse(lambda: 0.0, encode, lambda fn: fn() or True, lambda: woken.append(1))


def test_only_what_is_wanted_is_encoded():
    encoded, woken = [], []

    def encode(details):
        encoded.append(details)
        return b"%d" % details

    pulse = pulse_of(encode, woken)
    for number in range(1000):
        pulse.beat(number)
    assert (encoded, woken) == ([0], [1])
    assert pulse.take() == b"999"
    assert (pulse.take(), pulse.quiet) == (None, False)
    assert (pulse.take(), pulse.quiet) == (None, True)
    pulse.beat(7)
    assert (pulse.take(), woken) == (b"7", [1, 1])


def test_what_comes_between_two_looks_is_not_forgotten():
    pulse = pulse_of(lambda details: b"%d" % details, [])
    pulse.beat(1)
    assert pulse.take() == b"1"
    wanted, pulse._wanted = pulse._wanted, False
    pulse.beat(2)  # by a thread that has seen that nothing is wanted…
    pulse._wanted = wanted
    assert pulse.take() == b"2"  # …a moment before something was
