"""How executions end, how failures travel, and how sub-workflows are tried again."""

# mypy: ignore-errors

from __future__ import annotations

import pytest
import trio

from tests.engine.driver import (
    START,
    Driver,
    act,
    child_done,
    child_failed,
    done,
    failed,
    shown,
    signal,
)
from trioflow import NonRetryable, RetryPolicy, continue_as_new
from trioflow._codec.failures.failures import Failure
from trioflow._model import events as ev
from trioflow._model.rules import LATE_GENERATORS
from trioflow._model.turns import Cancelled, Completed
from trioflow._model.workflows import Workflow
from trioflow.errors import ActivityTimeout, DeterminismError, RemoteError, ValueMismatch

a, b = act("a", int), act("b", int)


class Declined(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def test_an_activitys_failure_is_raised_as_its_own_class(drive):
    async def wf():
        try:
            await a()
        except Declined as error:
            return error.code

    driver = drive(wf)
    driver.turn(failed("0:0", Declined(7)))
    assert driver.check().result() == 7


def test_a_failure_of_an_unknown_class_is_a_remote_error(drive):
    async def wf():
        try:
            await a()
        except RemoteError as error:
            return error.type

    driver = drive(wf)
    driver.turn(ev.ActivityFailed(id="0:0", failure=Failure(type="shop.Closed", message="sorry")))
    assert driver.check().result() == "shop.Closed"


def test_a_timed_out_activity_is_a_timeout_error(drive):
    async def wf():
        try:
            await a()
        except TimeoutError as error:
            return str(error)

    driver = drive(wf)
    driver.turn(failed("0:0", ActivityTimeout("too slow")))
    assert driver.check().result() == "too slow"


def test_failures_of_several_branches_travel_as_a_group(drive):
    async def wf():
        seen = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(a)
                nursery.start_soon(b)
        except* Declined as group:
            seen += [error.code for error in group.exceptions]
        except* KeyError as group:
            seen += [str(error) for error in group.exceptions]
        return seen

    driver = drive(wf)
    driver.turn(failed("0.0:0", Declined(1)), failed("0.1:0", KeyError("k")))
    assert driver.check().result() == [1, "'k'"]


def test_a_group_leaves_the_workflow_as_a_group(drive):
    async def wf():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a)
            nursery.start_soon(b)

    driver = drive(wf)
    driver.turn(failed("0.0:0", Declined(1)), failed("0.1:0", Declined(2)))
    with pytest.raises(ExceptionGroup) as caught:
        driver.check().result()
    assert [error.code for error in caught.value.exceptions] == [1, 2]


def test_the_cause_and_notes_of_a_failure_travel(drive):
    async def wf():
        try:
            await a()
        except KeyError as error:
            raise Declined(3) from error

    driver = drive(wf)
    driver.turn(failed("0:0", KeyError("k")))
    failure = driver.check().outcome.failure
    assert failure.type.endswith("Declined")
    assert failure.cause.type == "KeyError"
    assert "test_outcomes.py" in failure.traceback


def test_a_result_of_the_wrong_type_is_a_failure_that_names_it(drive):
    async def wf() -> int:
        return "text"

    with pytest.raises(ValueMismatch, match=r"wf\(\) result.*int"):
        drive(Workflow(wf, name="wf")).check().result()


def test_a_result_that_cannot_be_stored_is_a_failure(drive):
    async def wf():
        return {"x": [object()]}

    with pytest.raises(ValueMismatch, match=r"\$\.x\[0\]"):
        drive(Workflow(wf, name="wf")).check().result()


def test_an_execution_begins_with_started():
    async def wf():
        pass

    fresh = Driver(wf).fresh()
    with pytest.raises(DeterminismError, match="Started"):
        fresh.advance([ev.Woken()], START)


async def slow():
    await trio.sleep(1000)


def test_a_workflows_timeout_is_durable(drive):
    driver = drive(Workflow(slow, timeout=60))
    driver.evict()
    driver.revive(Workflow(slow, timeout=600))
    assert driver.execution.wake_at == START + 60
    driver.wake()
    with pytest.raises(TimeoutError, match="'slow' took longer than its timeout, which was over"):
        driver.check().result()


def test_by_older_rules_it_is_what_the_definition_says(drive):
    driver = drive(Workflow(slow, timeout=60), rules=LATE_GENERATORS - 1)
    assert driver.execution.wake_at == START + 60
    driver.wake()
    with pytest.raises(TimeoutError, match="'slow' took longer than its timeout of 60"):
        driver.check().result()


def test_one_that_is_added_later_leaves_what_has_begun_alone(drive):
    driver = drive(slow)
    driver.turn(signal("other"), now=START + 500)
    driver.evict()
    driver.workflow = Workflow(slow, timeout=60)
    driver.revive()
    assert driver.execution.wake_at == START + 1000
    driver.wake()
    assert driver.check().result() is None


