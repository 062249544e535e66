"""Simulations: what can happen, in an order that a schedule chooses."""

from __future__ import annotations

import gc

import msgspec
import pytest
import trio
from hypothesis import given, settings

from tests.testing import planted as p
from trioflow import (
    ActivityTimeout,
    InstanceCancelled,
    NonRetryable,
    Registry,
    RetryPolicy,
    Signal,
    activity_info,
    heartbeat,
    info,
)
from trioflow import continue_as_new as again
from trioflow.errors import TrioflowError
from trioflow.testing import (
    ReplayError,
    Schedule,
    SimulatedFailure,
    SimulatedFinalFailure,
    Stuck,
    check_replay,
    schedules,
    simulate,
)

flows = Registry()
go = Signal("go", int)


@flows.activity(retry=RetryPolicy(max_attempts=2, jitter=0, initial_interval=10))
async def charge(number: int) -> str:
    raise AssertionError


@flows.activity(timeout=30)
async def ship(number: int) -> int:
    raise AssertionError


@flows.workflow
async def child(number: int) -> str:
    return await charge(number)


@flows.workflow
async def parent() -> list[str]:
    results = []

    async def one(number):
        results.append(await child.options(id=f"child-{number}")(number))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, 1)
        nursery.start_soon(one, 2)
    return sorted(results)


@flows.workflow
async def waits(seconds: float) -> int:
    with trio.move_on_after(seconds):
        return await go.receive()
    return -1


@flows.workflow
async def counts(number: int) -> int:
    if number < 3:
        again(number + 1)
    return number


@flows.workflow
async def tries() -> str:
    try:
        return await charge(1)
    except Exception as exc:
        return type(exc).__name__


functions = {charge: lambda number: f"c{number}", ship: lambda number: number}


def run(workflow, *args, choices=(), **options):
    options = {"activities": functions, "registry": flows, **options}
    options.setdefault("schedule", Schedule(choices))
    return simulate(workflow, *args, **options)


def test_when_nothing_goes_wrong():
    simulation = run(parent)
    assert simulation.status == "completed"
    assert simulation.result() == ["c1", "c2"]
    assert [call.args for call in simulation.called(charge)] == [(1,), (2,)]
    assert simulation.elapsed == 0


def test_time_passes_to_the_next_deadline():
    simulation = run(waits, 3600)
    assert simulation.result() == -1
    assert simulation.elapsed == 3600


def test_signals_are_pairs():
    with pytest.raises(TypeError, match=r"pairs of a signal and a value, not Signal\('go'"):
        run(waits, 10.0, signals=[go])


def test_a_signal_comes_before_a_deadline_unless_it_is_chosen_to_come_later():
    assert run(waits, 3600, signals=[(go, 7)]).result() == 7
    late = run(waits, 3600, signals=[(go, 7)], choices=[0, 1])
    assert late.result() == -1


def test_continue_as_new():
    simulation = run(counts, 0)
    assert simulation.result() == 3
    assert [each.number for each in simulation.history().executions] == [1, 2, 3, 4]


def test_a_faked_sub_workflow():
    simulation = run(parent, activities={child: lambda number: f"fake {number}"})
    assert simulation.result() == ["fake 1", "fake 2"]
    assert len(simulation.called(child)) == 2


def choice(workflow, wanted, *args, **options):
    """Find the choices that lead to a line of the trace, and run them."""
    for first in range(40):
        for second in range(40):
            simulation = run(workflow, *args, choices=[first, second], **options)
            if any(wanted in line for line in simulation.trace):
                return simulation
    raise AssertionError(f"no schedule has {wanted!r}")


def test_an_attempt_fails_and_is_tried_again():
    simulation = choice(tries, "fails", crashes=False, cancels=False)
    assert [call.attempt for call in simulation.called(charge)] == [1, 2]
    assert simulation.elapsed == 10
    assert simulation.result() == "c1"


