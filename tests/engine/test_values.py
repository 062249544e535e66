"""What a workflow reads and publishes is the same on replay: side effects, chance, clock, info."""

# mypy: ignore-errors

from __future__ import annotations

import datetime as dt
import uuid

import pytest
import trio

import trioflow
from tests.engine.driver import START, Driver, act, child_done, done
from trioflow import (
    Signal,
    continue_as_new,
    info,
    now,
    send_signal,
    set_status,
    side_effect,
    uuid4,
)
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.commands import RecordSideEffect
from trioflow._model.turns import Completed, Continued
from trioflow._model.workflows import Workflow
from trioflow.errors import ArgumentError, NotInWorkflow, PayloadTooLarge, ValueMismatch

a, b = act("a", int), act("b", int)


def test_a_side_effect_runs_once_and_is_recorded(drive):
    ran = []

    def effect() -> int:
        ran.append(len(ran) + 41)
        return ran[-1]

    async def wf():
        return [side_effect(effect), await a(), side_effect(effect), side_effect(lambda: "x", str)]

    driver = drive(wf)
    assert [bytes(c.value) for c in driver.last.commands if isinstance(c, RecordSideEffect)] == [
        b"41"
    ]
    driver.turn(done("0:0", 0), done("0:1", 1))
    assert driver.check().result() == [41, 1, 42, "x"]
    assert ran == [41, 42]
    assert driver.ids == ["0:0", "0:1", "0:2", "0:3"]


def test_a_side_effects_value_has_the_declared_type_live_and_on_replay(drive):
    day = dt.date(2020, 2, 3)

    def annotated() -> dt.date:
        return day

    async def wf():
        seen = [side_effect(annotated), side_effect(lambda: day, dt.date)]
        seen.append(side_effect(lambda: (1, 2), tuple[int, int]))
        await a()
        return [type(value).__name__ for value in seen]

    driver = drive(wf)
    driver.turn(done("0:3", 1))
    assert driver.check().result() == ["date", "date", "tuple"]


@pytest.mark.parametrize("evict", [False, True])
def test_a_side_effect_that_fails_fails_again_on_replay_without_running(evict):
    ran = []

    def fails():
        ran.append(1)
        raise KeyError("gone")

    async def wf():
        seen = []
        bad = ((fails, None), (lambda: "x", int), (lambda: {1, 2}, None), (object, None))
        for effect, type_ in bad:
            try:
                side_effect(effect, type_)
            except (KeyError, ValueMismatch, ArgumentError) as error:
                seen.append(type(error).__name__)
        seen.append(await a())
        return seen

    driver = Driver(wf, evict_always=evict).finish(a=lambda: 5).check()
    assert driver.result() == ["KeyError", "ValueMismatch", "ArgumentError", "ValueMismatch", 5]
    assert ran == [1]


def test_chance_belongs_to_the_task_and_replays(drive):
    async def wf():
        drawn = {}

        async def draws(name, first):
            if first:
                await a()
            chance = trioflow.random()
            drawn[name] = [chance.random(), trioflow.random().randint(0, 10**9), str(uuid4())]
            await b()
            drawn[name].append(str(uuid4()))

        async with trio.open_nursery() as nursery:
            for name in "xy":
                nursery.start_soon(draws, name, name == "x")
        return drawn

    one = drive(wf).finish(a=lambda: 1, b=lambda: 1).check().result()
    other_order = drive(wf)
    for id in ("0.1:0", "0.0:0", "0.0:1"):
        other_order.turn(done(id, 1))
    assert other_order.check().result() == one
    assert one["x"] != one["y"]
    assert len({text for texts in one.values() for text in texts[2:]}) == 4
    assert all(uuid.UUID(text).version == 4 for texts in one.values() for text in texts[2:])
    elsewhere = drive(wf, id="other").finish(a=lambda: 1, b=lambda: 1).result()
    again = drive(wf, number=2).finish(a=lambda: 1, b=lambda: 1).result()
    assert one != elsewhere != again != one


def test_the_clock_stands_still_within_a_turn(drive):
    async def wf():
        seen = [now(), trio.current_time()]
        await a()
        return [*seen, now(), trio.current_time()]

    driver = drive(wf)
    driver.turn(done("0:0", 1), now=START + 2.5)
    assert driver.check().result() == [START, START, START + 2.5, START + 2.5]