def test_a_workflow_within_its_timeout_is_fine(drive):
    async def wf():
        await trio.sleep(10)
        return 1

    assert drive(Workflow(wf, timeout=60)).finish().check().result() == 1


async def _child() -> int:
    return 1


def tried(**policy):
    return Workflow(_child, name="child", retry=RetryPolicy(jitter=0, **policy))


def test_a_child_is_tried_again_as_its_policy_says(drive):
    child = tried(max_attempts=3, initial_interval=10, backoff=2)

    async def wf():
        return [await child(), trio.current_time() - START]

    driver = drive(wf)
    driver.turn(child_failed("0:0", Declined(1)))
    assert driver.execution.wake_at == START + 10
    assert shown(driver.wake()) == [("StartChild", "0:1", "child")]
    driver.turn(child_failed("0:1", Declined(2)))
    assert driver.execution.wake_at == START + 30
    driver.wake()
    driver.turn(child_done("0:2", 5))
    assert driver.check().result() == [5, 30]
    commands = [c for turn in driver.turns for c in turn.commands]
    assert [c.instance for c in commands] == ["wf/0:0", "wf/0:1", "wf/0:2"]


def test_the_last_failure_is_raised_and_names_the_instance(drive):
    child = tried(max_attempts=2, initial_interval=1)

    async def wf():
        await child()

    driver = drive(wf)
    driver.turn(child_failed("0:0", Declined(1)))
    driver.wake()
    driver.turn(child_failed("0:1", Declined(2)))
    with pytest.raises(Declined) as caught:
        driver.check().result()
    assert caught.value.code == 2
    assert any("wf/0:1" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    ("child", "error"),
    [
        (Workflow(_child, name="child"), Declined(1)),
        (tried(max_attempts=5), NonRetryable("no")),
        (tried(max_attempts=5, non_retryable=(Declined,)), Declined(1)),
    ],
)
def test_some_failures_are_final_at_once(drive, child, error):
    async def wf():
        await child()

    driver = drive(wf)
    driver.turn(child_failed("0:0", error))
    with pytest.raises(type(error)):
        driver.check().result()


def test_waiting_for_the_next_attempt_can_be_cancelled(drive):
    child = tried(max_attempts=5, initial_interval=50)

    async def wf():
        with trio.move_on_after(5):
            await child()
        return "moved on"

    driver = drive(wf)
    driver.turn(child_failed("0:0", Declined(1)))
    assert driver.execution.wake_at == START + 5
    driver.wake()
    assert driver.check().result() == "moved on"


def test_a_child_has_the_id_queue_and_input_that_were_given(drive):
    async def pays(amount: int) -> int:
        return amount

    child = Workflow(pays, name="pays", queue="money")

    async def wf():
        await child.options(id="pay-7")(amount=7)
        await Workflow(pays, name="pays")(8)

    driver = drive(wf, number=3, queue="eu")
    first = driver.last.commands[0]
    assert (first.instance, first.queue, bytes(first.input)) == ("pay-7", "money", b'{"amount":7}')
    driver.turn(child_done("0:0", 7))
    second = driver.last.commands[0]
    assert (second.instance, second.queue) == ("wf/3:0:1", "eu")
    driver.turn(child_done("0:1", 8))
    assert isinstance(driver.check().outcome, Completed)


def test_an_activitys_command_carries_queue_and_options(drive):
    async def wf():
        await a.options(queue="gpu", timeout=5)()

    command = drive(wf).last.commands[0]
    assert (command.queue, command.options.timeout) == ("gpu", 5)


def test_what_is_left_running_of_the_time_is_the_earliest_deadline():
    async def wf():
        with trio.move_on_after(30):
            await trio.sleep(100)
        with trio.move_on_at(START + 40), trio.CancelScope(deadline=START + 35, shield=True):
            await trio.sleep_forever()

    driver = Driver(wf)
    assert driver.execution.wake_at == START + 30
    driver.wake()
    assert driver.execution.wake_at == START + 35
    driver.turn(now=START + 34.9)
    assert driver.outcome is None
    driver.wake()
    assert driver.outcome is not None
    assert driver.execution.wake_at is None
    driver.check()


def test_the_clock_does_not_go_back():
    async def wf():
        await trio.sleep(10)
        return trio.current_time()

    driver = Driver(wf)
    driver.turn(now=START - 500)
    assert driver.last.now == START
    assert driver.finish().check().result() == START + 10


def test_a_cancel_is_not_lost_by_continuing_as_new(drive):
    async def wf():
        await act("a")()
        continue_as_new()

    driver = drive(wf)
    driver.turn(ev.CancelRequested("enough"), done("0:0"))
    assert driver.outcome == Cancelled("enough")
