"""Updates: each is answered once, by its handler or by the end, and none is lost."""

# mypy: ignore-errors

from __future__ import annotations

import msgspec
import pytest
import trio

from tests.engine.driver import START, act, answers, done, request, shown, signal, stopped
from trioflow import (
    DefinitionError,
    DeterminismError,
    NotInWorkflow,
    Query,
    Signal,
    Update,
    Workflow,
    continue_as_new,
    info,
    now,
    random,
    set_status,
    side_effect,
)
from trioflow._engine.suspension import NeedsSuspension
from trioflow._model import events as ev
from trioflow._model.queries import Question
from trioflow._model.rules import CHECKED_HANDLERS, LIMITED_HANDLERS
from trioflow._model.turns import Cancelled, Completed, Continued, Failed

add = Update("add", argument=int, result=int)
flush = Update("flush", result=str)
word_of = Query("word", argument=str)
stop, word = Signal("stop", str), Signal("word", str)
a, b = act("a", int), act("b", int)


def plain(answer):
    """An answer without the module of the error's class."""
    return answer.rpartition(".")[2] if isinstance(answer, str) else answer


async def total():
    """Adds what it is asked to add, until it is told to stop."""
    numbers = []

    @add.handler
    async def _(number):
        numbers.append(number)
        return sum(numbers)

    await stop.receive()
    return numbers


def test_a_handler_answers_in_a_task_of_its_own(drive):
    driver = drive(total)
    first = driver.turn(request("r1", "add", 2))
    assert (answers(first), shown(first)) == ({"r1": 2}, [("AnswerUpdate", "u1:0", "add")])
    second = driver.turn(request("r2", "add", 3), request("r3", "add", 4))
    assert (answers(second), [c.id for c in second.commands]) == (
        {"r2": 5, "r3": 9},
        ["u2:0", "u3:0"],
    )
    driver.turn(signal("stop", ""))
    assert driver.check().result() == [2, 3, 4]


def test_a_handler_may_do_what_a_workflow_may(drive):
    async def wf():
        @add.handler
        async def _(number):
            with trio.move_on_after(10):
                return number + await a()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(b)
                nursery.start_soon(b)
            return side_effect(lambda: number)

        await stop.receive()

    driver = drive(wf)
    assert shown(driver.turn(request("r1", "add", 1))) == [("RunActivity", "u1:0", "a")]
    driver.turn(request("r2", "add", 5))
    assert answers(driver.turn(done("u1:0", 41))) == {"r1": 42}
    assert shown(driver.wake()) == [("CancelActivity", "u2:0", "")]
    turn = driver.turn(stopped("u2:0"))
    assert [c.id for c in turn.commands] == ["u2.0:0", "u2.1:0"]
    turn = driver.turn(done("u2.0:0", 0), done("u2.1:0", 0))
    assert (answers(turn), [c.id for c in turn.commands]) == ({"r2": 5}, ["u2:1", "u2:2"])
    driver.turn(signal("stop", ""))
    assert driver.check().result() is None


def test_an_update_waits_for_its_handler(drive):
    async def wf():
        seen = []
        await trio.sleep(10)
        add.handler(lambda number: seen.append(number) or number)
        await trio.sleep(10)
        flush.handler(lambda: f"flushed {seen}")
        await stop.receive()

    driver = drive(wf, first=[request("r1", "add", 1), request("r2", "flush")])
    assert answers(driver.turn(request("r3", "add", 3))) == {}
    assert answers(driver.wake()) == {"r1": 1, "r3": 3}
    turn = driver.wake()
    assert (answers(turn), [c.id for c in turn.commands]) == ({"r2": "flushed [1, 3]"}, ["u2:0"])
    driver.turn(signal("stop", ""))
    driver.check()


def test_the_last_handler_counts_and_those_that_run_go_on(drive):
    async def wf():
        @add.handler
        async def _(number):
            return number + await a()

        await word.receive()
        add.handler(lambda number: -number)
        await stop.receive()

    driver = drive(wf)
    driver.turn(request("r1", "add", 1))
    driver.turn(signal("word", ""))
    assert answers(driver.turn(request("r2", "add", 2))) == {"r2": -2}
    assert answers(driver.turn(done("u1:0", 10))) == {"r1": 11}
    driver.turn(signal("stop", ""))
    driver.check()


