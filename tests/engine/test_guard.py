"""The guard's state, its table of checks, the search for the line at fault, and the warnings."""

# What linters and type checkers object to in these functions is what the guard is for.
# mypy: ignore-errors
# ruff: noqa: ICN001, PT012

from __future__ import annotations

import asyncio
import datetime
import functools
import importlib
import inspect
import random
import sys
import threading
import time
import types
import uuid
import warnings
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trio

from trioflow._engine import guard
from trioflow._engine.guard import files
from trioflow._engine.guard.checks import CHECKS, Check
from trioflow._engine.guard.codes import CODES
from trioflow._engine.guard.table import TABLE, Table
from trioflow.errors import DeterminismError


def test_a_step_turns_the_guard_on_and_its_end_off_again():
    assert not guard.stepping.active
    token = guard.enter_step()
    assert guard.stepping.active
    guard.leave_step(token)
    assert not guard.stepping.active


def test_steps_may_be_nested():
    outer = guard.enter_step()
    inner = guard.enter_step()
    guard.leave_step(inner)
    assert guard.stepping.active
    guard.leave_step(outer)
    assert not guard.stepping.active


def test_a_nested_step_leaves_the_outer_ones_rules_alone():
    outer = guard.enter_step(0)
    inner = guard.enter_step(1)
    assert guard.stepping.rules == 1
    guard.leave_step(inner)
    assert guard.stepping.rules == 0
    guard.leave_step(outer)


def test_permitted_turns_the_guard_off_and_back_on_also_after_an_error():
    token = guard.enter_step()
    try:
        with pytest.raises(KeyError), guard.permitted():
            assert not guard.stepping.active
            raise KeyError
        assert guard.stepping.active
    finally:
        guard.leave_step(token)
    with guard.permitted():
        assert not guard.stepping.active
    assert not guard.stepping.active


def test_a_step_within_permitted_is_judged():
    outer = guard.enter_step()
    try:
        with guard.permitted():
            inner = guard.enter_step()
            assert guard.stepping.active
            guard.leave_step(inner)
            assert not guard.stepping.active
    finally:
        guard.leave_step(outer)


def test_a_step_belongs_to_its_thread():
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(guard.stepping.active))
    token = guard.enter_step()
    with guard.permitted():
        thread.start()
        thread.join()
    guard.leave_step(token)
    assert seen == [False]


def test_every_code_of_a_call_is_explained():
    called = {check.code for check in CHECKS}
    assert called == {code for code in CODES if "TF101" <= code < "TF200"}
    assert [key for key, code in CODES.items() if key != code.code] == []


#: Such as came or went between the supported versions of Python and trio.
SOMETIMES = {
    *("random:binomialvariate", "uuid:uuid6", "uuid:uuid7", "uuid:uuid8", "pathlib:Path.walk"),
    *("time:clock_gettime", "time:clock_gettime_ns", "_thread:start_joinable_thread"),
    *("os:getrandom", "datetime:datetime.utcnow", "trio:Path.walk", "anyio:Path.walk"),
    *("anyio.to_interpreter:run_sync",),
}
THIRD_PARTY = {
    *("numpy.random", "requests", "httpx", "aiohttp", "urllib3"),
    *("psycopg", "psycopg2", "pymysql"),
}


def test_every_rule_names_something_that_exists():
    missing: list[str] = []
    for call in (call for check in CHECKS for call in check.calls if call not in SOMETIMES):
        module, _, name = call.partition(":")
        if module in THIRD_PARTY:
            continue
        try:
            functools.reduce(getattr, name.split("."), importlib.import_module(module))
        except (ImportError, AttributeError):
            missing.append(call)
    assert missing == []


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.code}-{check.calls[0]}")
def test_what_a_check_names_is_found(check: Check):
    for call in check.calls:
        module, _, name = call.partition(":")
        if call in SOMETIMES or module in THIRD_PARTY:
            continue
        fn = functools.reduce(getattr, name.split("."), importlib.import_module(module))
        assert TABLE.find(fn) is not None, call


class Moment(datetime.datetime):
    pass


class SubRandom(random.Random):
    pass


class Seeded(random.Random):
    def __init__(self) -> None:
        super().__init__(7)


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self) -> None: ...


