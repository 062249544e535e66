"""The source check: what it finds in a function's text, and what it leaves alone."""

# What linters and type checkers object to in these functions is what the guard is for.
# mypy: ignore-errors
# ruff: noqa: A001, ASYNC210, ASYNC230, ASYNC240, ASYNC250, ASYNC251, B008, C416
# ruff: noqa: DTZ002, DTZ011, F821, ICN001, PLC0415, PLC3002, PLW0108, PLW1510, PTH123
# ruff: noqa: SIM115, T201

from __future__ import annotations

import datetime
import functools
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime as dt
from pathlib import Path
from random import randint as roll
from time import time as clock

import anyio
import pytest
import trio

from trioflow._engine.guard import Finding, check_source


def calls(fn):
    return [finding.call for finding in check_source(fn)]


def found(fn):
    return [(finding.code, finding.call) for finding in check_source(fn)]


async def clocks():
    time.time()
    clock()
    time.perf_counter_ns()
    time.localtime()
    time.localtime(None)
    time.strftime("%Y")
    datetime.datetime.now(datetime.UTC)
    dt.today()
    datetime.date.today()
    time.sleep(1)


def test_clocks_are_found_under_every_name():
    assert found(clocks) == [
        ("TF101", "time.time"),
        ("TF101", "time.time"),
        ("TF101", "time.perf_counter_ns"),
        ("TF101", "time.localtime"),
        ("TF101", "time.localtime"),
        ("TF101", "time.strftime"),
        ("TF101", "datetime.datetime.now"),
        ("TF101", "datetime.date.today"),
        ("TF101", "datetime.date.today"),
        ("TF102", "time.sleep"),
    ]


def test_a_finding_has_the_line_in_the_file_and_the_hint():
    first = check_source(clocks)[0]
    line = clocks.__code__.co_firstlineno + 1
    assert first == Finding("TF101", line, __file__, "time.time", "use trioflow.now()")
    assert str(first) == f"{__file__}:{line}: TF101 time.time() in a workflow; use trioflow.now()"


async def harmless(moment, *things):
    time.localtime(moment)
    time.strftime("%Y", time.gmtime(0))
    time.localtime(*things)
    datetime.datetime.fromtimestamp(0, datetime.UTC)
    random.Random(3).random()
    print(uuid.uuid5(uuid.NAMESPACE_DNS, "x"))
    with trio.move_on_after(3):
        await trio.sleep(3)
    async with anyio.create_task_group() as group:
        group.start_soon(trio.sleep, 3)


def test_what_can_be_repeated_is_left_alone():
    assert check_source(harmless) == []


async def chance():
    random.random()
    roll(1, 6)
    random.Random()
    random.Random(None)
    random.SystemRandom().choice("ab")
    uuid.uuid4()


def test_chance_is_found():
    assert found(chance) == [
        ("TF103", "random.random"),
        ("TF103", "random.randint"),
        ("TF103", "random.Random"),
        ("TF103", "random.Random"),
        ("TF105", "random.SystemRandom"),
        ("TF104", "uuid.uuid4"),
    ]


dice = random.SystemRandom()
now = functools.partial(time.time)


async def through_objects(pool: ThreadPoolExecutor):
    dice.choice("ab")
    now()
    Path("x").read_text()
    ThreadPoolExecutor().submit(len)
    open("x")
    input()


def test_methods_of_instances_and_partials_are_found():
    assert set(calls(through_objects)) == {
        "random.SystemRandom",
        "time.time",
        "pathlib.Path.read_text",
        "concurrent.futures.ThreadPoolExecutor.submit",
        "open",
        "input",
    }


async def local_names():
    import os
    import subprocess as sp
    from time import time as t

    import requests
    from aiohttp import ClientSession

    t()
    os.urandom(3)
    sp.run(["x"])
    requests.get("x")
    ClientSession()
    tick = time.monotonic
    tick()
    rng = random.SystemRandom
    rng()


def test_local_imports_and_assignments_are_followed_and_nothing_is_imported():
    assert calls(local_names) == [
        "time.time",
        "os.urandom",
        "subprocess.run",
        "requests.get",
        "aiohttp.ClientSession",
        "time.monotonic",
        "random.SystemRandom",
    ]


async def shadowed(time, random=None):
    uuid = object()
    time.time()
    random.random()
    uuid.uuid4()
    clock = print
    clock()
    open = now = None
    open()
    now()
    [roll() for roll in ()]
    (lambda dice: dice.choice())(None)


def test_a_local_variable_is_not_taken_for_a_module():
    assert check_source(shadowed) == []


async def comprehension_names():
    [time for time in range(3)]
    return time.time()


def test_a_name_of_a_comprehension_does_not_shadow_outside_of_it():
    assert calls(comprehension_names) == ["time.time"]


async def rebound(flag):
    tick = len
    if flag:
        tick = time.time
    tick()
    loop = loop.attr
    loop()


def test_a_variable_with_two_values_is_unknown_and_one_with_itself_ends():
    assert check_source(rebound) == []


async def nested(xs):
    def inner(at=time.time()):
        return [random.random() for _ in xs]

    return sorted(xs, key=lambda x: uuid.uuid4()), inner


def test_nested_functions_lambdas_and_comprehensions_are_checked():
    assert calls(nested) == ["time.time", "random.random", "uuid.uuid4"]


def closing_over():
    tick = time.time

    async def flow():
        return tick()

    return flow


def test_a_closure_is_looked_into():
    assert calls(closing_over()) == ["time.time"]


async def spawning():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, len)
    await trio.to_thread.run_sync(len)


def test_a_task_that_must_not_be_started_is_found():
    assert found(spawning) == [("TF112", "trio.to_thread.run_sync")] * 2


def side_effect(fn):
    return fn()


side_effect.__module__ = "trioflow.authoring"


async def recorded():
    def draw():
        return random.random()

    def other():
        return random.random()

    return side_effect(lambda: time.time()), side_effect(draw), side_effect(uuid.uuid4), other()


def test_what_side_effect_runs_is_permitted_and_nothing_else():
    assert calls(recorded) == ["random.random"]


def decorated(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(*args)

    return wrapper


@decorated
@decorated
async def wrapped(
    at=time.time(),
):
    return time.time()


def test_wrappers_are_looked_behind_and_decorators_and_defaults_are_not_the_workflow():
    (finding,) = check_source(wrapped)
    assert finding.line == wrapped.__wrapped__.__wrapped__.__code__.co_firstlineno + 5


class Flow:
    async def run(self):
        text = """
not indented
"""
        return time.time(), text


def test_a_method_keeps_its_line_numbers():
    (finding,) = check_source(Flow().run)
    assert finding.line == Flow.run.__code__.co_firstlineno + 4


@pytest.mark.parametrize("fn", [eval("lambda: time.time()"), len, functools.partial(len), Flow])
def test_without_source_there_are_no_findings(fn):
    assert check_source(fn) == []