def test_what_a_handler_raises_is_its_answer_and_nothing_else(drive):
    async def wf():
        @add.handler
        async def _(number):
            if number < 0:
                raise SystemExit(number)
            async with trio.open_nursery():
                raise ValueError(f"not {number}")

        await stop.receive()
        return "well"

    driver = drive(wf)
    turn = driver.turn(request("r1", "add", 1), request("r2", "add", -1))
    assert answers(turn)["r1"].startswith("ExceptionGroup: ")
    assert answers(turn)["r2"] == "SystemExit: -1"
    driver.turn(signal("stop", ""))
    assert driver.check().result() == "well"


def test_a_validator_refuses_before_anything_happens(drive):
    async def wf():
        seen = []

        def check(number):
            assert now() > 0
            assert info().id == "wf"
            if number > 10:
                raise ValueError("too much")

        @add.handler(validator=check)
        async def _(number):
            seen.append(number)
            return await a()

        await stop.receive()
        return seen

    driver = drive(wf)
    turn = driver.turn(request("r1", "add", 11), request("r2", "add", 10))
    assert answers(turn) == {"r1": "ValueError: too much"}
    assert answers(driver.turn(done("u2:0", 1))) == {"r2": 1}
    driver.turn(signal("stop", ""))
    assert driver.check().result() == [10]