def test_an_activity_fails_for_good():
    simulation = choice(tries, "fails for good", crashes=False, cancels=False)
    assert simulation.result() == SimulatedFinalFailure.__name__
    assert issubclass(SimulatedFinalFailure, NonRetryable)
    assert not issubclass(SimulatedFailure, NonRetryable)


def test_a_killed_worker_has_an_activity_run_again():
    simulation = choice(tries, "as its worker is killed", failures=False, cancels=False)
    assert [call.attempt for call in simulation.called(charge)] == [1, 2]


def test_a_cancel_of_a_client():
    simulation = choice(waits, "cancels", 3600, crashes=False, failures=False)
    assert simulation.status == "cancelled"
    with pytest.raises(InstanceCancelled):
        simulation.result()


def test_a_turn_is_lost_with_its_worker():
    simulation = choice(parent, "is lost", failures=False, cancels=False)
    assert simulation.result() == ["c1", "c2"]


@flows.workflow
async def ships_in_time() -> str:
    try:
        with trio.move_on_after(60):
            return f"shipped {await ship(1)}"
    except ActivityTimeout:
        return "timed out"
    return "cancelled"


def test_an_attempt_takes_too_long():
    simulation = choice(ships_in_time, "takes too long", crashes=False, cancels=False)
    assert isinstance(simulation.called(ship)[0].error, ActivityTimeout)
    assert simulation.elapsed >= 30


class Wanting(Schedule):
    """Does what is wanted as soon as it can be done, one after the other, and else what is usual.

    Args:
        *wanted: Parts of how it is said in the trace.
    """

    more = True

    def __init__(self, *wanted):
        super().__init__()
        self.wanted = list(wanted)

    def pick(self, possibilities):
        for place, what in enumerate(possibilities):
            if self.wanted and self.wanted[0] in what:
                del self.wanted[0]
                return place
        return 0


@flows.activity(heartbeat_timeout=5)
async def copy(number: int) -> int:
    raise AssertionError


@flows.workflow
async def copies() -> int:
    return await copy.options(heartbeat_timeout=20)(1) + await copy(2)


def test_an_attempt_is_silent_for_too_long():
    silent = "'copy' (0:{} of simulated-1) is silent for too long"
    schedule = Wanting(silent.format(0), silent.format(1))
    simulation = run(
        copies, schedule=schedule, activities={copy: lambda number: number}, crashes=False
    )
    assert simulation.result() == 3
    first, _, other, _ = simulation.called(copy)
    assert isinstance(first.error, ActivityTimeout)
    assert isinstance(other.error, ActivityTimeout)
    assert simulation.elapsed == pytest.approx(20 + 1 + 5 + 1, abs=0.5)  # with the delays between


def test_what_was_cancelled_ends_all_the_same():
    """Its result is not lost: the cancel comes at the next checkpoint, of which there is none."""
    deadline = "the time for simulated-1 comes"
    for ends, result in ((" ends", "cancelled"), (" ends all the same", "shipped 1")):
        schedule = Wanting(deadline, ends)
        simulation = run(ships_in_time, schedule=schedule, crashes=False, failures=False)
        assert not schedule.wanted
        assert simulation.result() == result


def test_messages_come_in_turns_of_their_own():
    signals = [(go, 7), (go, 8)]
    counts = []
    for turn in ("a turn of simulated-1", "a turn of simulated-1 with one event"):
        schedule = Wanting("signal 'go' comes", "signal 'go' comes", turn)
        simulation = run(waits, 3600, schedule=schedule, signals=signals)
        assert simulation.result() == 7
        (execution,) = simulation.history().executions
        counts.append([len(turn.events) for turn in execution.decode()])
    together, apart = counts
    assert together == [3]  # the start is an event too
    assert apart[0] == 2


