"""What a call's options and ids come to: schedule_timeout, derived ids, seeds."""

# mypy: ignore-errors

from __future__ import annotations

import pytest
import trio

from tests.engine.driver import START, Driver, act, done, failed, stopped
from trioflow import random, uuid4
from trioflow._model.commands import CancelActivity
from trioflow._model.workflows import Workflow
from trioflow.errors import ActivityTimeout

a = act("a", int)
soon = a.options(schedule_timeout=60.0)


# --- schedule_timeout ---------------------------------------------------------------------


async def bounded() -> str:
    try:
        return f"got {await soon()}"
    except ActivityTimeout as error:
        return str(error)


def test_a_schedule_timeout_is_a_deadline_of_the_caller(drive):
    driver = drive(bounded)
    assert driver.execution.wake_at == START + 60
    assert driver.last.commands[0].options.schedule_timeout == 60
    assert driver.wake().commands == [CancelActivity("0:0")]
    driver.turn(stopped("0:0"))
    assert "'a' took longer than its schedule_timeout of 60 s" in driver.check().result()


def test_a_result_that_comes_all_the_same_is_returned(drive):
    driver = drive(bounded)
    driver.wake()
    driver.turn(done("0:0", 7))
    assert driver.check().result() == "got 7"


def test_the_workers_own_word_is_raised(drive):
    driver = drive(bounded)
    driver.turn(failed("0:0", ActivityTimeout("by the worker")))
    assert driver.check().result() == "by the worker"


def test_with_abandon_nobody_waits_for_it(drive):
    async def wf() -> str:
        try:
            await a.options(schedule_timeout=60, on_cancel="abandon")()
        except ActivityTimeout:
            return "left"

    driver = drive(wf)
    driver.wake()
    assert driver.check().result() == "left"


def test_a_cancel_from_outside_stays_a_cancel(drive):
    async def wf() -> str:
        with trio.move_on_after(5):
            await soon()
        return "moved on"

    driver = drive(wf)
    driver.wake()
    driver.turn(stopped("0:0"))
    assert driver.check().result() == "moved on"


def test_a_definition_that_changes_later_does_not_change_a_call():
    early = act("a", int)
    early.schedule_timeout = 60

    def code(activity):
        async def wf() -> str:
            try:
                return f"got {await activity()}"
            except ActivityTimeout:
                return "too late"

        return Workflow(wf, name="wf")

    driver = Driver(code(early))
    driver.evict()
    driver.workflow = code(act("a", int))
    driver.revive()
    assert driver.execution.wake_at == START + 60
    driver.wake()
    driver.turn(stopped("0:0"))
    assert driver.check().result() == "too late"


def test_executions_of_older_rules_leave_it_to_the_worker():
    driver = Driver(bounded, rules=0)
    assert driver.execution.wake_at is None
    driver.turn(done("0:0", 1))
    assert driver.check().result() == "got 1"


# --- ids ----------------------------------------------------------------------------------


async def _chain(depth: int) -> None:
    await chain(depth - 1)


chain = Workflow(_chain, name="chain")


def test_the_ids_of_a_long_chain_stay_short_legible_at_first_and_unique():
    ids, id = [], "order-7"
    for _ in range(300):
        driver = Driver(chain, 5, id=id)
        id = driver.last.commands[0].instance
        driver.evict()
        ids.append(id)
    assert ids[:3] == ["order-7/0:0", "order-7/0:0/0:0", "order-7/0:0/0:0/0:0"]
    assert max(map(len, ids)) <= 120
    assert len(set(ids)) == 300
    assert all(id.startswith("order-7/0:0/0:0") for id in ids[1:])


def test_calls_of_one_parent_have_ids_of_their_own_beyond_that():
    async def wf() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(chain, 1)

    for execution in (1, 2):
        driver = Driver(wf, id="x" * 200 + "\udc80", number=execution)
        children = [command.instance for command in driver.last.commands]
        assert len(set(children)) == 20
        assert max(map(len, children)) < 120
        again = Driver(wf, id="x" * 200 + "\udc80", number=execution)
        assert [command.instance for command in again.last.commands] == children
        driver.evict()
        again.evict()


def test_an_explicit_id_is_left_as_it_is():
    async def wf() -> None:
        await chain.options(id="y" * 300)(1)

    driver = Driver(wf)
    assert driver.last.commands[0].instance == "y" * 300
    driver.evict()


# --- chance -------------------------------------------------------------------------------


async def draws() -> list:
    return [str(uuid4()), random().random()]


@pytest.mark.parametrize("rules", [0, 1])
def test_chance_comes_from_the_seed_and_where_there_is_none_from_the_id(rules):
    def drawn(id="wf", **started):
        return Driver(draws, id=id, rules=rules, started=started).check().result()

    assert drawn() == drawn() != drawn("other")
    assert drawn(seed="1f") == drawn("other", seed="1f")
    assert drawn(seed="1f") != drawn(seed="20")
    assert drawn(seed="1f") != drawn()


def test_the_old_rule_gives_what_it_gave():
    assert Driver(draws, rules=0).result()[0] == str(_old("wf/1/0"))


def _old(seed):
    import random as chance  # noqa: PLC0415  # `random` is the workflow's
    import uuid  # noqa: PLC0415

    return uuid.UUID(int=chance.Random(seed).getrandbits(128), version=4)


def test_options_that_are_there_are_kept_beside_the_limit():
    async def wf() -> None:
        await a.options(timeout=5, schedule_timeout=60)()

    driver = Driver(wf)
    options = driver.last.commands[0].options
    assert (options.timeout, options.schedule_timeout) == (5, 60)
    driver.evict()


def test_children_of_two_parents_never_share_an_id():
    """As those of the second execution of `a` and of the instance `a/2` would."""
    parents = [("a", 1), ("a", 2), ("a/2", 1), ("a/2", 2), ("a/2:0", 1), ("a/0:0", 1)]
    ids = []
    for id, number in parents:
        driver = Driver(chain, 5, id=id, number=number)
        ids.append(driver.last.commands[0].instance)
        driver.evict()
    assert ids[:3] == ["a/0:0", "a/2:0:0", "a/2/0:0"]
    assert len(set(ids)) == len(parents)
