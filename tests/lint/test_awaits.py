"""Calls whose coroutine nothing awaits."""

from __future__ import annotations

import pytest

from tests.lint.sources import codes, findings, flow, marked

BEFORE = """
    from trioflow import activity_by_name, send_signal
    go = Signal("go", int)
    far = activity_by_name("far", int)

    @activity
    async def charge(x): ...
    @activity
    def plain(x): ...
    @workflow
    async def child(x): ...
    async def helper(): ...
    async def several(): yield 1
    @functools.cache
    async def wrapped(): ...

    class Shop:
        @activity
        async def sell(self, x): ...
        async def close(self): ...

    shop = Shop()
"""


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("charge(3)", "charge(3)"),
        ("plain(3)", "plain(3)"),
        ("child(3)", "child(3)"),
        ("helper()", "helper()"),
        ("shop.sell(3)", "shop.sell(3)"),
        ("shop.close()", "shop.close()"),
        ("far(x=3)", "far(x=3)"),
        ("far.options(timeout=3)(x=3)", "far.options(timeout=3)(x=3)"),
        ("activity_by_name('x')()", "activity_by_name('x')()"),
        ("charge.options(timeout=3)(3)", "charge.options(timeout=3)(3)"),
        ("go.receive()", "go.receive()"),
        ("send_signal('x', go, 3)", "send_signal('x', go, 3)"),
        ("trio.sleep(3)", "trio.sleep(3)"),
        ("anyio.sleep(3)", "anyio.sleep(3)"),
        ("event = trio.Event()\nevent.wait()", "event.wait()"),
        ("x = charge(3)", "charge(3)"),
        ("if charge(3): pass", "charge(3)"),
        ("charge(3) == 4", "charge(3)"),
        ("charge(3) + 1", "charge(3)"),
        ("f'{charge(3)}'", "charge(3)"),
        ("charge(3).id", "charge(3)"),
        ("for x in charge(3): pass", "charge(3)"),
        ("charge(3) if arg else None", "charge(3)"),
        ("charge(3)[0]", "charge(3)"),
        ("with charge(3): pass", "charge(3)"),
        ("[x for x in charge(3)]", "charge(3)"),
        ("return charge(3)", "charge(3)"),
        ("arg.start_soon(charge(3))", "charge(3)"),
        ("def inner(): charge(3)", "charge(3)"),
    ],
)
def test_a_forgotten_await_is_found(body, place):
    assert ("TF205", place) in marked(flow(body, BEFORE))


@pytest.mark.parametrize(
    "body",
    [
        "await charge(3)",
        "await (charge(3) if arg else plain(3))",
        "await anyio.gather(charge(1), charge(2))",
        "await anyio.gather(*[charge(x) for x in arg])",
        "async with anyio.create_task_group() as g:\n    g.start_soon(charge, 3)",
        "async with anyio.create_task_group() as g:\n    g.create_task(charge(3))",
        "call = charge(3)\nawait call",
        "call = charge(3)\nasync def inner(): await call",
        "calls = [charge(3)]",
        "charge(3).close()",
        "[charge(x) for x in arg]",
        "def inner(): return charge(3)\nawait inner()",
        "await anyio.amap(lambda x: charge(x), arg)",
        "charge.options(timeout=3)",
        "async for x in several(): pass",
        "wrapped()",
        "arg.charge(3)",
        "event = trio.Event()\nevent.set()",
        "with trio.move_on_after(3): pass",
        "go.receive_nowait()",
    ],
)
def test_what_is_awaited_or_handed_on_is_left_alone(body):
    assert codes(flow(body, BEFORE)) == []


def test_start_soon_wants_a_function():
    (found,) = findings(flow("arg.start_soon(charge(3), name='x')", BEFORE))
    assert found.message == "`start_soon()` gets a call instead of a function in workflow `flow`"
    assert found.hint == "give it the function and its arguments: `start_soon(charge, 3)`"
