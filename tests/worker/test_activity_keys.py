"""An activity is known by its key, of which the life of its instance is a part."""

# mypy: ignore-errors

from __future__ import annotations

import pytest
import trio
import trio.testing

from trioflow import JsonCodec, Registry
from trioflow._worker.activities.attempts import info_of
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.instances.cancel import Cancels
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.real_host import running_host
from trioflow.backends.commits import NewInstance
from trioflow.backends.records import ActivityKey, ActivityTask


def task(life, *, name="act", instance="i"):
    key = ActivityKey(instance, 1, "0:0", life)
    return ActivityTask(key, name, "default", b'{"life":"%s"}' % life.encode(), b"", 1, 0.0)


def instance(id, life):
    return HeldInstance.born(NewInstance(id, "w", "default", b"[]", life=life))


class Listener:
    def __init__(self):
        self.said = []

    def activity_ended(self, task, event, *, apart=False):
        self.said.append((task.key.life, type(event).__name__))

    def activity_given_back(self, task, attempt, delay, failure):
        self.said.append((task.key.life, "given back"))


pytestmark = pytest.mark.usefixtures("clock")


async def with_runner(body, *, stubborn=False, began=("first", "second")):
    """Run ``body(runner)`` with activities that wait to be cancelled; return what was said."""
    flows, listener = Registry(), Listener()
    lives = []

    @flows.activity
    async def act(life: str) -> str:
        lives.append(life)
        with trio.CancelScope(shield=stubborn):
            await trio.sleep(1 if stubborn else 1000)
        return life

    runner = ActivityRunner(
        host=running_host(),
        registry=flows,
        codec=JsonCodec(),
        now=trio.current_time,
        queues=["default"],
        limit=10,
        threads=1,
        processes=1,
        listener=listener,
        on_room=lambda _: None,
        on_interrupt=lambda _: None,
        begin_transaction=lambda *_: None,
    )
    runner.open()
    for life in ("first", "second"):
        runner.accept(task(life))
    await trio.testing.wait_all_tasks_blocked()
    await body(runner)
    await trio.testing.wait_all_tasks_blocked()
    said = list(listener.said)
    await runner.drain(0)
    assert sorted(lives) == sorted(began)
    return said


async def test_a_cancel_of_one_life_does_not_reach_another():
    async def body(runner):
        assert sorted(key.life for key in runner.in_hand()) == ["first", "second"]
        assert not runner.cancel(task("third").key)
        assert runner.cancel(task("first").key)

    assert await with_runner(body) == [("first", "ActivityCancelled")]


async def test_those_of_one_life_are_dropped():
    async def body(runner):
        cancels = Cancels(runner)
        cancels.given_back(instance("other", "first"))
        cancels.given_back(instance("i", "first"))
        assert runner.in_hand() == [task("second").key]

    assert await with_runner(body) == []


async def test_what_is_dropped_is_no_longer_in_hand_though_it_does_not_stop():
    async def body(runner):
        Cancels(runner).all_lost()
        assert runner.in_hand() == []
        assert not runner.capacity.busy_with("i")
        await trio.sleep(2)

    assert await with_runner(body, stubborn=True) == []


async def test_one_that_comes_again_takes_the_place_of_the_first():
    async def body(runner):
        runner.accept(task("first"))
        assert len(runner.in_hand()) == 2
        await trio.testing.wait_all_tasks_blocked()
        runner.cancel(task("first").key)

    assert await with_runner(body, began=["first", "second", "first"]) == [
        ("first", "ActivityCancelled")
    ]


def test_the_idempotency_key_is_of_the_life_where_there_is_one():
    assert info_of(task("abc")).idempotency_key == "abc/1/0:0"
    assert info_of(task("")).idempotency_key == "i/1/0:0"
