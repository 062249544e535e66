"""When a worker looks into the store again, and which row of the store stands for it."""

# mypy: ignore-errors

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from trioflow._worker.polling import PollTimer
from trioflow._worker.registration import Registration


class Store:
    """A store in which nothing changes."""

    now = staticmethod(trio.current_time)

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
def timer(clock):
    return PollTimer(Store())


async def test_the_earliest_time_counts(timer):
    now = trio.current_time()
    for at in (now + 30, now + 10, None, now + 20):
        timer.look_at(at)
    assert await waited(timer) == pytest.approx(10)


async def test_a_time_in_the_past_leaves_no_wait(timer):
    timer.look_at(trio.current_time() - 1)
    assert await waited(timer) == 0


async def test_a_look_forgets_the_times_of_before(timer):
    timer.look_at(trio.current_time() + 10)
    timer.begin()
    timer.look_at(trio.current_time() + 40)
    assert await waited(timer) == pytest.approx(40)


async def test_an_earlier_time_ends_the_wait_and_a_later_one_does_not(timer):
    timer.look_at(trio.current_time() + 30)
    assert await waited(timer, (timer.look_at, trio.current_time() + 50)) == pytest.approx(30)
    timer.begin()
    timer.look_at(trio.current_time() + 30)
    assert await waited(timer, (timer.look_at, trio.current_time() + 5)) == 0


async def test_a_wait_without_an_end_is_ended_by_a_word(timer):
    timer.look_at(math.inf)
    assert await waited(timer, (timer.look_now,)) == 0
    timer.look_now()  # nobody waits: nothing is left for the next
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


async def test_much_room_ends_the_wait_at_once_and_a_little_soon(timer):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timer.collect_room)
        assert await waited(timer, (timer.see_room, True)) == 0
        assert 0 < await waited(timer, (timer.see_room, False)) < 1
        nursery.cancel_scope.cancel()
