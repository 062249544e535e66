"""What happened while nobody worked is applied in the order of time, as if somebody had."""

# mypy: ignore-errors

from __future__ import annotations

import contextlib
import random

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.driver import START, Driver, act, done, signal
from trioflow import Signal, now, set_status
from trioflow._model import events as ev
from trioflow._model.turns import Cancelled, decode_turn, encode_turn

a = act("a", int)
go = Signal("go", int)


async def timers() -> list[str]:
    out = []

    async def after(seconds, name):
        await trio.sleep(seconds)
        out.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(after, 3, "expire")
        nursery.start_soon(after, 2, "remind")
    return out


def test_deadlines_that_passed_come_in_their_order():
    driver = Driver(timers)
    turn = driver.turn(ev.Woken(), now=START + 20)
    assert driver.check().result() == ["remind", "expire"]
    assert turn.at == []  # nothing happened among them


def test_an_execution_of_older_rules_keeps_its_order():
    driver = Driver(timers, rules=0)
    driver.turn(ev.Woken(), now=START + 20)
    assert driver.check().result() == ["expire", "remind"]


def test_a_sleep_that_ended_within_its_deadline_was_in_time():
    async def wf() -> str:
        with trio.move_on_after(5):
            await trio.sleep(1)
            return "in time"
        return "too late"

    driver = Driver(wf)
    driver.turn(ev.Woken(), now=START + 20)
    assert driver.check().result() == "in time"


async def waits() -> str:
    with trio.move_on_after(5):
        return f"got {await go.receive()}"
    return "too late"


@pytest.mark.parametrize(
    ("came", "outcome", "at"),
    [
        (4.0, "got 1", [START + 4]),
        (5.0, "got 1", [START + 5]),
        (6.0, "too late", []),
        (20.0, "too late", []),
        (25.0, "too late", []),  # not after the present
    ],
)
def test_a_message_was_in_time_if_it_came_before_the_deadline(came, outcome, at):
    driver = Driver(waits)
    turn = driver.turn(signal("go", 1), now=START + 20, at=[START + came])
    assert driver.check().result() == outcome
    assert turn.at == at


def test_times_are_stored_where_they_decide():
    async def wf() -> list[int]:
        got = []
        with trio.move_on_after(5):
            while True:
                got.append(await go.receive())
        return got

    driver = Driver(wf)
    events = [signal("go", 2), signal("go", 1), signal("go", 3), ev.Woken()]
    turn = driver.turn(*events, now=START + 20, at=[START + 4, START + 3, START + 6, START + 20])
    assert driver.check().result() == [1, 2]
    assert [bytes(e.value) for e in turn.events[:3]] == [b"1", b"2", b"3"]
    assert turn.at == [START + 3, START + 4, START + 6, START + 20]
    assert decode_turn(encode_turn(turn)) == turn


def test_the_clock_shows_the_present_and_what_begins_counts_from_it():
    async def wf() -> list[float]:
        seen = []
        await trio.sleep(5)
        seen += [now(), trio.current_time()]
        await trio.sleep(5)
        return [moment - START for moment in [*seen, now()]]

    driver = Driver(wf)
    driver.turn(ev.Woken(), now=START + 20)
    assert driver.execution.wake_at == START + 25
    assert driver.finish().check().result() == [20, 20, 25]


def test_a_deadline_that_is_moved_keeps_its_place():
    async def wf() -> list[int]:
        got = []
        with trio.move_on_after(5) as scope:
            while True:
                got.append(await go.receive())
                scope.deadline += 2
        return got

    driver = Driver(wf)
    events = [signal("go", number) for number in range(4)]
    driver.turn(*events, now=START + 20, at=[START + at for at in (4, 6, 10, 10.5)])
    assert driver.check().result() == [0, 1]


@pytest.mark.parametrize("past", [0.0, -1.0, -float("inf")])
def test_a_deadline_that_is_moved_to_now_comes_at_once(past):
    async def wf() -> list[int]:
        got = []
        with trio.move_on_after(50) as scope:
            while True:
                got.append(await go.receive())
                scope.deadline = trio.current_time() + past
        return [*got, -await go.receive()]

    driver = Driver(wf)
    events = [signal("go", 1), signal("go", 2)]
    driver.turn(*events, now=START + 20, at=[START + 20, START + 20])
    assert driver.check().result() == [1, -2]


def test_messages_at_one_time_keep_their_order_and_come_before_the_deadline():
    async def wf() -> list[int]:
        got = []
        with trio.move_on_after(5):
            while True:
                got.append(await go.receive())
        return got

    driver = Driver(wf)
    events = [signal("go", 1), signal("go", 2), signal("go", 3)]
    driver.turn(*events, now=START + 20, at=[START + 5] * 3)
    assert driver.check().result() == [1, 2, 3]


def test_in_the_first_turn_everything_comes_before_the_code_and_by_time():
    async def wf() -> list[int]:
        return [go.receive_nowait(), go.receive_nowait()]

    driver = Driver(wf)
    begun = driver.turns[0].events[0]
    fresh = driver.fresh()
    events = [begun, signal("go", 2), signal("go", 1)]
    turn = fresh.advance(events, START + 9, at=[START, START + 7, START + 3])
    assert bytes(turn.outcome.result) == b"[1,2]"
    assert turn.at == []


