"""When a worker looks into the store again, and which row of the store stands for it."""

# mypy: ignore-errors

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from trioflow._worker.polling import PollTimer
from trioflow._worker.registration import Registration
from trioflow.backends._common.watching import Watcher


class Store:
    """A store whose changes the test tells of."""

    now = staticmethod(trio.current_time)

    def __init__(self):
        self.watcher = Watcher()
        self.changes = lambda: self.watcher.number

    def changed(self, what, since, worker=""):
        return self.watcher.changed(what, since, worker)

    async def wait_change(self, seen, timeout):
        await trio.sleep(timeout)


async def waited(timer, *then):
    """Wait, and do meanwhile what is given; return for how long that was."""
    began_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.wait, 1)
        await trio.testing.wait_all_tasks_blocked()
        for call, *args in then:
            call(*args)
    return trio.current_time() - began_at


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def timer(clock, store):
    return PollTimer(store)


def look(timer, store, *, sees_all=True):
    """Look for what is due, as a worker does; return what it was."""
    seen = store.changes()
    due = timer.begin("me")
    for kind in due if sees_all else ():
        timer.saw_all(kind, seen)
    return due


async def test_the_earliest_time_counts(timer):
    now = trio.current_time()
    for at in (now + 30, now + 10, None, now + 20):
        timer.look_at(at)
    assert await waited(timer) == pytest.approx(10)


async def test_the_stores_clock_may_go_ahead_of_the_loops(timer, store):
    began_at = trio.current_time()
    timer.look_at(began_at + 600)

    async def sleep_for_a_while():
        await trio.sleep(5)
        store.now = lambda: began_at + 590  # as when the machine slept
        timer.follow_clock()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep_for_a_while)
        assert await waited(timer) == pytest.approx(15)


async def test_a_time_in_the_past_leaves_no_wait(timer):
    timer.look_at(trio.current_time() - 1)
    assert await waited(timer) == 0


async def test_a_look_forgets_the_times_of_before(timer):
    timer.look_at(trio.current_time() + 10)
    timer.begin("me")
    timer.look_at(trio.current_time() + 40)
    assert await waited(timer) == pytest.approx(40)


async def test_an_earlier_time_shortens_the_wait_and_a_later_one_does_not(timer):
    timer.look_at(trio.current_time() + 30)
    assert await waited(timer, (timer.look_at, trio.current_time() + 50)) == pytest.approx(30)
    timer.begin("me")
    timer.look_at(trio.current_time() + 30)
    assert await waited(timer, (timer.look_at, trio.current_time() + 5)) == pytest.approx(5)
    timer.begin("me")
    timer.look_at(math.inf)
    assert await waited(timer, (timer.look_at, trio.current_time() - 5)) == 0


async def test_only_what_may_have_come_is_looked_for(timer, store):
    assert look(timer, store) == ["instances", "activities"]
    assert look(timer, store) == []
    store.watcher.notify(("activities",))
    assert look(timer, store) == ["activities"]
    store.watcher.notify(("outcomes",))
    assert look(timer, store) == []
    store.watcher.notify()
    assert look(timer, store) == ["instances", "activities"]


async def test_what_the_worker_has_parked_is_no_news_to_it(timer, store):
    look(timer, store)
    store.watcher.notify(("instances",), "me")
    store.watcher.notify(("instances",), "me")
    assert look(timer, store) == []
    store.watcher.notify(("instances",), "other")
    store.watcher.notify(("instances",), "me")
    assert look(timer, store) == ["instances"]
    store.watcher.notify(("instances",), "other")
    assert look(timer, store) == ["instances"]
    store.watcher.notify(("instances",), "me")
    assert look(timer, store) == []


async def test_what_was_not_seen_whole_is_looked_for_again(timer, store):
    look(timer, store, sees_all=False)
    assert look(timer, store) == ["instances", "activities"]
    assert look(timer, store) == []


async def test_a_time_is_of_one_kind(timer, store):
    look(timer, store)
    timer.look_at(trio.current_time() + 10, "activities")
    timer.look_at(trio.current_time() + 30, "instances")
    assert await waited(timer) == pytest.approx(10)
    assert look(timer, store) == ["activities"]
    assert await waited(timer) == pytest.approx(20)
    assert look(timer, store) == ["instances"]
    timer.look_now()
    assert look(timer, store) == ["instances", "activities"]


async def test_a_store_whose_clock_is_behind_is_asked_when_the_time_has_passed_here(timer, store):
    look(timer, store)
    timer.look_at(trio.current_time() + 10, "instances")
    assert await waited(timer) == pytest.approx(10)
    store.now = lambda: trio.current_time() - 1e-3
    assert look(timer, store) == ["instances"]


async def test_where_a_store_knows_no_kinds_each_change_is_of_all(clock):
    class Plain:
        now = staticmethod(trio.current_time)
        number = 0

        def changes(self):
            return self.number

    store = Plain()
    timer = PollTimer(store)
    look(timer, store)
    assert look(timer, store) == []
    store.number += 1
    assert look(timer, store) == ["instances", "activities"]


async def test_a_wait_without_an_end_is_ended_by_a_word(timer, store):
    look(timer, store)
    assert await waited(timer, (timer.look_now,)) == 0
    look(timer, store)
    timer.look_at(trio.current_time() + 3)
    assert await waited(timer) == pytest.approx(3)


async def test_a_word_while_the_store_is_asked_ends_the_next_wait(timer, store):
    seen = store.changes()
    for kind in timer.begin("me"):
        timer.saw_all(kind, seen)
    timer.look_now()
    assert await waited(timer) == 0
    assert look(timer, store) == ["instances", "activities"]
    timer.look_at(trio.current_time() + 3)
    assert await waited(timer) == pytest.approx(3)


async def test_a_lost_registration_is_lost_until_it_is_renewed():
    registration = Registration()
    registration.lose()
    registration.lose()
    await registration.wait_lost()
    await registration.wait_lost()
    registration.renewed()
    with trio.move_on_after(0) as waited:
        await registration.wait_lost()
    assert waited.cancelled_caught


async def test_much_room_ends_the_wait_at_once_and_a_little_soon(timer, store):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.collect_room)
        look(timer, store)
        assert await waited(timer, (timer.see_room, True)) == 0
        look(timer, store)
        assert 0 < await waited(timer, (timer.see_room, False)) < 1
        nursery.cancel_scope.cancel()