class Liar:
    @property
    def __class__(self):
        raise AssertionError

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("fn", "call"),
    [
        (Moment.now, f"{__name__}.Moment.now"),
        (datetime.datetime.today, "datetime.datetime.today"),
        (functools.partial(time.time), "time.time"),
        (functools.partial(functools.partial(uuid.uuid4)), "uuid.uuid4"),
        (random.random, "random.random"),
        (random.random.__self__.choice, "random.random"),
        (random.SystemRandom().choice, "random.SystemRandom"),
        (SubRandom, "random.Random"),
        (trio.to_thread.run_sync, "trio.to_thread.run_sync"),
        (anyio.to_thread.run_sync, "anyio.to_thread.run_sync"),
        (threading.Thread().start, "threading.Thread.start"),
        (Path().read_text, "pathlib.Path.read_text"),
    ],
)
def test_a_callable_is_found_however_it_is_referred_to(fn, call):
    hit = TABLE.find(fn)
    assert hit is not None
    assert hit.call == call


def test_what_can_be_repeated_is_not_found():
    for fn in (
        *(Seeded, Seeded().choice, random.Random(3).random, random.Random(3).choice),
        functools.partial(time.localtime, 0),
        *(datetime.datetime.fromtimestamp, datetime.timedelta, uuid.UUID, uuid.uuid5),
        *(print, len, [].append, str.join, object(), Unhashable(), None),
        *(trio.sleep, trio.move_on_after, trio.Event, trio.open_nursery, anyio.create_task_group),
    ):
        assert TABLE.find(fn) is None, fn


def test_looking_for_an_object_runs_no_code_of_it():
    assert TABLE.find(Liar()) is None


@pytest.mark.parametrize("by_code", [False, True])
def test_a_module_imported_later_is_found_then(monkeypatch, by_code):
    table = Table([Check("TF999", "do not", ("surely_no_such_module:thing",))])
    late = types.ModuleType("surely_no_such_module")
    late.thing = lambda: None

    def find():
        return table.find_code(late.thing.__code__) if by_code else table.find(late.thing)

    assert find() is None
    monkeypatch.setitem(sys.modules, "surely_no_such_module", late)
    hit = find()
    assert hit is not None
    assert hit.call == "surely_no_such_module.thing"


def test_user_code_is_what_belongs_to_no_library():
    assert files.is_user_file(__file__)
    assert files.is_user_file("/srv/app/shop.py")
    assert files.is_user_file("<stdin>")
    for module in (threading, trio, anyio, pytest, guard):
        assert not files.is_user_file(inspect.getfile(module)), module
    assert not files.is_user_file("<frozen importlib._bootstrap>")


def test_the_package_of_an_installed_workflow_is_user_code(monkeypatch):
    monkeypatch.setattr(files, "_user_roots", ())
    sibling = "/env/lib/site-packages/shop/helpers.py"
    assert not files.is_user_file(sibling)
    try:
        assert files.add_user_root("/env/lib/site-packages/shop/flows.py")
        assert files.is_user_file(sibling)
        assert not files.is_user_file("/env/lib/site-packages/other/helpers.py")
        assert not files.add_user_root(sibling)
    finally:
        monkeypatch.undo()
        files._user_files.clear()


def judged(fn):
    token = guard.enter_step()
    try:
        guard.judge(fn)
    finally:
        guard.leave_step(token)


def test_a_task_that_a_check_names_is_refused_where_it_is_started():
    with pytest.raises(DeterminismError, match=r"trio\.to_thread\.run_sync\(\).*sync activity"):
        judged(trio.to_thread.run_sync)


def test_a_harmless_task_and_one_outside_of_a_step_are_not_refused():
    judged(trio.sleep)
    judged(judged)
    guard.judge(trio.to_thread.run_sync)


def clocked():
    return time.time()


def test_one_warning_per_finding_names_file_and_line():
    clocked.__globals__.pop("__warningregistry__", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guard.warn_source(clocked)
    (warning,) = caught
    assert warning.category is guard.DeterminismWarning
    assert warning.filename == __file__
    assert warning.lineno == clocked.__code__.co_firstlineno + 1
    assert "time.time()" in str(warning.message)
    assert "TF101" in str(warning.message)
    assert "trioflow.now()" in str(warning.message)


def test_our_own_code_is_known_by_its_folder():
    import trioflow  # noqa: PLC0415

    for module in (trioflow, trioflow._codec.names, trioflow._engine.guard.files):
        assert files.is_trioflow_file(module.__file__)
    assert not files.is_trioflow_file(__file__)


async def _sleeps_with_asyncio():
    await asyncio.sleep(1)


def test_asyncio_in_a_workflow_is_told_that_there_is_no_loop():
    with pytest.warns(guard.DeterminismWarning, match=r"^asyncio\.sleep\(\) .* no loop of asyncio"):
        guard.warn_source(_sleeps_with_asyncio)
