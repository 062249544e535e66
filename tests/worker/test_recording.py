"""Observers that record in a thread of their own."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading

import anyio.to_thread
import pytest
import trio
import trio.testing

from trioflow import Registry, _observe, _recording, open_client, open_worker
from trioflow._observe import Observers
from trioflow._recording import BackgroundObserver
from trioflow.backends.memory import MemoryBackend
from trioflow.observers import ExecutionEnded, InstanceCreated, LeaseWasLost

flows = Registry()


@flows.workflow
async def part(number: int) -> int:
    return number


class Notes(BackgroundObserver):
    """Notes what it records, and in which threads; holds the first while ``open`` is not set."""

    def __init__(self, limit=1000, *, is_open=True):
        super().__init__(limit)
        self.items, self.dropped_before, self.threads = [], 0, set()
        self.began, self.open = threading.Event(), threading.Event()
        if is_open:
            self.open.set()

    def _record(self, items, dropped):
        self.began.set()
        assert self.open.wait(30)
        self.threads.add(threading.current_thread())
        self.items += items
        self.dropped_before += dropped


class Broken(Notes):
    def _record(self, items, dropped):
        super()._record(items, dropped)
        raise SystemExit("no disk")

    def __repr__(self):
        return "<Broken>"


def lost(number):
    return LeaseWasLost(worker=str(number), name="")


@pytest.fixture
def held_back(monkeypatch):
    """Nothing is recorded before somebody asks for it."""
    monkeypatch.setattr(_recording, "_GATHERING", 60.0)


def test_everything_is_recorded_in_its_order_in_another_thread():
    notes = Notes()
    told = [lost(number) for number in range(900)]
    observers = Observers([notes])
    for observation in told:
        observers.tell(observation)
    while len(notes.items) < len(told):
        assert notes.began.wait(30)
    assert notes.items == told
    assert threading.current_thread() not in notes.threads


def test_several_threads_tell_and_flush_at_once():
    notes = Notes(100_000)
    observers = Observers([notes])

    def tell(which):
        for number in range(500):
            observers.tell(lost(f"{which}-{number}"))
            if number % 100 == 0:
                notes.flush()

    threads = [threading.Thread(target=tell, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert notes.flush()
    for which in range(4):
        mine = [each.worker for each in notes.items if each.worker.startswith(f"{which}-")]
        assert mine == [f"{which}-{number}" for number in range(500)]


@pytest.mark.usefixtures("held_back")
def test_what_is_too_much_is_dropped_and_counted(caplog):
    notes = Notes(limit=3)
    observers = Observers([notes])
    for number in range(5):
        observers.tell(lost(number))
    assert notes.dropped == 2
    assert notes.flush()
    assert notes.items == [lost(0), lost(1), lost(2)]
    assert notes.dropped_before == 2
    observers.tell(lost(5))
    notes.flush()
    assert notes.items[-1] == lost(5)
    assert notes.dropped_before == 2
    (warning,) = caplog.records
    assert "cannot record as quickly as things happen: 3 observations wait" in warning.getMessage()
    with pytest.raises(ValueError, match="limit: at least 1 is needed, not 0"):
        Notes(limit=0)


def test_whoever_tells_never_waits_for_what_is_recorded():
    notes = Notes(is_open=False)
    observers = Observers([notes])
    observers.tell(lost(1))
    assert notes.began.wait(30)
    observers.tell(lost(2))  # while the thread records the first
    assert notes.items == []
    assert not notes.flush(timeout=0.0)
    notes.open.set()
    assert notes.flush()
    assert notes.items == [lost(1), lost(2)]


@pytest.mark.usefixtures("held_back")
def test_whoever_has_little_time_is_not_kept_by_many_that_take_long(monkeypatch):
    class Slow(Notes):
        def _record(self, items, dropped):
            super()._record(items, dropped)
            self.now += len(items)

    notes = Slow()
    notes.now = 0.0
    monkeypatch.setattr(_recording.time, "monotonic", lambda: notes.now)
    for number in range(100):
        notes.observe(lost(number))
    assert not notes.flush(timeout=5.0)
    assert len(notes.items) == _recording._IN_TIME
    assert notes.flush()
    assert len(notes.items) == 100


def test_a_failure_is_logged_once_and_what_follows_is_recorded(caplog):
    broken = Broken()
    for number in range(3):
        broken.observe(lost(number))
        broken.flush()
    assert broken.items == [lost(0), lost(1), lost(2)]
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    (error,) = errors
    assert error.getMessage().startswith("observer <Broken> failed to record what it was told")
    assert "no disk" in caplog.text


@pytest.mark.usefixtures("held_back")
async def test_a_worker_and_a_client_have_it_recorded_at_their_end(host):
    worker_notes, client_notes = Notes(), Notes()
    store = MemoryBackend()
    async with open_worker(store, registry=flows, observers=[worker_notes]) as worker:
        assert await worker.client.run(part, 3) == 3
        assert worker_notes.items == []
    assert any(isinstance(each, ExecutionEnded) for each in worker_notes.items)
    async with open_client(store, registry=flows, observers=[client_notes]) as client:
        await client.start(part, 3)
        assert client_notes.items == []
    (created,) = client_notes.items
    assert isinstance(created, InstanceCreated)
    assert threading.main_thread() not in worker_notes.threads | client_notes.threads
    await store.aclose()


def test_without_a_thread_each_is_recorded_at_once(monkeypatch):
    def no_thread(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    notes = Notes()
    for number in range(2):
        notes.observe(lost(number))
        assert len(notes.items) == number + 1


@pytest.mark.usefixtures("held_back")
async def test_a_worker_ends_though_no_thread_is_left_for_others():
    notes, end = Notes(), threading.Event()
    limiter = trio.to_thread.current_default_thread_limiter()
    async with trio.open_nursery() as nursery:
        for _ in range(int(limiter.available_tokens)):
            nursery.start_soon(trio.to_thread.run_sync, end.wait, 30)
        await trio.testing.wait_all_tasks_blocked()
        assert not limiter.available_tokens
        async with open_worker("memory://", registry=flows, observers=[notes]) as worker:
            assert await worker.client.run(part, 3) == 3
        assert any(isinstance(each, ExecutionEnded) for each in notes.items)
        assert not limiter.available_tokens
        end.set()


async def test_flush_of_an_observer_of_ones_own_is_called_too(caplog):
    class Own:
        flushed = 0

        def observe(self, observation):
            pass

        def flush(self, *, timeout):
            self.flushed += 1
            raise OSError("no disk")

    own = Own()
    async with open_worker("memory://", registry=flows, observers=[own]) as worker:
        await worker.client.run(part, 3)
    assert own.flushed == 1
    assert "failed to record what it was told" in caplog.text


class Ends:
    """Does something when the worker ends."""

    def __init__(self, flush):
        self.flush = flush

    def observe(self, observation):
        pass


async def test_what_leaves_flush_ends_no_worker(host, caplog):
    def leave(*, timeout):
        raise SystemExit(3)

    notes = Notes()
    async with open_worker("memory://", registry=flows, observers=[Ends(leave), notes]) as worker:
        await worker.client.run(part, 3)
    assert "failed to record what it was told" in caplog.text
    assert any(isinstance(each, ExecutionEnded) for each in notes.items)


async def test_a_worker_ends_though_a_flush_does_not(host, monkeypatch, caplog):
    monkeypatch.setattr(_observe, "_LONGEST_FLUSH", 0.01)
    end = threading.Event()
    stuck = Ends(end.wait)
    async with open_worker("memory://", registry=flows, observers=[stuck]) as worker:
        await worker.client.run(part, 3)
    assert "does not end recording" in caplog.text
    end.set()


async def test_what_could_not_be_recorded_in_time_is_told(caplog):
    late = Ends(lambda *, timeout: False)
    async with open_worker("memory://", registry=flows, observers=[late]) as worker:
        await worker.client.run(part, 3)
    assert "could not record all that it was told in 5 seconds" in caplog.text


@pytest.mark.usefixtures("held_back")
async def test_a_worker_ends_though_there_can_be_no_more_threads(monkeypatch):
    async def no_thread(*args, **options):
        raise RuntimeError("can't start new thread")

    notes = Notes()
    async with open_worker("memory://", registry=flows, observers=[notes]) as worker:
        await worker.client.run(part, 3)
        monkeypatch.setattr(anyio.to_thread, "run_sync", no_thread)
    assert any(isinstance(each, ExecutionEnded) for each in notes.items)


def test_one_whose_observe_is_its_own_is_told_by_that():
    class Chosen(Notes):
        def observe(self, observation, /):
            if observation.worker != "2":
                super().observe(observation)

    chosen = Chosen()
    observers = Observers([chosen])
    observers.tell(lost(1), lost(2), lost(3))
    chosen.flush()
    assert chosen.items == [lost(1), lost(3)]


def test_the_thread_ends_with_its_recorder():
    notes = Notes()
    notes.observe(lost(1))
    notes.flush()
    thread = notes._thread
    del notes
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


FORKS = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: there is a thread
from trioflow import _recording
from trioflow._recording import BackgroundObserver
_recording._GATHERING = 60.0

class Notes(BackgroundObserver):
    items = []
    def _record(self, items, dropped):
        self.items += items

notes = Notes(10)
notes.observe("before")
child = os.fork()
if not child:
    notes.observe("in the child")
    _recording._GATHERING = 0.0
    notes._thread.join(0)
    assert notes._thread.is_alive()
    notes.flush()
    os._exit(0 if notes.items == ["in the child"] else 1)
assert os.waitpid(child, 0)[1] == 0
notes.flush()
assert notes.items == ["before"], notes.items
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
def test_a_child_records_what_it_is_told_itself_and_no_more():
    done = subprocess.run([sys.executable, "-c", FORKS], check=False, timeout=50)
    assert done.returncode == 0


FORKS_WHILE_RECORDING = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: there is a thread
from trioflow._recording import BackgroundObserver

written, inside, forking = threading.Lock(), threading.Event(), threading.Event()

class Notes(BackgroundObserver):
    def _record(self, items, dropped):
        with written:
            inside.set()
            forking.wait()

notes = Notes(10)
notes.observe("before")
inside.wait()
os.register_at_fork(before=forking.set)  # is called first
child = os.fork()
if not child:
    notes.observe("in the child")
    with_lock = written.acquire(timeout=30)
    written.release()
    os._exit(0 if with_lock and notes.flush(30) else 1)
assert os.waitpid(child, 0)[1] == 0
assert notes.flush(30)
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork")
def test_a_fork_waits_for_what_is_being_recorded():
    done = subprocess.run([sys.executable, "-c", FORKS_WHILE_RECORDING], check=False, timeout=50)
    assert done.returncode == 0
