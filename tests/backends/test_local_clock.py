"""The clock of stores without a server."""

from __future__ import annotations

import pytest

from trioflow.backends._common.local_clock import LocalClock
from trioflow.backends.commits import Closing, InstanceCommit, NewInstance, Unit
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite import backend as sqlite
from trioflow.backends.sqlite.backend import SqliteBackend

HOUR = 3600.0
START = 1_700_000_000.0


class Machine:
    """A machine's clocks, set by hand."""

    def __init__(self):
        self.wall = START
        self.passed = 5.0

    def clock(self):
        return LocalClock(lambda: self.wall, lambda: self.passed)

    def sleep(self, seconds):
        self.wall += seconds
        self.passed += seconds


def test_time_goes_on_when_the_machine_is_set_back():
    machine = Machine()
    clock = machine.clock()
    machine.sleep(10.0)
    assert clock() == START + 10
    machine.wall -= HOUR
    assert clock() == START + 10
    machine.sleep(10.0)
    assert clock() == START + 20


def test_the_machine_is_followed_when_it_is_set_ahead():
    machine = Machine()
    clock = machine.clock()
    machine.wall += HOUR
    assert clock() == START + HOUR
    machine.wall -= HOUR
    machine.sleep(1.0)
    assert clock() == START + HOUR + 1


def test_it_gives_at_least_what_it_is_told():
    machine = Machine()
    clock = machine.clock()
    clock.not_before(START + HOUR)
    machine.sleep(1.0)
    assert clock() == START + HOUR + 1
    clock.not_before(START)
    assert clock() == START + HOUR + 1


async def create(backend):
    await backend.create([NewInstance("a", "flow", "q", b"[]")])


async def deliver(backend):
    await create(backend)
    backend.machine.sleep(10.0)
    await backend.send("a", b"event")


async def work(backend):
    await create(backend)
    await backend.register_worker("w", "w")
    await backend.take_instances("w", ("q",), 1)
    backend.machine.sleep(10.0)
    step = InstanceCommit(id="a", execution=1, number=0, turns=[b"{}"], wake_at=2 * START)
    assert await backend.commit("w", [Unit(instances=[step])]) == [None]


async def work_and_go(backend):
    await work(backend)
    await backend.release_worker("w")


async def work_and_die(backend):
    await work(backend)
    assert await backend.reclaim(-1.0) == ["w"]


async def finish(backend):
    await create(backend)
    await backend.register_worker("w", "w")
    await backend.take_instances("w", ("q",), 1)
    backend.machine.sleep(10.0)
    end = Closing("completed", b"{}")
    step = InstanceCommit(id="a", execution=1, number=0, turns=[b"{}"], closing=end)
    assert await backend.commit("w", [Unit(instances=[step])]) == [None]
    await backend.release_worker("w")


@pytest.mark.parametrize("store", [create, deliver, work, work_and_go, work_and_die, finish])
async def test_a_file_opened_anew_gives_nothing_smaller_than_it_holds(tmp_path, monkeypatch, store):
    machine = Machine()

    class Local(LocalClock):
        def __init__(self):
            super().__init__(lambda: machine.wall, lambda: machine.passed)

    monkeypatch.setattr(sqlite, "LocalClock", Local)

    backend = SqliteBackend(tmp_path / "flow.db")
    backend.machine = machine
    await backend.open()
    machine.sleep(10.0)
    await store(backend)
    before = backend.now()
    await backend.aclose()
    machine.wall -= HOUR
    later = SqliteBackend(tmp_path / "flow.db")
    assert later.now() == before - HOUR
    await later.open()
    assert later.now() == before
    machine.sleep(1.0)
    assert later.now() == before + 1
    await later.aclose()


async def test_a_clock_that_is_given_is_read_as_it_is(tmp_path):
    times = [START]

    for backend in (
        SqliteBackend(tmp_path / "flow.db", clock=lambda: times[0]),
        MemoryBackend(clock=lambda: times[0]),
    ):
        times[0] = START
        await backend.open()
        await create(backend)
        times[0] = START - HOUR
        assert backend.now() == START - HOUR
        await backend.aclose()
