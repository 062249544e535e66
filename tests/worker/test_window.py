"""How many activities a worker holds: simulated with a clock of its own."""

from __future__ import annotations

import pytest

from trioflow._worker.activities.lanes import Lane, Run, ThreadLane
from trioflow._worker.activities.prefetch import Window
from trioflow.backends.records import ActivityKey, ActivityTask

SOON = 0.25


class Worker:
    """Takes what there is room for, and runs it on a simulated processor.

    Args:
        limit: How many may run at once.
        at_once: How many make progress at the same time.
        seconds: How long each takes.
        stall: Seconds that the worker does something else before each.
    """

    def __init__(self, limit, *, at_once, seconds, stall=0.0):
        self.window = Window(limit)
        self.at_once = min(limit, at_once)
        self.seconds = seconds
        self.stall = stall
        self.now = 0.0
        self.waiting = []
        self.running = []
        self.given_back = 0
        self.most_held = 0

    def take(self, backlog):
        taken = min(backlog, self.window.room)
        for _ in range(taken):
            self.window.held += 1
            self.waiting.append((self.now, self.window.total))
        self.most_held = max(self.most_held, self.window.held)
        return taken

    def work(self, backlog, until):
        """Return what is left of a backlog at some time."""
        while self.now < until:
            backlog -= self.take(backlog)
            while self.waiting and len(self.running) < self.at_once:
                came_at, came_after = self.waiting.pop(0)
                self.now += self.stall
                if self.window.begin(came_at, came_after, self.now):
                    surplus = max(0, min(self.window.held - self.window.size, len(self.waiting)))
                    del self.waiting[len(self.waiting) - surplus :]
                    self.window.held -= surplus
                    self.given_back += surplus
                    backlog += surplus
                self.running.append(self.now + self.seconds)
            if not self.running:
                return backlog
            self.now = max(self.now, self.running.pop(0))
            self.window.end(self.seconds)
            self.window.held -= 1
        return backlog


def test_what_keeps_the_processor_busy_is_left_to_others_but_for_a_moment():
    worker = Worker(1000, at_once=1, seconds=0.02)
    worker.work(10_000, 10.0)
    assert worker.window.held <= 2 * SOON / 0.02
    assert worker.given_back >= 900
    held = worker.window.held
    worker.work(10_000, 60.0)
    assert 2 <= worker.window.held <= 2 * held  # it stays so, and never runs dry


def test_little_is_held_of_what_takes_long():
    worker = Worker(1000, at_once=1, seconds=5.0)
    worker.work(10_000, 60.0)
    assert worker.window.held <= 3


def test_what_waits_for_something_is_held_up_to_the_limit():
    worker = Worker(300, at_once=300, seconds=10.0)
    worker.work(10_000, 100.0)
    assert 300 - 300 // 8 <= worker.window.size <= 310
    assert worker.given_back <= 60  # of 3,000


@pytest.mark.parametrize("threads", [4, 40])
def test_of_what_waits_for_a_thread_no_more_is_held_than_there_are_threads(threads):
    worker = Worker(1000, at_once=threads, seconds=1.0)
    worker.work(10_000, 50.0)
    assert threads <= worker.window.size <= 2 * threads


def test_what_is_quick_is_held_several_times_over():
    worker = Worker(100, at_once=1, seconds=0.0001)
    worker.work(100_000, 2.0)
    assert worker.window.size == 500
    assert worker.given_back == 0


def test_what_is_quick_is_kept_though_something_else_delays_it():
    """Others could not begin it sooner: the loop is busy with workflows, not with activities."""
    worker = Worker(1000, at_once=1, seconds=0.00001, stall=0.001)
    worker.work(100_000, 5.0)
    assert worker.most_held >= 1000
    assert worker.given_back == 0


def test_a_single_one_at_a_time_is_no_more_than_that():
    worker = Worker(1, at_once=1, seconds=5.0)
    worker.work(100, 60.0)
    assert worker.most_held == 1


def test_it_grows_again_when_activities_no_longer_wait():
    worker = Worker(1000, at_once=1, seconds=0.02)
    worker.work(10_000, 10.0)
    assert worker.window.size < 50
    worker.at_once, worker.seconds = 1000, 1.0
    worker.work(100_000, 30.0)
    assert worker.window.size >= 1000