def test_info_is_the_same_on_replay(drive):
    seen = []

    async def wf():
        for _ in range(3):
            seen.append(info())
            await a()
        return [[i.turns, i.events] for i in (*seen[-3:], info())]

    parent = ev.ParentRef("mum", 2, "0:7")
    started = {"parent": parent, "metadata": {"k": "v"}}
    driver = drive(wf, id="kid", number=4, queue="q", started=started)
    driver.finish(a=lambda: 1)
    driver.check()
    assert driver.result() == [[0, 0], [1, 2], [2, 4], [3, 6]]
    first = seen[0]
    assert (first.id, first.execution, first.queue) == ("kid", 4, "q")
    assert (first.workflow, first.parent) == (driver.workflow.name, parent)
    assert first.metadata == {"k": "v"}
    assert first.started_at == START
    assert first in seen[3:]


def test_the_history_is_counted_in_events_and_commands(drive):
    async def wf():
        side_effect(lambda: 1, int)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a)
            nursery.start_soon(b)
        return info().events

    driver = drive(wf)
    assert driver.execution.events == 4
    driver.turn(done("0.0:0", 1))
    assert driver.execution.events == 5
    driver.turn(done("0.1:0", 1))
    assert driver.check().result() == 5
    assert driver.execution.events == 6


def test_a_long_history_should_be_continued():
    async def wf():
        while not info().should_continue_as_new:
            await a()
        return info().events

    driver = Driver(Workflow(wf, max_events=100)).finish(a=lambda: 1).check()
    assert driver.result() == 80


def test_the_last_status_of_a_turn_is_published(drive):
    async def wf():
        set_status("one")
        set_status({"two": 2})
        await a()
        await b()
        set_status([3])
        with pytest.raises(ValueMismatch):
            set_status(object())

    driver = drive(wf)
    assert driver.execution.custom_status == b'{"two":2}'
    driver.execution.custom_status = None
    driver.turn(done("0:0", 1))
    assert driver.execution.custom_status in (None, b'{"two":2}')  # a replay sets it anew
    driver.turn(done("0:1", 1))
    assert driver.execution.custom_status == b"[3]"


def test_continuing_as_new(drive):
    async def wf(count: int, *, word: str = "x"):
        await a()
        continue_as_new(count + 1, word="y")

    driver = drive(wf, 1).finish(a=lambda: 1).check()
    assert isinstance(driver.outcome, Continued)
    assert bytes(driver.outcome.input) == b'{"count":2,"word":"y"}'


def test_continuing_as_new_from_within_nurseries_cancels_the_rest(drive):
    async def wf(count: int):
        async with trio.open_nursery(), trio.open_nursery() as inner:
            inner.start_soon(a)
            inner.start_soon(trio.sleep_forever)
            inner.start_soon(ends, count)

    async def ends(count):
        await b()
        continue_as_new(count + 1)

    driver = drive(wf, 1)
    driver.turn(done("0.2:0", 1))
    assert driver.outcome is None
    driver.turn(ev.ActivityCancelled(id="0.0:0"))
    assert isinstance(driver.check().outcome, Continued)


def test_continuing_with_bad_arguments_goes_on(drive):
    async def wf(count: int):
        for bad in (("x",), (), (1, 2)):
            with pytest.raises(ArgumentError, match="continue_as_new"):
                continue_as_new(*bad)
        return "went on"

    assert drive(wf, 1).check().result() == "went on"


@pytest.mark.parametrize("first", [0, 1])
def test_continuing_next_to_a_failure_is_a_failure(drive, first):
    async def wf():
        async with trio.open_nursery() as nursery:
            for task in (fails, continues)[first:] + (fails, continues)[:first]:
                nursery.start_soon(task)

    async def fails():
        raise KeyError("x")

    async def continues():
        continue_as_new()

    driver = drive(wf).check()
    assert driver.outcome.failure.type.endswith("ExceptionGroup")


@pytest.mark.parametrize("call", [now, uuid4, trioflow.random, info, continue_as_new])
def test_outside_of_a_workflow_these_are_errors(call):
    with pytest.raises(NotInWorkflow, match=call.__name__):
        call()
    assert trioflow.is_replaying() is False


