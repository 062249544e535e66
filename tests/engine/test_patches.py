"""`patched` and `deprecate_patch`: what executions under way do with code that has changed."""

# mypy: ignore-errors

from __future__ import annotations

import inspect

import pytest
import trio
from msgspec import Raw

from tests.engine import driver as engine
from tests.engine.driver import CODEC, act, done, shown
from trioflow import (
    ArgumentError,
    DeterminismError,
    NotInWorkflow,
    deprecate_patch,
    patched,
    side_effect,
)
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.replay import Diverged
from trioflow._model.workflows import Workflow
from trioflow.testing import History, ReplayError, check_replay
from trioflow.testing.history import StoredExecution

charge, ship, audit, notify = (act(name, int) for name in ("charge", "ship", "audit", "notify"))


async def _child():
    raise AssertionError


child = Workflow(_child, name="child")


async def before():
    await charge()
    await ship()


async def after():
    await charge()
    if patched("audit"):
        await audit()
    await ship()


async def settled():
    await charge()
    deprecate_patch("audit")
    await audit()
    await ship()


async def final():
    await charge()
    await audit()
    await ship()


@pytest.fixture(autouse=True)
def _nothing_left():
    yield
    for driver in drivers:
        driver.execution.evict()
    drivers.clear()


drivers = []


def Driver(*args, **options):  # noqa: N802 - as the class
    """A driver whose execution is evicted at the end of the test."""
    driver = engine.Driver(*args, **options)
    drivers.append(driver)
    return driver


def deploy(driver, code):
    """Let other code go on with an execution."""
    driver.execution.evict()
    driver.workflow = Workflow(code, name=driver.workflow.name)
    driver.revive()


def diverged(driver, code):
    """Return the report of a replay with code that does not fit."""
    execution = Execution(Workflow(code, name=driver.workflow.name), driver.identity, CODEC, Caller)
    with pytest.raises(Diverged) as caught:
        execution.replay(driver.turns)
    execution.evict()
    return caught.value.report


def calls(driver):
    """The names of the activities that were called, in their order."""
    return [name for turn in driver.turns for kind, _, name in shown(turn) if kind == "RunActivity"]


def ended(driver):
    return driver.finish(charge=lambda: 1, ship=lambda: 2, audit=lambda: 3, notify=lambda: 4)


# --- which way ------------------------------------------------------------------------------


def test_a_new_execution_takes_the_new_way_and_records_it():
    driver = Driver(after)
    turn = driver.turn(done("0:0", 1))
    assert shown(turn) == [("RecordPatch", "0:1!audit", "audit"), ("RunActivity", "0:1", "audit")]
    driver.check()
    assert calls(ended(driver).check()) == ["charge", "audit", "ship"]


def test_an_execution_that_has_passed_keeps_the_old_way():
    driver = Driver(before)
    driver.turn(done("0:0", 1))
    deploy(driver, after)
    assert calls(ended(driver).check()) == ["charge", "ship"]


def test_an_execution_that_has_not_come_there_yet_takes_the_new_way():
    driver = Driver(before)
    deploy(driver, after)
    assert calls(ended(driver).check()) == ["charge", "audit", "ship"]


def test_the_answer_shifts_no_ids():
    driver = ended(Driver(after))
    assert driver.ids == ["0:0", "0:1!audit", "0:1", "0:2"]


@pytest.mark.parametrize("evict", [False, True])
def test_each_pass_of_a_loop_decides_for_itself(evict):
    async def old():
        for _ in range(3):
            await charge()

    async def new():
        for _ in range(3):
            if patched("audit"):
                await audit()
            await charge()

    driver = Driver(old, evict_always=evict)
    driver.turn(done("0:0", 1))
    deploy(driver, new)
    assert calls(ended(driver).check()) == ["charge", "charge", "audit", "charge"]
    driver = ended(Driver(new, evict_always=evict)).check()
    assert calls(driver) == ["audit", "charge"] * 3