def test_it_does_not_grow_untried():
    worker = Worker(1000, at_once=1, seconds=0.02)
    worker.work(10_000, 10.0)
    while worker.waiting or worker.running:
        worker.work(0, worker.now + 1.0)
    size = worker.window.size
    for _ in range(500):
        worker.work(1, worker.now + 0.01)
    assert worker.window.size <= size + 1


def test_what_never_ends_does_not_keep_the_others_out():
    window = Window(1000)
    window.held = 100
    for number in range(50):
        if window.begin(0.0, 0, 0.0 if number < 20 else 1.0):  # the loop stood still for a second
            window.held = min(window.held, window.size)  # the others are given back
        if window.begun == window.held:
            break
    window.short = True
    assert (window.held, window.room, window.is_narrow) == (window.begun, 0, True)
    looks = 0
    while window.held < 1000:
        looks += window.is_narrow
        if window.is_narrow:
            window.widen()
        for _ in range(window.room):
            window.held += 1
            window.begin(2.0, window.total, 2.0)
    assert window.begun == 1000
    assert looks < 20


def test_when_the_store_has_more_some_room_is_left_for_it():
    window = Window(80)
    window.held = 75
    assert window.admits
    window.short = True
    assert not window.admits
    assert (window.room, window.is_worth_asking) == (5, False)
    window.held = 70
    assert (window.room, window.is_worth_asking) == (10, True)
    assert not window.admits
    window.held = 69
    assert window.admits


def runs(*priorities):
    return [
        Run(
            ActivityTask(ActivityKey("a", 1, f"0:{n}"), "x", "q", b"", b"", 1, 0.0, priority=p),
            0.0,
            0,
        )
        for n, p in enumerate(priorities)
    ]


def test_the_highest_priority_begins_first_and_among_equals_the_first():
    lane = Lane(100)
    some = runs(0, 5, -1, 5, 0)
    for run in some:
        lane.add(run)
    assert [lane.next() for _ in range(6)] == [some[n] for n in (1, 3, 0, 4, 2)] + [None]


def test_the_last_to_begin_are_given_back():
    lane = Lane(100)
    some = runs(0, 5, -1, 5, 0)
    for run in some:
        lane.add(run)
    assert lane.surplus(2) == [some[4], some[2]]
    assert lane.surplus(0) == []
    assert lane.remove(some[0])
    assert not lane.remove(some[2])
    assert [lane.next() for _ in range(3)] == [some[1], some[3], None]


def test_a_lane_gives_no_more_than_its_limit_and_few_that_have_not_begun():
    lane = Lane(10)
    for run in runs(*[0] * 30):
        lane.add(run)
    first = [lane.next() for _ in range(12)]
    assert sum(run is not None for run in first) == 8
    lane.fresh = 0
    assert [lane.next() is None for _ in range(3)] == [False, False, True]
    lane.running = 9
    assert lane.next() is not None


def ends(lane, number, *, processor, seconds, late, running=None):
    """Let so many end; there are always as many running as there may be."""
    for _ in range(number):
        lane.running = lane.limit if running is None else running
        lane.ran(processor(lane.running), seconds(lane.running), late)
    return lane.limit


def test_threads_that_compute_are_few():
    lane = ThreadLane(40)
    taking_turns = {"processor": lambda _: 0.02, "seconds": lambda running: 0.02 * running}
    assert ends(lane, 100, **taking_turns, late=0.01) == 2
    assert ends(lane, 100, **taking_turns, late=0.01) == 2
    waiting = {"processor": lambda _: 0.001, "seconds": lambda _: 1.0}
    assert ends(lane, 100, **waiting, late=0.0001) == 40


@pytest.mark.parametrize(
    ("processor", "seconds", "late"),
    [
        pytest.param(0.001, 1.0, 0.05, id="wait, beside a busy loop"),
        pytest.param(0.3, 1.0, 0.0002, id="compute without the lock"),
        pytest.param(0.8, 1.0, 0.05, id="compute, each on a processor"),
        pytest.param(0.0, 0.0, 0.05, id="end at once"),
    ],
)
def test_threads_that_do_not_take_turns_are_many(processor, seconds, late):
    lane = ThreadLane(40)
    assert (
        ends(lane, 100, processor=lambda _: processor, seconds=lambda _: seconds, late=late) == 40
    )


def test_a_single_thread_stays_one():
    lane = ThreadLane(1)
    assert ends(lane, 9, processor=lambda _: 0.1, seconds=lambda _: 1.0, late=1.0, running=20) == 1