CHANGES = {
    "activity 'a'": a,
    "receive() of signal 'word'": word.receive,
    "receive_nowait() of signal 'word'": word.receive_nowait,
    "side_effect()": lambda: side_effect(lambda: 1),
    "random()": random,
    "set_status()": lambda: set_status(1),
    "continue_as_new()": continue_as_new,
    "the handler of update 'flush'": lambda: flush.handler(lambda: ""),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_validator_changes_nothing(drive, what):
    async def wf():
        add.handler(validator=lambda _: CHANGES[what]())(lambda number: number)
        await stop.receive()
        return await word.receive()

    driver = drive(wf, first=[signal("word", "kept")])
    turn = driver.turn(request("r1", "add", 1))
    assert [type(command).__name__ for command in turn.commands] == ["AnswerUpdate"]
    assert f"the validator of update 'add' called {what}: it may look" in answers(turn)["r1"]
    driver.turn(signal("stop", ""))
    assert driver.check().result() == "kept"


def test_what_does_not_fit_is_answered_and_suspends_nothing(drive):
    async def wf():
        add.handler(lambda number: f"no int: {number}")
        flush.handler(lambda: "done")
        await stop.receive()

    driver = drive(wf)
    events = request("r1", "add", "x"), request("r2", "add"), request("r3", "flush", 1)
    turn = driver.turn(*events, request("r4", "add", 4))
    told = answers(turn)
    assert "UndecodableValue: the argument of update 'add': Expected int, got str" in told["r1"]
    assert "ArgumentError: update 'add' has an argument, and was given none" in told["r2"]
    assert "ArgumentError: update 'flush' has no argument, and was given one" in told["r3"]
    assert "ValueMismatch: the result of update 'add': Expected" in told["r4"]
    driver.turn(signal("stop", ""))
    driver.check()


def test_what_has_no_handler_goes_to_the_one_for_any(drive):
    async def wf():
        flush.handler(lambda: "its own")
        await word.receive()

        @Update.any_handler
        async def _(name, value):
            if name == "bad":
                raise ValueError(value)
            return [name, value, await a()]

        await stop.receive()

    driver = drive(wf, first=[request("r1", "add", 1), request("r2", "flush")])
    assert answers(driver.last) == {"r2": "its own"}
    assert shown(driver.turn(signal("word", ""))) == [("RunActivity", "u1:0", "a")]
    turn = driver.turn(done("u1:0", 5), request("r3", "bad", {"x": 1}), request("r4", "none"))
    assert answers(turn) == {"r1": ["add", 1, 5], "r3": "ValueError: {'x': 1}"}
    assert answers(driver.turn(done("u4:0", 6))) == {"r4": ["none", None, 6]}
    driver.turn(signal("stop", ""))
    driver.check()


# --- the end ------------------------------------------------------------------------------


async def slow():
    """Its handler takes as long as an activity; it ends at a signal, in one of several ways."""

    @add.handler
    async def _(number):
        try:
            return number + await a()
        finally:
            with trio.CancelScope(shield=True):
                await b()

    how = await stop.receive()
    if how == "raise":
        raise ValueError("enough")
    if how == "again":
        continue_as_new()
    return how


@pytest.mark.parametrize("how", ["return", "again"])
def test_the_end_waits_for_handlers_that_run(drive, how):
    driver = drive(slow, first=[request("r1", "add", 1)])
    assert driver.turn(signal("stop", how)).outcome is None
    assert driver.turn(request("late", "add", 2)).outcome is None
    assert driver.turn(done("u1:0", 41)).outcome is None
    turn = driver.turn(done("u1:1", 0))
    assert answers(turn) == {"r1": 42}
    assert isinstance(turn.outcome, Continued if how == "again" else Completed)
    assert [each.update for each in driver.check().execution.messages.unread()] == ["late"]


def test_a_failure_cancels_handlers_and_waits_for_them(drive):
    driver = drive(slow, first=[request("r1", "add", 1)])
    turn = driver.turn(signal("stop", "raise"))
    assert (shown(turn), turn.outcome) == ([("CancelActivity", "u1:0", "")], None)
    assert shown(driver.turn(stopped("u1:0"))) == [("RunActivity", "u1:1", "b")]
    turn = driver.turn(done("u1:1", 0))
    assert isinstance(turn.outcome, Failed)
    assert answers(turn) == {}
    driver.check()


def test_a_result_that_came_all_the_same_is_the_answer(drive):
    driver = drive(slow, first=[request("r1", "add", 1)])
    driver.turn(signal("stop", "raise"))
    driver.turn(done("u1:0", 5))
    turn = driver.turn(done("u1:1", 0))
    assert isinstance(turn.outcome, Failed)
    assert answers(turn) == {"r1": 6}
    driver.check()


def test_a_cancel_of_the_instance_cancels_handlers(drive):
    driver = drive(slow, first=[request("r1", "add", 1)])
    turn = driver.turn(ev.CancelRequested("enough"))
    assert (shown(turn), turn.outcome) == ([("CancelActivity", "u1:0", "")], None)
    driver.turn(stopped("u1:0"))
    turn = driver.turn(done("u1:1", 0), request("late", "add", 2))
    assert turn.outcome == Cancelled("enough")
    assert plain(answers(turn)["r1"]) == "InstanceCancelled: instance 'wf' was cancelled: enough"
    driver.check()


def test_whoever_survives_a_cancel_answers_what_was_cancelled(drive):
    async def wf():
        @add.handler
        async def _(number):
            return await a()

        try:
            await stop.receive()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                return await stop.receive()

    driver = drive(wf, first=[request("r1", "add", 1)])
    driver.turn(ev.CancelRequested("enough"))
    turn = driver.turn(stopped("u1:0"))
    assert list(answers(turn)) == ["r1"]
    assert turn.outcome is None
    driver.turn(request("r2", "add", 2))
    turn = driver.turn(signal("stop", "all the same"))
    assert (driver.check().result(), answers(turn)) == ("all the same", {})
    assert [each.update for each in driver.execution.messages.unread()] == ["r2"]


@pytest.mark.parametrize("how", ["return", "slow return", "raise", "again", "cancel"])
def test_an_update_of_the_turn_in_which_it_ends_begins(drive, how):
    """It came after what ends the workflow, in the same turn: it is seen all the same."""
    driver = drive(total) if how == "return" else drive(slow)
    end = ev.CancelRequested() if how == "cancel" else signal("stop", how)
    events = [end, request("r1", "add", 1)]
    if how == "cancel":
        events.reverse()
    turn = driver.turn(*events)
    if how == "return":
        assert answers(turn) == {"r1": 1}
        assert driver.check().result() == [1]
        return
    if how == "raise":  # it would only begin to be cancelled
        assert (shown(turn), type(turn.outcome)) == ([], Failed)
        driver.check()
        return
    # A call of the turn that cancels it has had no effect.
    assert shown(turn) == [("RunActivity", *(("u1:1", "b") if how == "cancel" else ("u1:0", "a")))]
    assert turn.outcome is None
    driver.finish(a=lambda: 1, b=lambda: 0)
    driver.check()


def test_messages_go_over_in_the_order_of_their_arrival(drive):
    async def wf(more: bool):
        if more:
            await stop.receive()
            continue_as_new(more=False)
        received = [await word.receive(), await word.receive()]
        add.handler(lambda number: number * 2)
        return received

    sent = [signal("word", "x"), request("r1", "add", 1), signal("word", "y")]
    driver = drive(wf, True, first=[*sent, request("r2", "add", 2)])
    driver.turn(signal("stop", ""))
    carried = driver.check().execution.messages.unread()
    assert [getattr(each, "update", "") for each in carried] == ["", "r1", "", "r2"]
    later = drive(wf, False, number=2, started={"carried": carried})
    assert answers(later.last) == {"r1": 2, "r2": 4}
    assert later.check().result() == ["x", "y"]


@pytest.mark.parametrize("bad", [False, True])
def test_what_handlers_do_at_the_end_is_not_lost_to_the_next_execution(drive, bad):
    """The arguments are those of when the handlers have ended."""

    async def wf(seen: list[int]):
        @add.handler
        async def _(number):
            await a()
            seen.append("no number" if bad else number)
            return len(seen)

        await stop.receive()
        continue_as_new(seen)

    driver = drive(wf, [1], first=[request("r1", "add", 2)])
    driver.turn(signal("stop", ""))
    turn = driver.turn(done("u1:0", 0))
    assert answers(turn) == {"r1": 2}
    if bad:
        assert "continue_as_new() of" in turn.outcome.failure.message
    else:
        assert bytes(turn.outcome.input) == b'{"seen":[1,2]}'
    driver.check()


def test_a_handler_does_not_continue_the_workflow(drive):
    async def wf():
        @flush.handler
        async def _():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(again)

        async def again():
            continue_as_new()

        await stop.receive()
        return "went on"

    driver = drive(wf)
    turn = driver.turn(request("r1", "flush"))
    assert turn.outcome is None
    assert "sub-exception" in answers(turn)["r1"]
    (command,) = turn.commands
    assert "continue_as_new() was called in the handler" in command.failure.members[0].message
    driver.turn(signal("stop", ""))
    assert driver.check().result() == "went on"


def test_a_workflows_timeout_ends_its_handlers(drive):
    driver = drive(Workflow(slow, timeout=60), first=[request("r1", "add", 1)])
    assert shown(driver.wake()) == [("CancelActivity", "u1:0", "")]
    driver.turn(stopped("u1:0"))
    turn = driver.turn(done("u1:1", 0))
    assert turn.outcome.failure.type == "TimeoutError"


def limited(**more):
    return {"started": {"deadline_at": START + 60}, **more}


def test_it_ends_them_also_when_the_workflow_has_returned(drive):
    driver = drive(slow, **limited(first=[request("r1", "add", 1)]))
    assert driver.turn(signal("stop", "return")).outcome is None
    turn = driver.wake()
    assert (driver.now, shown(turn)) == (START + 60, [("CancelActivity", "u1:0", "")])
    driver.turn(stopped("u1:0"))
    turn = driver.turn(done("u1:1", 0))
    assert "took longer than its timeout" in answers(turn)["r1"]
    assert isinstance(turn.outcome, Completed)  # it was in time itself
    driver.check()


def test_one_that_comes_when_the_time_is_over_does_not_begin(drive):
    async def wf():
        @add.handler
        async def _(number):
            await a()

        try:
            await stop.receive()
        finally:
            with trio.CancelScope(shield=True):
                await b()

    driver = drive(wf, **limited())
    driver.wake()
    turn = driver.turn(request("r1", "add", 1))
    assert [type(each).__name__ for each in turn.commands] == ["AnswerUpdate"]
    assert "took longer than its timeout" in answers(turn)["r1"]
    assert driver.turn(done("0:0", 1)).outcome.failure.type == "TimeoutError"
    driver.check()


def test_what_a_failure_has_cancelled_hears_of_the_end_however_late(drive):
    driver = drive(slow, **limited(first=[request("r1", "add", 1)]))
    driver.turn(signal("stop", "raise"))
    driver.turn(stopped("u1:0"), now=START + 100)
    turn = driver.turn(done("u1:1", 0))
    assert (answers(turn), turn.outcome.failure.type) == ({}, "ValueError")
    driver.check()


def test_by_older_rules_handlers_have_no_limit_of_their_own(drive):
    """Histories that began so replay so."""
    rules = LIMITED_HANDLERS - 1
    driver = drive(slow, **limited(first=[request("r1", "add", 1)], rules=rules))
    driver.turn(signal("stop", "return"))
    assert driver.execution.wake_at is None
    driver.turn(done("u1:0", 1), now=START + 100)
    assert answers(driver.turn(done("u1:1", 0))) == {"r1": 2}
    driver.check()


async def with_wrong_handlers():
    """Each of them takes an argument too few."""
    add.handler(lambda: 1)
    word_of.handler(lambda: "")
    await stop.receive()
    return "stopped"


def test_a_handler_that_does_not_fit_is_refused_where_it_is_set(drive):
    failure = drive(with_wrong_handlers).check().turns[-1].outcome.failure
    assert failure.type == "trioflow.errors.DefinitionError"
    assert "the handler of update 'add' (" in failure.message


def test_by_older_rules_a_handler_that_does_not_fit_fails_when_it_is_called(drive):
    """Executions that have set one, and perhaps never needed it, go on as they began."""
    driver = drive(with_wrong_handlers, rules=CHECKED_HANDLERS - 1)
    asked = driver.execution.queries.answer(Question("word", msgspec.Raw(b'"a"')))
    assert "takes 0 positional" in asked.failure.message
    assert "takes 0 positional" in answers(driver.turn(request("r1", "add", 1)))["r1"]
    driver.turn(signal("stop", ""))
    assert driver.check().result() == "stopped"


# --- replay and mistakes --------------------------------------------------------------------


def test_a_handler_that_changed_diverges_at_its_task(drive):
    def version(activity):
        async def wf():
            @add.handler
            async def _(number):
                return await activity()

            await stop.receive()

        return Workflow(wf, name="wf")

    driver = drive(version(a), first=[request("r1", "add", 1)])
    driver.turn(done("u1:0", 1))
    driver.evict()
    with pytest.raises(NeedsSuspension) as raised:
        driver.revive(version(b))
    report = raised.value.report
    assert (report.task, report.recorded) == ("u1", "activity 'a' (u1:0)")


def test_a_command_after_the_answer_of_code_that_swallows_its_eviction(drive):
    """Nothing is answered while an execution is unwound."""

    async def wf():
        @add.handler
        async def _(number):
            try:
                return await a()
            except BaseException:
                return -1

        await stop.receive()

    driver = drive(wf, first=[request("r1", "add", 1)])
    driver.evict()
    driver.revive()
    assert answers(driver.turn(done("u1:0", 7))) == {"r1": 7}


def test_handlers_are_set_in_workflows_only():
    with pytest.raises(NotInWorkflow, match=r"Update\.handler\(\) can only be called inside"):
        add.handler(lambda number: number)


def test_what_cannot_be_a_handler_is_refused(drive):
    async def wf():
        async def check(number):
            pass

        with pytest.raises(DefinitionError, match="the handler of update 'add' is a function"):
            add.handler(7)
        with pytest.raises(DefinitionError, match="the validator of update 'add' is async"):
            add.handler(validator=check)
        with pytest.raises(DefinitionError, match="the validator of update 'add' is a function"):
            add.handler(validator="x")
        return True

    assert drive(wf).check().result() is True


def test_a_handler_may_not_do_what_cannot_be_repeated(drive):
    async def wf():
        @flush.handler
        async def _():
            with open(__file__) as file:  # noqa: ASYNC230, PTH123
                return file.read()

        await stop.receive()

    driver = drive(wf)
    turn = driver.turn(request("r1", "flush"))
    assert DeterminismError.__name__ in answers(turn)["r1"]


def test_an_update_shows_what_it_is():
    assert repr(add) == "Update('add')"
    assert repr(add.options(id="r1")) == "Update('add', r1)"
