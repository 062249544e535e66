"""State and primitives that instances share."""

from __future__ import annotations

import pytest

from tests.lint.sources import HEAD, codes, findings, flow, marked

BEFORE = """
    CACHE = {}
    LIST: list[int] = []
    QUEUES = collections.defaultdict(list)
    RATES = {"eu": 3}
    HANDLERS = {}
    NUMBERS = itertools.count()
    GENERATOR = (x for x in "abc")
    RNG = random.Random(3)
    LEVEL = 0
    approved = Signal("approved", bool)

    class Counter:
        total = 0

    def handler(fn):
        HANDLERS[fn.__name__] = fn
        return fn

    @handler
    def handle(): ...

    @activity
    async def refresh():
        LIST.append(3)
        fill()

    def fill():
        QUEUES["x"].append(4)

    def bump():
        global LEVEL
        LEVEL += 1
"""


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("CACHE[arg] = 3", "CACHE"),
        ("CACHE.setdefault(arg, []).append(3)", "CACHE"),
        ("CACHE.update(a=3)", "CACHE"),
        ("del CACHE[arg]", "CACHE"),
        ("RATES['eu'] += 1", "RATES"),
        ("Counter.total += 1", "Counter"),
        ("handle.calls = 3", "handle"),
        ("global LEVEL\nLEVEL = 3", "LEVEL"),
        ("global NEW\nNEW = 3", "NEW"),
        ("def inner():\n    global LEVEL\n    LEVEL += 1", "LEVEL"),
        ("bump()", "LEVEL"),
        ("arg(LIST)", "LIST"),
        ("next(NUMBERS)", "NUMBERS"),
        ("next(GENERATOR)", "GENERATOR"),
        ("RNG.random()", "RNG"),
    ],
)
def test_shared_state_is_found(body, place):
    assert (("TF203", place)) in marked(flow(body, BEFORE))
    assert set(codes(flow(body, BEFORE))) == {"TF203"}


@pytest.mark.parametrize(
    "body",
    [
        "RATES['eu'], RATES.get('us'), len(RATES)",
        "HANDLERS[arg]()",
        "Counter.total, LEVEL",
        "CACHE = {}\nCACHE[3] = 4",
        "mine = []\nmine.append(arg)",
        "count = 0\ndef inner():\n    nonlocal count\n    count += 1\ninner()",
        "await approved.receive()",
        "counter = Counter()\ncounter.total += 1",
        "random.Random(3).random()",
    ],
)
def test_what_is_constant_or_of_the_instance_is_left_alone(body):
    assert codes(flow(body, BEFORE)) == []


def test_what_a_plain_function_changes_that_nothing_async_calls_is_constant():
    assert codes(flow("arg(QUEUES)", BEFORE)) == ["TF203"]
    assert codes(flow("arg(QUEUES)", BEFORE.replace("fill()\n", "\n", 1))) == []


def test_a_message_says_who_changes_it():
    (found,) = findings(flow("arg(LIST)", BEFORE))
    assert "`LIST`, which `refresh` changes, is read in workflow `flow`" in found.message


# --- primitives ------------------------------------------------------------------------------

PRIMITIVES = """
    LOCK = trio.Lock()
    EVENT: anyio.Event = anyio.Event()
    LOCKS = {"a": trio.Lock()}
    LIMITS = collections.defaultdict(trio.Lock)
    send, receive = trio.open_memory_channel(3)
    QUEUE = asyncio.Queue()

    class Shop:
        lock = trio.Lock()
        def __init__(self):
            self.own = trio.Lock()
        async def enter(self):
            async with self.lock: pass
        async def fine(self):
            async with self.own: pass
"""


@pytest.mark.parametrize(
    ("body", "code", "place"),
    [
        ("async with LOCK: pass", "TF204", "LOCK"),
        ("await EVENT.wait()", "TF204", "EVENT"),
        ("async with LOCKS[arg]: pass", "TF204", "LOCKS"),
        ("LIMITS[arg]", "TF204", "LIMITS"),
        ("await send.send(3)", "TF204", "send"),
        ("async with Shop.lock: pass", "TF204", "Shop.lock"),
        ("await Shop().enter()", "TF204", "self.lock"),
        ("await QUEUE.get()", "TF111", "QUEUE"),
    ],
)
def test_shared_primitives_are_found(body, code, place):
    assert marked(flow(body, PRIMITIVES)) == [(code, place)]


@pytest.mark.parametrize(
    "body",
    [
        "lock = trio.Lock()\nasync with lock: pass",
        "LOCK = trio.Lock()\nasync with LOCK: pass",
        "send, receive = trio.open_memory_channel(3)\nawait send.send(3)",
        "await Shop().fine()",
        "with trio.CancelScope() as scope:\n    scope.cancel()",
    ],
)
def test_those_of_the_instance_are_left_alone(body):
    assert codes(flow(body, PRIMITIVES)) == []


def test_those_of_the_function_around_the_workflow_are_shared_too():
    source = """
def make():
    event = trio.Event()
    @workflow
    async def flow():
        await event.wait()
        mine = trio.Event()
        async def inner(): await mine.wait()
"""
    assert marked(HEAD + source) == [("TF204", "event")]


def test_what_activities_use_is_their_business():
    before = PRIMITIVES + "\n    @activity\n    async def act():\n        async with LOCK: pass\n"
    assert codes(flow("await act()", before)) == []
