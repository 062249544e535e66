"""The call monitor (Python 3.12+): what it stops and where, and what it leaves alone."""

# What linters and type checkers object to in these functions is what the guard is for.
# mypy: ignore-errors
# ruff: noqa: ASYNC105, B008, C400, DTZ005, DTZ011, ICN001, PLC0415, PLC3002, PLW0108, PTH123
# ruff: noqa: SIM115, T201

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import functools
import gc
import logging
import os
import random
import subprocess
import sys
import threading
import time
import types
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time as clock

import anyio
import pytest
import trio

from trioflow._engine import guard
from trioflow._engine.guard import monitor as guard_monitor
from trioflow.errors import DeterminismError

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")


def step(fn, *args):
    """Watch a function and run it as a step would, its coroutine too."""
    guard.watch(fn)
    token = guard.enter_step()
    try:
        result = fn(*args)
        if hasattr(result, "send"):
            try:
                result.send(None)
            except StopIteration as stop:
                return stop.value
        return result
    finally:
        guard.leave_step(token)


class Moment(datetime.datetime):
    pass


tick = functools.partial(time.time)


async def coroutine():
    return time.time()


async def local_import():
    from time import time as t

    return t()


@dataclasses.dataclass
class Order:
    id: uuid.UUID = dataclasses.field(default_factory=uuid.uuid4)


class Basket:
    @property
    def opened_at(self):
        return time.time()

    def __enter__(self):
        return random.random()

    def __exit__(self, *_):
        pass

    def __call__(self):
        return uuid.uuid4()


class Dice(random.Random):
    def __init__(self):
        super().__init__()
        self.first = random.random()


basket = Basket()


def helper():
    return time.time()


def indirectly():
    return helper()


def enters():
    with Basket():
        pass


STOPPED = [
    (lambda: time.time(), "time.time"),
    (lambda: clock(), "time.time"),
    (coroutine, "time.time"),
    (local_import, "time.time"),
    (lambda: time.monotonic_ns(), "time.monotonic_ns"),
    (lambda: time.localtime(), "time.localtime"),
    (lambda: time.localtime(None), "time.localtime"),
    (lambda: time.strftime("%Y"), "time.strftime"),
    (lambda: time.sleep(0), "time.sleep"),
    (lambda: datetime.datetime.now(), "datetime.datetime.now"),
    (lambda: datetime.datetime.now(tz=datetime.UTC), "datetime.datetime.now"),
    (lambda: Moment.now(), "Moment.now"),
    (lambda: datetime.date.today(), "datetime.date.today"),
    (lambda: tick(), "time.time"),
    (lambda: random.random(), "random.random"),
    (lambda: random.choice("ab"), "random.choice"),
    (lambda: random.random.__self__.choice("ab"), "random.random"),
    (lambda: random.Random(), "random.Random"),
    (lambda: random.SystemRandom().random(), "random.SystemRandom"),
    (lambda rng=random.SystemRandom(): rng.choice("ab"), "random.SystemRandom"),
    (lambda: uuid.uuid4(), "uuid.uuid4"),
    (lambda: open(__file__), "open"),
    (lambda: Path(__file__).exists(), "pathlib.Path.exists"),
    (lambda: threading.Thread(target=len).start(), "threading.Thread.start"),
    (lambda: ThreadPoolExecutor().submit(len), "ThreadPoolExecutor.submit"),
    (lambda: asyncio.get_event_loop(), "asyncio.get_event_loop"),
    (lambda: trio.to_thread.run_sync(len), "trio.to_thread.run_sync"),
    (lambda: anyio.to_thread.run_sync(len), "anyio.to_thread.run_sync"),
    (lambda: trio.open_file(__file__), "trio.open_file"),
    (lambda: Order(), "uuid.uuid4"),
    (lambda: Basket().opened_at, "time.time"),
    (enters, "random.random"),
    (lambda: basket(), "uuid.uuid4"),
    (lambda: Dice(), "random.random"),
    (lambda: [time.time() for _ in range(1)], "time.time"),
    (lambda: list(time.time() for _ in range(1)), "time.time"),
    (lambda: sorted([1], key=lambda _: time.time()), "time.time"),
    (lambda: (lambda: (lambda: time.time())())(), "time.time"),
    (indirectly, "time.time"),
]


@pytest.mark.parametrize(("fn", "call"), STOPPED)
def test_what_cannot_be_repeated_is_stopped(fn, call):
    with pytest.raises(DeterminismError) as caught:
        step(fn)
    assert f"{call}() cannot be repeated" in str(caught.value)