def test_a_loop_without_other_commands_records_one_marker():
    answers = []

    async def old():
        for _ in range(6):
            await trio.sleep(5)

    async def new():
        answers.clear()
        for _ in range(6):
            answers.append(patched("faster"))
            await trio.sleep(5)

    driver = ended(Driver(new))
    driver.check()
    assert driver.ids == ["0:0!faster"]
    driver = Driver(old)
    driver.wake()
    deploy(driver, new)
    ended(driver).check()
    assert answers == [False, False, True, True, True, True]
    assert driver.ids == ["0:0!faster"]


def test_each_task_decides_for_itself():
    async def work():
        if patched("audit"):
            await audit()
        await ship()

    async def plain():
        await ship()

    def program(task):
        async def wf():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(task)
                await charge()
                nursery.start_soon(task)

        return wf

    driver = Driver(program(plain))
    deploy(driver, program(work))
    driver.turn(done("0:0", 1))
    assert calls(driver) == ["charge", "ship", "audit"]
    assert driver.ids == ["0:0", "0.0:0", "0.1:0!audit", "0.1:0"]
    ended(driver).check()


def test_two_patches_in_front_of_one_call():
    async def wf():
        if patched("a"):
            pass
        if patched("b"):
            await ship()

    driver = ended(Driver(wf)).check()
    assert driver.ids == ["0:0!a", "0:0!b", "0:0"]


def test_a_name_with_signs_of_ids():
    async def wf():
        if patched("0.1:2!x\nü"):
            await ship()

    driver = ended(Driver(wf)).check()
    assert driver.ids == ["0:0!0.1:2!x\nü", "0:0"]


# --- the life of a patch --------------------------------------------------------------------


def test_a_patch_is_deprecated_once_the_old_way_is_gone():
    driver = Driver(after)
    driver.turn(done("0:0", 1))
    deploy(driver, settled)
    assert calls(ended(driver).check()) == ["charge", "audit", "ship"]


def test_a_deprecated_patch_records_nothing_and_can_be_removed():
    driver = Driver(settled)
    driver.turn(done("0:0", 1))
    assert driver.ids == ["0:0", "0:1"]
    deploy(driver, final)
    assert calls(ended(driver).check()) == ["charge", "audit", "ship"]


def test_a_patch_that_is_removed_too_early_is_named():
    driver = Driver(after)
    driver.turn(done("0:0", 1))
    report = diverged(driver, final)
    assert report.recorded == "patch 'audit' (0:1!audit)"
    assert report.current == ""
    assert report.patch == "audit"
    assert "deprecate_patch('audit')" in report.message


def test_code_that_goes_back_to_before_the_patch_diverges():
    driver = Driver(after)
    driver.turn(done("0:0", 1))
    assert diverged(driver, before).recorded == "patch 'audit' (0:1!audit)"


# --- the report -----------------------------------------------------------------------------


def test_the_patch_that_a_report_names_mends_it():
    driver = Driver(before)
    driver.turn(done("0:0", 1))
    report = diverged(driver, final)
    assert report.patch == "audit"
    assert f"if patched({report.patch!r}):" in report.message

    async def mended():
        await charge()
        if patched(report.patch):
            await audit()
        await ship()

    deploy(driver, mended)
    assert calls(ended(driver).check()) == ["charge", "ship"]


def test_what_began_with_the_new_way_before_it_was_a_patch_is_to_be_reset():
    driver = Driver(final)
    driver.turn(done("0:0", 1))
    report = diverged(driver, after)
    assert (report.recorded, report.current) == ("activity 'audit' (0:1)", "activity 'ship' (0:1)")
    assert "There patched('audit') is false, since the history has no record" in report.message
    assert "reset the instance to before turn 1" in report.message
    assert report.patch == ""

    async def wrong_elsewhere():
        if patched("audit"):
            await audit()
        await charge()
        await notify()

    driver = Driver(before)
    driver.turn(done("0:0", 1))
    report = diverged(driver, wrong_elsewhere)
    assert report.patch == "notify"
    assert "is false" not in report.message


