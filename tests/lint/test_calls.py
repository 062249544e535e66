"""Calls that cannot be repeated: under whatever name, and wherever a workflow reaches them."""

from __future__ import annotations

import pytest

from tests.lint.sources import HEAD, codes, findings, flow, marked
from trioflow._engine.guard.checks import CHECKS
from trioflow._lint import check


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        ("x = time.time()", "TF101", "time.time()"),
        ("from time import time as t\nt()", "TF101", "t()"),
        ("tick = time.monotonic\ntick()", "TF101", "tick()"),
        ("functools.partial(time.time)()", "TF101", "functools.partial(time.time)()"),
        ("datetime.datetime.today()", "TF101", "datetime.datetime.today()"),
        ("[time.time() for _ in arg]", "TF101", "time.time()"),
        ("ünïcode = time.time()", "TF101", "time.time()"),
        ("time.localtime(None)", "TF101", "time.localtime(None)"),
        ("time.sleep(1)", "TF102", "time.sleep(1)"),
        ("random.Random()", "TF103", "random.Random()"),
        ("random.SystemRandom().choice('ab')", "TF105", None),
        ("import httpx\nhttpx.Client().get('x')", "TF108", "httpx.Client().get('x')"),
        ("import socket\nsocket.socket()", "TF108", "socket.socket()"),
        ("from pathlib import Path\nPath('x').read_text()", "TF106", "Path('x').read_text()"),
        ("import threading\nthreading.Thread(target=len).start()", "TF110", None),
        ("import queue\nq = queue.Queue()\nq.get()", "TF110", "q.get()"),
        ("await trio.to_thread.run_sync(len)", "TF112", "trio.to_thread.run_sync(len)"),
        ("await anyio.to_thread.run_sync(len)", "TF112", "anyio.to_thread.run_sync(len)"),
        ("arg.start_soon(trio.to_thread.run_sync, len)", "TF112", "trio.to_thread.run_sync"),
        ("import os\nos.getenv('x')", "TF114", "os.getenv('x')"),
        ("import os\nos.environ['x']", "TF114", "os.environ"),
        ("from os import environ\nenviron.get('x')", "TF114", "environ"),
        ("await asyncio.sleep(1)", "TF111", "asyncio.sleep(1)"),
        ("asyncio.Queue", "TF111", "asyncio.Queue"),
        ("try: pass\nexcept asyncio.CancelledError: pass", "TF111", "asyncio.CancelledError"),
        ("from asyncio import timeout\nasync with timeout(1): pass", "TF111", "timeout(1)"),
    ],
)
def test_it_is_found_at_its_place(body, code, place):
    found = marked(flow(body))
    assert [each[0] for each in found] == [code] * len(found) != []
    assert place is None or place in [each[1] for each in found]


@pytest.mark.parametrize(
    "body",
    [
        "time.localtime(3)",
        "random.Random(7).random()",
        "uuid.uuid5(uuid.NAMESPACE_DNS, 'x')",
        "time = arg\ntime.time()",
        "side_effect(time.time)",
        "side_effect(lambda: time.time())",
        "def draw(): return random.random()\nside_effect(draw)",
        "import trioflow as tf\ntf.side_effect(lambda: open('x'))",
        "x: asyncio.Task | None = None",
        "try: pass\nexcept asyncio.TimeoutError: pass",
        "repr(arg)",
        "datetime.datetime.fromtimestamp(0, datetime.UTC)",
        "await trio.sleep(3)\nawait anyio.sleep(3)",
    ],
)
def test_it_is_left_alone(body):
    assert codes(flow(body)) == []


@pytest.mark.parametrize(
    "check_",
    [each for each in CHECKS if not each.calls[0].startswith(("builtins", "os:environ"))],
    ids=lambda each: f"{each.code}-{each.calls[0]}",
)
def test_what_the_guard_stops_is_found(check_):
    for call in check_.calls:
        module, _, name = call.partition(":")
        if "._" in module or module.startswith(("_", "concurrent.futures.", "multiprocessing.p")):
            continue  # a private name for another one
        first, _, method = name.partition(".")
        path = f"{module}.{first}.{method}" if method else f"{module}.{first}"
        assert check_.code in codes(flow(f"import {module}\n{path}()")), call


def test_a_message_says_what_where_and_what_to_do_instead():
    (found,) = findings(flow("time.time()"))
    assert (found.message, found.hint) == ("`time.time()` in workflow `flow`", "use trioflow.now()")
    assert (found.line, found.column) == (7, 5)
    assert (found.end_line, found.end_column) == (7, 16)


# --- which functions -------------------------------------------------------------------------

HELPERS = """
    def outer():
        return inner()

    def inner():
        return time.time()

    class Cart:
        total: float
        def __init__(self):
            self.begun = datetime.datetime.now()
        async def add(self):
            return self._at()
        def _at(self):
            return time.monotonic()
        def unused(self):
            return time.perf_counter()
        @classmethod
        def make(cls):
            return cls.later()
        @staticmethod
        def later():
            time.sleep(1)
"""


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("outer()", "time.time()"),
        ("sorted(arg, key=outer)", "time.time()"),
        ("async with trio.open_nursery() as n:\n    n.start_soon(outer)", "time.time()"),
        ("Cart", "datetime.datetime.now()"),
        ("Cart.make()", "time.sleep(1)"),
    ],
)
def test_what_it_names_in_its_file_is_followed(body, place):
    found = [each[1] for each in marked(flow(body, HELPERS))]
    assert place in found
    assert "time.perf_counter()" not in found