def test_the_error_is_raised_at_the_line_of_the_call_and_names_it():
    with pytest.raises(DeterminismError) as caught:
        step(indirectly)
    line = helper.__code__.co_firstlineno + 1
    assert str(caught.value) == (
        f"{__file__}:{line}, in helper: time.time() cannot be repeated on replay, so a workflow "
        "must not call it [TF101]; use trioflow.now()"
    )
    lines = [entry.lineno for entry in caught.traceback if entry.name == "helper"]
    assert lines == [line - 1]


def test_the_workflow_can_go_on_after_the_error():
    def flow():
        with contextlib.suppress(DeterminismError):
            time.time()
        return 3

    assert step(flow) == 3


def test_generated_code_is_blamed_on_the_line_that_runs_it():
    def flow():
        return Order()

    with pytest.raises(DeterminismError) as caught:
        step(flow)
    assert str(caught.value).startswith(f"{__file__}:{flow.__code__.co_firstlineno + 1}, in ")


class Unhashable:
    __hash__ = None

    def __call__(self):
        return 3


class Liar:
    @property
    def __class__(self):
        raise AssertionError

    def __eq__(self, other):
        raise AssertionError

    def __hash__(self):
        raise AssertionError

    def __call__(self):
        return 4


class Meta(type):
    def __hash__(cls):
        raise AssertionError

    def __eq__(cls, other):
        raise AssertionError


class Strange(metaclass=Meta):
    pass


async def harmless():
    rng = random.Random(3)
    assert rng.random() == random.Random(3).random()
    assert rng.choice([1]) == 1
    assert Unhashable()() == 3
    assert Liar()() == 4
    assert isinstance(Strange(), object)
    time.localtime(0)
    time.strftime("%Y", time.gmtime(0))
    datetime.datetime.fromtimestamp(0, datetime.UTC)
    append = [].append
    append(1)
    print(end="")
    return Order(uuid.UUID(int=3)).id.int


def test_what_can_be_repeated_runs_also_when_seen_again():
    assert step(harmless) == 3
    assert step(harmless) == 3


def test_watched_code_is_not_disturbed_outside_of_a_step():
    with pytest.raises(DeterminismError):
        step(helper)
    assert helper() > 0


def test_what_is_permitted_is_not_judged():
    def flow():
        with guard.permitted():
            return helper()

    assert step(flow) > 0


def test_another_thread_is_not_judged():
    seen: list[float] = []
    go = threading.Event()
    thread = threading.Thread(target=lambda: (go.wait(10), seen.append(helper())))
    thread.start()

    def flow():
        with guard.permitted():
            go.set()
            thread.join()

    step(flow)
    assert len(seen) == 1


def test_a_method_is_judged_by_whose_it_is_each_time():
    def flow(rng):
        return rng.choice([1])

    assert step(flow, random.Random(3)) == 1
    with pytest.raises(DeterminismError):
        step(flow, random.SystemRandom())


def test_a_function_handed_to_a_builtin_is_watched():
    def flow(fn):
        return list(map(fn, [1]))

    with pytest.raises(DeterminismError):
        step(flow, eval("lambda _: time.time()", {"time": time}))


class Called:
    def __call__(self):
        return time.time()


def test_an_object_that_can_be_called_is_watched():
    def flow(called):
        return called()

    with pytest.raises(DeterminismError):
        step(flow, Called())


def test_a_module_that_is_imported_later_is_judged_then(monkeypatch):
    module = types.ModuleType("psycopg2")
    module.connect = eval("lambda: 3")

    def flow():
        return module.connect()

    monkeypatch.delitem(sys.modules, "psycopg2", raising=False)
    assert step(flow) == 3
    monkeypatch.setitem(sys.modules, "psycopg2", module)
    with pytest.raises(DeterminismError, match=r"psycopg2\.connect\(\)"):
        step(flow)


def test_two_callables_at_one_site_are_both_judged():
    def flow(functions):
        for function in functions:
            function()

    step(flow, [dict, list])
    with pytest.raises(DeterminismError):
        step(flow, [dict, time.time])


def started():
    return time.time()


def test_what_a_workflow_names_is_watched_before_it_is_called():
    def flow(runner):
        runner.start_soon(started)

    class Runner:
        def start_soon(self, fn):
            self.fn = fn

    runner = Runner()
    step(flow, runner)
    token = guard.enter_step()
    try:
        with pytest.raises(DeterminismError):
            runner.fn()
    finally:
        guard.leave_step(token)


def test_judging_a_task_watches_it():
    task = eval("lambda: time.time()", {"time": time})
    token = guard.enter_step()
    try:
        assert task() > 0
        guard.judge(task)
        with pytest.raises(DeterminismError):
            task()
    finally:
        guard.leave_step(token)


def events(fn):
    return sys.monitoring.get_local_events(guard_monitor._tool, fn.__code__)


