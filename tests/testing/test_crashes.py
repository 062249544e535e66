"""A worker that is killed at each moment of a workflow."""

from __future__ import annotations

import anyio
import trio

from tests.testing import planted as p
from trioflow import Registry, Signal, Update, info
from trioflow.testing import crash_everywhere

flows = Registry()
go = Signal("go", str)


@flows.activity
async def take(number: int) -> int:
    raise AssertionError


@flows.workflow
async def takes_twice() -> list[int]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, 1)
        nursery.start_soon(trio.sleep, 60)
    return [await take(2)]


@flows.workflow
async def counts_calls() -> int:
    return await take(1)


def run(workflow, registry=flows, **options):
    return trio.run(lambda: crash_everywhere(workflow, registry=registry, **options))


def test_what_runs_more_than_once_and_that_the_result_is_the_same():
    report = run(takes_twice, activities={take: lambda number: number})
    assert report.outcome == "completed: [2]"
    assert report.results == {"completed: [2]": len(report.runs)}
    assert report.repeated == {"take": 2}
    kinds = {run.what.partition(" of ")[0].partition(" (")[0] for run in report.runs}
    assert kinds == {"a turn", "'take'"}
    assert len([run for run in report.runs if run.repeated]) == 2  # once for each of the calls
    assert len(report.runs) >= 6


def test_a_result_that_depends_on_crashes():
    calls = []

    def count(number):
        calls.append(number)
        return len(calls)

    def forget(_):
        calls.clear()

    report = run(counts_calls, activities={take: count})
    assert len(report.results) > 1
    forget(None)


def test_crossed_with_cancels():
    functions = {p.charge: str, p.refund: lambda n: None, p.ship: str}
    report = run(p.compensates, p.flows, activities=functions, cancels=True)
    alone = [run for run in report.runs if run.what == "a client cancels simulated-1"]
    assert {run.outcome for run in alone} == {"cancelled"} | (
        {"completed: None"} if any(run.outcome == "completed: None" for run in alone) else set()
    )
    assert any(", then " in run.what for run in report.runs)


@flows.activity
async def undo(number: int) -> None:
    raise AssertionError


@flows.workflow
async def has_a_deadline() -> str:
    """Take two steps in time, or undo the first of them."""
    try:
        with trio.fail_after(60):
            await take(1)
            await take(2)
    except trio.TooSlowError:
        await undo(1)
        return "too late"
    return "in time"


@flows.workflow
async def has_a_child() -> str:
    await takes_twice()
    return "done"


STEPS = {take: lambda number: number, undo: lambda number: None}


def test_crossed_with_deadlines():
    report = run(has_a_deadline, activities=STEPS, deadlines=True)
    assert report.outcome == "completed: 'in time'"
    assert set(report.results) == {"completed: 'in time'"}  # whatever crashes, without a deadline
    late = [run for run in report.runs if run.what.startswith("the time for")]
    assert {run.outcome for run in late} == {"completed: 'too late'"}
    assert any(", then " in run.what for run in late)
    assert report.repeated == {"take": 2, "undo": 2}
    alone = run(has_a_deadline, activities=STEPS)
    assert set(alone.results) == {"completed: 'in time'"}


def test_crossed_with_terminates():
    report = run(has_a_child, activities=STEPS, terminates=True)
    ended = [run for run in report.runs if run.what.startswith("a client terminates")]
    assert len(ended) >= 5
    assert {run.outcome for run in ended} == {"terminated"}
    assert not any(", then " in run.what for run in ended)  # nothing of it runs any more
    assert set(report.results) == {report.outcome}


@flows.workflow
async def has_everything() -> list[object]:
    """Wait for an activity, a child, a signal and the time, some of them side by side."""
    found: list[object] = [await take(1)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(counts_calls)
        found += [await go.receive(), await take(2)]
        if info().execution == 1:
            await trio.sleep(60)
    return [*found, await go.receive()]


def test_crossed_with_resets():
    signals = [(go, "one"), (go, "two")]
    report = run(has_everything, activities=STEPS, signals=signals, resets=True)
    assert report.outcome == "completed: [1, 'one', 2, 'two']"
    resets = [run for run in report.runs if run.what.startswith("a client resets")]
    assert any("before turn 0" in run.what for run in resets)
    assert any("before turn 3" in run.what for run in resets)
    assert any(", then " in run.what for run in resets)
    # Nothing that a client has sent is lost, and nothing counts twice.
    assert {run.outcome for run in resets} == {report.outcome}


put = Update("put", argument=int, result=int)


@flows.workflow
async def is_asked() -> list[int]:
    """Do with an activity what clients ask for, until it is enough."""
    done: list[int] = []
    enough = trio.Event()

    @put.handler
    async def _(number: int) -> int:
        done.append(await take(number))
        if len(done) == 2:
            enough.set()
        return len(done)

    await enough.wait()
    return done


def test_updates_are_done_whatever_crashes():
    updates = [(put, 1), (put, 2)]
    report = run(is_asked, activities=STEPS, updates=updates, resets=True)
    assert report.outcome == "completed: [1, 2]"
    assert set(report.results) == {"completed: [1, 2]"}
    assert {run.outcome for run in report.runs if run.what.startswith("a client resets")} == {
        "completed: [1, 2]"
    }
    assert report.repeated == {"take": 2}


def test_all_crossed():
    report = run(has_a_deadline, activities=STEPS, deadlines=True, terminates=True, cancels=True)
    kinds = {run.what.partition(" simulated")[0] for run in report.runs}
    assert {"a client cancels", "a client terminates", "the time for"} <= kinds


def test_under_asyncio_too():
    async def main():
        report = await crash_everywhere(
            takes_twice, activities={take: lambda number: number}, registry=flows
        )
        assert report.results == {"completed: [2]": len(report.runs)}

    anyio.run(main, backend="asyncio")
