"""The audit hook: what it stops inside a step, and what it lets through."""

# What linters and type checkers object to in these functions is what the guard is for.
# mypy: ignore-errors
# ruff: noqa: PLC0415, PLW1510, PTH102, PTH104, PTH107, PTH123, PTH208, T201

from __future__ import annotations

import gc
import importlib
import linecache
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import warnings
import zoneinfo
from pathlib import Path

import pytest
import trio

from trioflow._engine import guard
from trioflow.errors import DeterminismError

needs_thread_events = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="Python does not audit the start of threads before 3.12"
)
needs_sleep_events = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="Python does not audit time.sleep before 3.13"
)


@pytest.fixture(autouse=True)
def _installed():
    guard.install()


def step(fn, *args):
    """Run a function as a step would, so that this frame is where the search for a line ends."""
    token = guard.enter_step()
    try:
        return fn(*args)
    finally:
        guard.leave_step(token)


HERE = __file__


def opens():
    with open(HERE):
        pass


def starts_a_thread():
    threading.Thread(target=len).start()


STOPPED = {
    "open": opens,
    "pathlib.Path.read_text": lambda: Path(HERE).read_text(),
    "os.listdir": lambda: os.listdir("."),
    "os.scandir": lambda: os.scandir("."),
    "os.remove": lambda: os.remove("no such file"),
    "os.rename": lambda: os.rename("no such file", "x"),
    "os.mkdir": lambda: os.mkdir("."),
    "shutil.rmtree": lambda: shutil.rmtree("no such folder"),
    "tempfile.mkdtemp": tempfile.mkdtemp,
    "socket.socket": socket.socket,
    "socket.getaddrinfo": lambda: socket.getaddrinfo("localhost", 1),
    "urllib.request.urlopen": lambda: urllib.request.urlopen("http://localhost:1"),
    "subprocess.run": lambda: subprocess.run(["no such program"]),
    "os.system": lambda: os.system("exit 0"),
    "sqlite3.connect": lambda: sqlite3.connect(":memory:"),
    "input": input,
}


@pytest.mark.parametrize("call", STOPPED)
def test_what_reaches_the_system_is_stopped_and_named(call):
    with pytest.raises(DeterminismError) as caught:
        step(STOPPED[call])
    assert f" {call}() " in str(caught.value)


@needs_thread_events
def test_the_start_of_a_thread_is_stopped():
    with pytest.raises(DeterminismError, match=r" threading\.Thread\.start\(\) .*sync activity"):
        step(starts_a_thread)


@needs_sleep_events
def test_a_blocking_sleep_is_stopped():
    with pytest.raises(DeterminismError, match=r" time\.sleep\(\) .*await trio\.sleep"):
        step(time.sleep, 0)


def test_the_message_names_line_function_code_and_replacement():
    with pytest.raises(DeterminismError) as caught:
        step(opens)
    line = opens.__code__.co_firstlineno + 1
    assert str(caught.value) == (
        f"{HERE}:{line}, in opens: open() cannot be repeated on replay, so a workflow must not "
        "call it [TF106]; do this in an activity"
    )


@needs_thread_events
def test_what_a_library_does_is_named_for_what_the_user_called(monkeypatch):
    # a thread that waits for work would be used again, without a start
    monkeypatch.setattr("trio._core._thread_cache.THREAD_CACHE._idle_workers", {})
    with pytest.raises(DeterminismError, match="sync activity") as caught:
        step(lambda: trio.lowlevel.start_thread_soon(len, len))
    assert "trio.lowlevel.start_thread_soon()" in str(caught.value)


def test_outside_of_a_step_and_when_permitted_nothing_is_stopped():
    def allowed():
        with guard.permitted():
            opens()

    opens()
    step(allowed)
    opens()


def test_another_thread_is_not_stopped_while_this_one_steps():
    errors: list[BaseException] = []
    go, done = threading.Event(), threading.Event()

    def other():
        go.wait(10)
        try:
            opens()
        except BaseException as error:
            errors.append(error)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()

    def inside():
        go.set()
        assert done.wait(10)

    step(inside)
    thread.join()
    assert errors == []


def test_an_import_in_a_step_is_let_through(tmp_path, monkeypatch):
    data = tmp_path / "data.txt"
    data.write_text("42")
    (tmp_path / "imported_in_a_step.py").write_text(
        f"from pathlib import Path\nvalue = Path({str(data)!r}).read_text()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()

    def imports():
        import imported_in_a_step

        return imported_in_a_step.value

    assert step(imports) == "42"
    monkeypatch.delitem(sys.modules, "imported_in_a_step")


def test_an_import_further_out_than_the_step_excuses_nothing(tmp_path, monkeypatch):
    (tmp_path / "runs_a_step.py").write_text(
        "import test_guard_steps\ntest_guard_steps.step(test_guard_steps.opens)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "test_guard_steps", sys.modules[__name__])
    importlib.invalidate_caches()
    with pytest.raises(DeterminismError):
        importlib.import_module("runs_a_step")


def test_reading_sources_for_a_traceback_or_a_warning_is_let_through():
    def reports():
        linecache.clearcache()
        try:
            raise KeyError
        except KeyError:
            text = traceback.format_exc()
        linecache.clearcache()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda *args, **_: warnings.formatwarning(*args[:4])
            warnings.warn("told", stacklevel=1)
        return text

    assert "raise KeyError" in step(reports)


def test_a_log_that_goes_to_a_file_is_let_through(tmp_path):
    logger = logging.getLogger("guard-audit-test")
    handler = logging.FileHandler(tmp_path / "log", delay=True)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        step(logger.warning, "hello")
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert (tmp_path / "log").read_text() == "hello\n"


def test_a_time_zone_is_let_through():
    zoneinfo.ZoneInfo.clear_cache()
    assert step(zoneinfo.ZoneInfo, "Europe/Vienna").key == "Europe/Vienna"


class Garbage:
    def __init__(self, path):
        self.path = path
        self.me = self

    def __del__(self):
        os.remove(self.path)


def test_finalizers_that_happen_to_run_in_a_step_are_let_through(tmp_path):
    path = tmp_path / "garbage"
    path.write_text("")
    folder = tempfile.TemporaryDirectory(dir=tmp_path)
    folder.me = folder
    name = folder.name
    Garbage(path)
    del folder

    def collects():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    step(collects)
    assert not path.exists()
    assert not Path(name).exists()


def test_printing_is_let_through(capsys):
    def talks():
        print("here", os.getpid())

    step(talks)
    assert capsys.readouterr().out


def test_the_hook_is_installed_once(monkeypatch):
    added: list[object] = []
    monkeypatch.setattr(sys, "addaudithook", added.append)
    guard.install()
    assert added == []


async def test_trio_itself_keeps_working_beside_a_step():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, opens)
        nursery.start_soon(trio.sleep, 0)
    left, right = trio.socket.socketpair()
    with left, right:
        await left.send(b"x")
        assert await right.recv(1) == b"x"