def test_is_replaying_tells_which_code_ran_before():
    seen = []

    async def wf():
        seen.append(trioflow.is_replaying())
        await a()
        seen.append(trioflow.is_replaying())

    driver = Driver(wf, evict_always=True).finish(a=lambda: 1)
    assert seen == [False, True, False]
    assert isinstance(driver.outcome, Completed)


def test_what_is_over_the_limit_of_a_turn_is_refused_alike_on_replay(drive):
    text = "x" * 1_500_000

    async def wf():
        given = []
        for turn in range(2):
            for number in range(4):
                try:
                    given.append(len(side_effect(lambda: text, str)) + number + turn)
                except PayloadTooLarge:
                    given.append("too large")
            await a()
        return given

    driver = drive(wf)
    driver.turn(done("0:4", 1))
    driver.turn(done("0:9", 1))
    no = "too large"
    first, second = [1_500_000, 1_500_001, no, no], [1_500_001, 1_500_002, no, no]
    assert driver.check().result() == first + second


def test_what_is_over_the_limit_of_a_turn_is_refused_alike_on_replay_of_calls(drive):
    text = "x" * 1_500_000

    async def wf():
        refused = []

        async def call(number):
            try:
                await (send if number % 2 else child)(text)
            except PayloadTooLarge:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(call, number)
        return refused

    @Workflow
    async def child(text: str) -> None:
        pass

    @Activity
    async def send(text: str) -> None:
        pass

    driver = drive(wf)
    driver.turn(child_done("0.0:0"))
    driver.turn(done("0.1:0"))
    assert driver.check().result() == [2, 3]


def test_side_effects_and_signals_count_on_replay_too(drive):
    text = "x" * 1_500_000

    @Activity
    async def send(text: str) -> None:
        pass

    async def wf():
        said = []

        async def attempt():
            try:
                await send(text)
            except PayloadTooLarge:
                said.append("refused")

        side_effect(lambda: text, str)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_signal, "other", Signal("text", str), text)
            nursery.start_soon(attempt)
        return said

    driver = drive(wf)
    driver.turn(ev.SignalSent("0.0:0"))
    assert driver.check().result() == ["refused"]


def test_a_task_that_is_nested_too_deeply_is_told_so(drive):
    async def wf():
        async def nest(depth):
            if depth == 0:
                side_effect(lambda: 1, int)
                return
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(trio.sleep, 0)
                nursery.start_soon(nest, depth - 1)  # the number 10

        try:
            await nest(100)
        except BaseExceptionGroup as group:
            error = group
            while isinstance(error, BaseExceptionGroup):
                (error,) = error.exceptions
            await a()
            return str(error)

    driver = drive(wf)
    driver.turn(done("0:0", 1))
    assert "is called in a task that is nested too deeply" in driver.check().result()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({1: "one", "1": "eins"}, "set_status(): of 2 keys 1 would come back"),
        ({"a": [{1: "one", "1": "eins"}]}, "set_status(): of 2 keys 1 would come back"),
    ],
)
def test_a_status_that_would_lose_keys_is_refused_at_the_call(drive, value, says):
    async def wf():
        set_status("before")
        with pytest.raises(ValueMismatch) as caught:
            set_status(value)
        return [str(caught.value)[: len(says)], await a()]

    driver = drive(wf)
    assert driver.execution.custom_status == b'"before"'
    driver.turn(done("0:0", 1))
    assert driver.check().result() == [says, 1]


@pytest.mark.parametrize("levels", [101, 900, 5_000])
def test_values_that_are_nested_too_deeply_are_refused_where_they_are_given(drive, levels):
    deep = []
    for _ in range(levels - 1):
        deep = [deep]

    async def wf():
        for call in (
            lambda: set_status(deep),
            lambda: side_effect(lambda: deep),
            lambda: side_effect(lambda: deep, list),
        ):
            with pytest.raises(ValueMismatch, match="more than 100 levels deep"):
                call()
        with pytest.raises(ValueMismatch, match="more than 100 levels deep"):
            await send_signal("other", Signal("s", list), deep)
        await a()
        return deep

    driver = drive(wf)
    driver.turn(done("0:3", 1))
    failure = driver.check().outcome.failure
    assert failure.type.endswith("ValueMismatch")
    assert "more than 100 levels deep" in failure.message