def test_a_report_names_a_patch_for_a_call_that_is_gone():
    async def after():
        await ship()

    driver = Driver(before)
    report = diverged(driver, after)
    assert report.patch == "ship"

    async def without():
        await charge()
        await trio.sleep(5)

    driver.turn(done("0:0", 1))
    report = diverged(driver, without)
    assert report.patch == "no-ship"

    async def mended():
        await charge()
        if patched(report.patch):
            await trio.sleep(5)
        else:
            await ship()

    deploy(driver, mended)
    ended(driver).check()


def test_a_report_names_a_patch_for_another_end():
    async def longer():
        await before()
        await notify()

    async def waits():
        await before()
        await trio.sleep(5)

    driver = ended(Driver(before))
    assert diverged(driver, longer).patch == "notify"
    report = diverged(driver, waits)
    assert "if patched('new-end'):" in report.message
    assert report.patch == "new-end"


# --- mistakes -------------------------------------------------------------------------------


async def twice():
    old = patched("x")
    await ship()
    new = patched("x")
    return [old, new]


def test_a_patch_that_is_asked_for_at_two_places():
    lines, first = inspect.getsourcelines(twice)
    places = [f"{__file__}:{first + n}" for n, line in enumerate(lines) if "patched" in line]
    driver = ended(Driver(twice)).check()
    with pytest.raises(DeterminismError) as caught:
        driver.result()
    for place in places:
        assert place in str(caught.value)
    assert "new = patched('x')" in str(caught.value)


def test_an_execution_under_way_is_not_led_into_both_ways():
    async def old():
        await ship()
        await charge()

    driver = Driver(old)
    driver.turn(done("0:0", 1))
    report = diverged(driver, twice)
    assert "charge" in report.recorded


def test_one_place_that_several_callers_share():
    async def helper():
        return patched("x")

    async def wf():
        return [await helper(), await helper()]

    assert ended(Driver(wf)).check().result() == [True, True]


@pytest.mark.parametrize("call", [patched, deprecate_patch])
@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b", "\ud800", 7, None])
def test_names_that_are_no_names(call, name):
    async def wf():
        with pytest.raises(ArgumentError, match="the name of a patch"):
            call(name)
        await ship()

    assert ended(Driver(wf)).check().ids == ["0:0"]


@pytest.mark.parametrize("call", [patched, deprecate_patch])
def test_outside_of_a_workflow(call):
    with pytest.raises(NotInWorkflow, match=call.__name__):
        call("x")


def test_an_evicted_execution_records_nothing():
    async def wf():
        try:
            await charge()
        finally:
            patched("x")
            side_effect(lambda: pytest.fail("it ran"), int)

    Driver(wf).evict()


# --- strict replay --------------------------------------------------------------------------


def stored_history(driver):
    turns = [Raw(data) for data in driver.history]
    return History(id="wf", workflow=driver.workflow.name, executions=[StoredExecution(1, turns)])


def test_a_strict_replay_knows_markers(tmp_path):
    new, old = ended(Driver(after)), ended(Driver(before))
    for driver in (new, old):
        stored_history(driver).save(tmp_path / "history.json")
        check_replay(tmp_path / "history.json", Workflow(after, name=driver.workflow.name))
    with pytest.raises(ReplayError) as caught:
        check_replay(stored_history(new), Workflow(final, name=new.workflow.name))
    assert caught.value.report.patch == "audit"


# --- what a strict replay compares beside -----------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "there", "here"),
    [
        (charge.options(queue="a"), charge.options(queue="b"), "queue 'a'", "queue 'b'"),
        (child.options(id="a"), child.options(id="b"), "'a' in queue", "'b' in queue"),
        (child.options(queue="a"), child.options(queue="b"), "queue 'a'", "queue 'b'"),
    ],
)
def test_queues_and_ids_of_sub_workflows_are_compared(old, new, there, here):
    def program(call):
        async def wf():
            await call()

        return wf

    driver = Driver(program(old))
    changed = Workflow(program(new), name=driver.workflow.name)
    with pytest.raises(ReplayError, match="goes elsewhere") as caught:
        check_replay(stored_history(driver), changed)
    report = caught.value.report
    assert there in report.recorded
    assert here in report.current
    driver.execution.evict()
    driver.revive(changed)  # a worker goes on with it