def test_an_execution_is_evicted_and_runs_its_code_again():
    begun = []

    @flows.workflow(name="notes")
    async def notes() -> str:
        begun.append(info().execution)
        return await charge(1)

    quiet = {"crashes": False, "failures": False, "cancels": False}
    run(notes, **quiet)
    usual = len(begun)
    counts = []
    for number in range(10):
        begun.clear()
        simulation = run(notes, choices=[0, number], **quiet)
        if "simulated-1 is evicted" in simulation.trace:
            counts.append(len(begun))
        assert simulation.result() == "c1"
    assert set(counts) == {usual + 1}


def test_the_collector_runs():
    collected = []

    def note(phase, _):
        collected.append(phase)

    gc.disable()
    gc.callbacks.append(note)
    try:
        choice(tries, "the garbage collector runs", crashes=False, cancels=False, failures=False)
    finally:
        gc.callbacks.remove(note)
        gc.enable()
    assert "stop" in collected


def test_activity_info_is_there():
    seen = []

    def note(number):
        seen.append(activity_info())
        return "x"

    run(tries, activities={"charge": note})
    assert seen[0].attempt == 1
    assert seen[0].activity == "charge"


def test_the_next_attempt_knows_what_was_said_with_heartbeat():
    seen = []

    def note(number):
        seen.append(activity_info().heartbeat)
        heartbeat({"attempt": activity_info().attempt})
        if len(seen) == 1:
            raise OSError("broken")
        return "x"

    run(tries, activities={"charge": note})
    assert seen == [None, {"attempt": 1}]


def test_async_functions_must_not_wait():
    async def at_once(number):
        return "async"

    async def waits_itself(number):
        await trio.lowlevel.checkpoint()

    assert run(tries, activities={charge: at_once}).result() == "async"
    assert run(tries, activities={charge: waits_itself}).result() == "TrioflowError"


def test_what_waits_for_ever():
    @flows.workflow(name="hangs")
    async def hangs() -> None:
        await go.receive()

    simulation = run(hangs)
    assert simulation.status == "running"
    with pytest.raises(Stuck, match="signal 'go'"):
        simulation.result()


def test_an_activity_without_a_function():
    with pytest.raises(TrioflowError, match="has no function for it"):
        run(tries, activities={})


def test_a_check_that_fails_tells_what_happened(tmp_path):
    def check(simulation):
        assert simulation.result() == "other"

    with pytest.raises(AssertionError) as caught:
        run(tries, check=check, save_to=tmp_path / "history.json")
    notes = "\n".join(caught.value.__notes__)
    assert "1. a turn of simulated-1" in notes
    assert "history.json" in notes
    check_replay(tmp_path / "history.json", tries)


def test_the_same_schedule_gives_the_same_run():
    choices = [3, 0, 7, 1, 0, 2, 5]
    first, second = run(parent, choices=choices), run(parent, choices=choices)
    assert first.trace == second.trace
    assert first.history() == second.history()


def test_it_runs_inside_of_a_loop_too():
    async def main():
        return run(parent).result()

    assert trio.run(main) == ["c1", "c2"]


@settings(max_examples=60, deadline=None)
@given(schedules())
def test_a_right_workflow_is_right_in_any_order(schedule):
    simulation = simulate(
        p.is_right,
        schedule=schedule,
        activities={p.charge: str, p.ship: str, p.refund: lambda n: None},
        registry=p.flows,
    )
    assert simulation.status != "running"


def deploys_at(step, new=p.after, turns=1):
    return simulate(
        p.before,
        schedule=Schedule([0] * turns + [step]),
        activities={p.charge: str, p.ship: str},
        registry=p.flows,
        deploy=new,
    )


def test_new_code_that_does_not_fit():
    found = 0
    for step in range(40):
        try:
            deploys_at(step)
        except ReplayError as exc:
            assert exc.report.kind == "diverged"
            found += 1
    assert found


def test_new_code_with_a_patch_fits_whenever_it_comes():
    ways = set()
    for turns in range(3):
        for step in range(40):
            simulation = deploys_at(step, p.after_with_a_patch, turns)
            if "the new code is deployed" in simulation.trace:
                ways.add(b"ship-first" in msgspec.json.encode(simulation.history()))
    assert ways == {True, False}