def test_libraries_and_what_no_workflow_calls_are_not_watched():
    def unrelated():
        return time.time()

    def flow():
        return contextlib.nullcontext(trio.Event())

    step(flow)
    assert events(flow)
    assert not events(unrelated)
    assert not events(contextlib.nullcontext.__init__)
    assert not events(step.__globals__["guard"].watch)


def test_wrappers_and_partials_of_a_workflow_are_looked_behind():
    def flow():
        return time.time()

    @functools.wraps(flow)
    def wrapper():
        return flow()

    guard.watch(functools.partial(wrapper))
    assert events(flow)
    assert events(wrapper)


def test_watching_does_not_keep_functions_alive():
    def make():
        def inner():
            return 3

        return inner()

    def flow():
        inner = eval("lambda: 3")
        inner()
        return weakref.ref(inner), weakref.ref(inner.__code__)

    assert step(make) == 3
    function, code = step(flow)
    gc.collect()
    assert function() is None
    assert code() is None


def test_an_import_in_a_step_may_call_what_is_watched(tmp_path, monkeypatch):
    (tmp_path / "imports_in_a_step.py").write_text(
        "import guard_monitor_helpers\nvalue = guard_monitor_helpers.helper()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "guard_monitor_helpers", sys.modules[__name__])

    def flow():
        import imports_in_a_step

        return imports_in_a_step.value

    guard.watch(helper)
    assert step(flow) > 0
    monkeypatch.delitem(sys.modules, "imports_in_a_step")


PROGRAM = """
import logging, sys, time, warnings
logging.basicConfig(format="%(name)s %(levelname)s %(message)s", stream=sys.stdout)
for tool in {taken}:
    sys.monitoring.use_tool_id(tool, "another")
from trioflow._engine import guard
from trioflow._engine.guard import monitor as guard_monitor
from flow_of_the_test import flow
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    guard.watch(flow)
    guard.watch(flow)
print("tool", guard_monitor._tool)
for warning in caught:
    print(warning.category.__name__, warning.lineno)
"""


def run_with_taken_tools(tmp_path, taken):
    (tmp_path / "flow_of_the_test.py").write_text("import time\ndef flow():\n    time.time()\n")
    root = str(Path(guard.__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(taken=taken)],
        env={"PYTHONPATH": f"{tmp_path}:{root}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_the_first_free_tool_id_is_taken(tmp_path):
    assert run_with_taken_tools(tmp_path, [3]) == "tool 4\n"


def test_without_a_free_tool_id_the_source_is_checked_and_a_warning_logged_once(tmp_path):
    out = run_with_taken_tools(tmp_path, [3, 4, 5])
    assert out.count("WARNING No free sys.monitoring tool id") == 1
    assert "tool None\n" in out
    assert "DeterminismWarning 3\n" in out


def test_logging_of_the_user_is_let_through(caplog):
    class Stamp(logging.Filter):
        def filter(self, record):
            record.stamp = helper()
            return True

    logger = logging.getLogger("guard-monitor-test")
    stamp = Stamp()
    logger.addFilter(stamp)

    def flow():
        logger.warning("hello")

    guard.watch(helper)
    with caplog.at_level(logging.WARNING):
        step(flow)
    logger.removeFilter(stamp)
    assert caplog.messages == ["hello"]


def test_what_a_models_default_factory_calls_is_stopped():
    pydantic = pytest.importorskip("pydantic")

    def made_at():
        return datetime.datetime.now(datetime.UTC)

    class Timed(pydantic.BaseModel):
        at: datetime.datetime = pydantic.Field(default_factory=made_at)

    class Named(pydantic.BaseModel):
        id: uuid.UUID = pydantic.Field(default_factory=uuid.uuid4)

    class Plain(pydantic.BaseModel):
        items: list[int] = pydantic.Field(default_factory=list)

    def wf(model):
        return model()

    assert step(wf, Plain).items == []
    with pytest.raises(DeterminismError, match="TF101"):
        step(wf, Timed)
    with pytest.raises(DeterminismError, match=rf"{__file__}.*uuid4\(\).*TF104"):
        step(wf, Named)
    Timed()
    Named()


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda: os.environ["HOME"], "os.environ cannot be repeated.* must not read it"),
        (lambda: os.environ.get("HOME"), "os.environ cannot be repeated"),
        (lambda: os.getenv("HOME"), r"os.getenv\(\) cannot be repeated.* must not call it"),
        (lambda: "HOME" in os.environ, "os.environ cannot be repeated"),
        (lambda: dict(os.environ), "os.environ cannot be repeated"),
    ],
)
def test_the_environment_is_no_part_of_a_workflow(read, said):
    def wf():
        return read()

    with pytest.raises(DeterminismError, match=rf"{said}.*TF114"):
        step(wf)
    read()
    guard.watch(wf)
    token = guard.enter_step(0)
    try:
        wf()  # its history may have gone on with it
    finally:
        guard.leave_step(token)