def test_tasks_run_between_what_happened():
    """Two results at once are two things, one after the other."""

    async def wf() -> list[str]:
        order = []

        async def one(name):
            await a()
            order.append(name)
            await trio.lowlevel.checkpoint()
            order.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "first")
            nursery.start_soon(one, "second")
        return order

    driver = Driver(wf)
    driver.turn(done("0.1:0", 1), done("0.0:0", 1))
    assert driver.check().result() == ["second", "second", "first", "first"]


# --- nothing accepted is lost at the end ------------------------------------------------------


async def drains() -> list[int]:
    got = [await go.receive()]
    with contextlib.suppress(trio.WouldBlock):
        while True:
            got.append(go.receive_nowait())
    return got


def test_a_workflow_that_drains_sees_all_of_its_last_turn():
    driver = Driver(drains)
    turn = driver.turn(*[signal("go", n) for n in range(5)])
    assert driver.check().result() == [0, 1, 2, 3, 4]
    assert turn.together_from == 0
    assert turn.at == []


def test_what_came_before_the_end_is_seen_with_what_ended_it():
    async def wf() -> list[int]:
        with trio.move_on_after(5):
            await trio.sleep_forever()
        return await drains()

    driver = Driver(wf)
    events = [signal("other", 0), signal("go", 1), signal("go", 2), signal("go", 3)]
    turn = driver.turn(*events, now=START + 20, at=[START + at for at in (2, 6, 7, 8)])
    assert driver.check().result() == [1, 2, 3]
    assert turn.together_from == 2  # after the other signal, and the deadline
    assert turn.at == [START + at for at in (2, 6, 7, 8)]


def test_a_deadline_that_ends_it_is_not_outrun_by_what_came_later():
    driver = Driver(waits)
    turn = driver.turn(signal("go", 1), now=START + 20, at=[START + 6])
    assert driver.check().result() == "too late"
    assert turn.together_from == 0


def test_a_wake_up_needs_no_eyes():
    driver = Driver(drains)
    turn = driver.turn(signal("go", 1), ev.Woken(), now=START + 1)
    assert driver.check().result() == [1]
    assert turn.together_from == -1


def test_a_cancel_after_the_end_is_too_late():
    async def wf() -> str:
        await trio.sleep(4)
        return "done"

    driver = Driver(wf)
    turn = driver.turn(ev.CancelRequested("?"), now=START + 20, at=[START + 7])
    assert driver.check().result() == "done"
    assert turn.together_from == -1


# --- as if somebody had worked all along --------------------------------------------------


async def waiter(kind, number, seconds, log, flags):
    with trio.move_on_after(seconds):
        match kind:
            case "sleep":
                await trio.sleep_forever()
            case "receive":
                for _ in range(2):
                    log.append((number, await go.receive()))
                    if log[-1][1] % 2:
                        flags[number % len(flags)].set()
            case "flag":
                await flags[number % len(flags)].wait()
                log.append((number, "flag"))
            case "activity":
                log.append((number, await a.options(on_cancel="abandon")()))
    log.append((number, "over"))


KINDS = ("sleep", "receive", "receive", "flag", "activity")


def program(tasks):
    async def wf() -> list:
        log = []
        flags = [trio.Event() for _ in range(2)]
        try:
            async with trio.open_nursery() as nursery:
                for number, (kind, seconds) in enumerate(tasks):
                    nursery.start_soon(waiter, kind, number, seconds, log, flags)
        finally:
            set_status(log)
        return log

    return wf


def history(tasks, happens, wakes):
    """Run a program of which somebody looks after it at some times."""
    driver = Driver(program(tasks), started={"rules": 1})
    waiting = list(happens)
    for moment in wakes:
        due = [item for item in waiting if item[0] <= moment]
        waiting = waiting[len(due) :]
        wake_at = driver.execution.wake_at
        if not due and (wake_at is None or wake_at > moment):
            continue
        events = [event for _, event in due]
        at = [at for at, _ in due]
        if wake_at is not None and wake_at <= moment:
            events.append(ev.Woken())
            at.append(moment)
        driver.turn(*events, now=moment, at=at)
        if driver.outcome is not None:
            break
    status = driver.execution.custom_status
    driver.check()
    driver.evict()
    return type(driver.outcome), status


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 8)), min_size=1, max_size=6),
    st.lists(st.integers(1, 12), unique=True, max_size=6),
    st.none() | st.integers(1, 9),
    st.integers(0, 2**32),
)
def test_downtime_changes_nothing_for_what_had_begun(tasks, signals, cancel, seed):
    chance = random.Random(seed)
    happens = [(START + at, signal("go", number)) for number, at in enumerate(signals)]
    for number, (kind, _) in enumerate(tasks):
        if kind == "activity":
            at = START + chance.randint(1, 9) + 0.5
            happens.append((at, done(f"0.{number}:0", number)))
    if cancel is not None:
        happens.append((START + cancel + 0.25, ev.CancelRequested("enough")))
    happens.sort(key=lambda item: item[0])
    every = sorted({at for at, _ in happens} | {START + seconds for _, seconds in tasks})
    always = history(tasks, happens, [*every, START + 20])
    few = sorted(chance.sample(every, chance.randint(0, len(every))))
    assert history(tasks, happens, [*few, START + 20]) == always
    assert history(tasks, happens, [START + 20]) == always
    assert always[0] is Cancelled or always[1] is not None