def test_methods_of_an_instance_are_followed():
    source = flow("cart = Cart()\nawait cart.add()", HELPERS)
    assert [each[1] for each in marked(source)] == ["datetime.datetime.now()", "time.monotonic()"]
    assert "in `_at`, which workflow `flow` calls" in findings(source)[1].message


def test_a_base_class_and_an_annotated_parameter_are_followed():
    before = HELPERS + "\n    class Big(Cart): pass\n    def use(cart: Big | None): cart._at()\n"
    assert "time.monotonic()" in [each[1] for each in marked(flow("use(arg)", before))]


def test_factories_of_fields_are_followed():
    before = """
        from dataclasses import dataclass, field
        @dataclass
        class Order:
            id: object = field(default_factory=uuid.uuid4)
            at: float = field(default_factory=lambda: time.time())
    """
    found = marked(flow("Order()", before))
    assert found == [("TF104", "uuid.uuid4"), ("TF101", "time.time()")]


def test_what_side_effect_and_activities_do_is_their_business():
    before = """
        def read(): return open("x")
        @activity
        def act(): return helper()
        @activity
        async def other(): return await trio.to_thread.run_sync(len)
        def helper(): return time.time()
    """
    assert codes(flow("side_effect(read)\nawait act()\nawait other()", before)) == []
    assert codes(flow("read()", before)) == ["TF106"]


def test_a_function_is_looked_at_once_also_if_it_calls_itself():
    before = """
        def ping(): pong(); time.time()
        def pong(): ping()
    """
    assert codes(flow("ping()\npong()", before)) == ["TF101"]


@pytest.mark.parametrize(
    "definition",
    [
        "@workflow\nasync def flow(): time.time()",
        "@workflow(name='x')\nasync def flow(): time.time()",
        "import trioflow\n@trioflow.workflow\nasync def flow(): time.time()",
        "import trioflow.authoring as t\n@t.workflow()\nasync def flow(): time.time()",
        "from trioflow import workflow as w\n@w\nasync def flow(): time.time()",
        "r = Registry()\n@r.workflow\nasync def flow(): time.time()",
        "def make(r: Registry):\n    @r.workflow\n    async def flow(): time.time()",
        "from .app import flows\n@flows.workflow(queue='x')\nasync def flow(): time.time()",
        "a, b = Registry(), Registry()\n@b.workflow\nasync def flow(): time.time()",
        "def test_it(flows):\n    @flows.workflow\n    async def flow(): time.time()",
        "eu = workflow(queue='eu')\n@eu\nasync def flow(): time.time()",
        "async def flow(): time.time()\nflow = workflow(flow)",
        "async def flow(): time.time()\nw = Registry().workflow(name='x')(flow)",
        "class A:\n    @workflow\n    async def flow(): time.time()",
        "class A:\n    @functools.cache\n    @workflow\n    async def flow(): time.time()",
    ],
)
def test_a_workflow_is_known_however_it_is_decorated(definition):
    report = check(HEAD + definition + "\n")
    assert [each.code for each in report.findings] == ["TF101"]
    assert report.workflows == 1


@pytest.mark.parametrize(
    "definition",
    [
        "@activity\nasync def act(): time.time()",
        "r = Registry()\n@r.activity\nasync def act(): time.time()",
        "async def main(): time.time()",
        "def workflow(fn): return fn\n@workflow\nasync def other(): time.time()",
    ],
)
def test_what_is_no_workflow_is_left_alone(definition):
    report = check(HEAD + definition + "\n")
    assert report.findings == []
    assert report.workflows == 0


def test_a_registry_of_another_file_is_known_by_its_name():
    source = (
        "import time\nfrom .app import registry\n@registry.workflow\nasync def f(): time.time()\n"
    )
    assert codes(source) == ["TF101"]
    assert codes(source.replace("registry", "DBOS")) == []


@pytest.mark.parametrize(
    ("definition", "place"),
    [
        ("@workflow\ndef broken(): return 1", "broken"),
        ("@workflow\nasync def broken(): yield", "broken"),
    ],
)
def test_a_workflow_that_is_none_is_found(definition, place):
    assert marked(HEAD + definition + "\n") == [("TF206", place)]


def test_a_generator_in_a_workflow_is_fine():
    assert codes(flow("async def each():\n    yield 1\nasync for _ in each(): pass")) == []


def test_a_file_that_is_no_python_is_a_finding():
    (found,) = findings("@workflow\nasync def (:\n")
    assert (found.code, found.line) == ("TF100", 2)
    assert codes("def (:\n") == []
    assert codes("workflow\0") == ["TF100"]


def test_a_method_is_no_workflow_but_a_function_in_a_class_is_one():
    source = """
class Shop:
    @workflow
    async def pay(self, amount): ...
    @workflow
    async def refund(amount): ...
"""
    assert marked(HEAD + source) == [("TF206", "pay")]


def test_what_is_imported_with_a_star_is_known():
    source = """
from time import *
from trioflow import *

@workflow
async def flow():
    time()

async def helper():
    time()
"""
    assert marked(source) == [("TF101", "time()")]
    assert codes(source.replace("from trioflow import *", "from shop import *")) == []
