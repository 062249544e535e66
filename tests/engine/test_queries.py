"""Queries look at an execution between its turns, and after the last; they change nothing."""

# mypy: ignore-errors

from __future__ import annotations

import msgspec
import pytest
import trio

from tests.engine.driver import act, done, raw, request, signal
from trioflow import (
    DefinitionError,
    DeterminismError,
    NotInWorkflow,
    Promise,
    Query,
    Signal,
    Update,
    cancel_instance,
    continue_as_new,
    deprecate_patch,
    forward_unread,
    info,
    is_replaying,
    now,
    patched,
    random,
    retrying,
    saga,
    send_signal,
    set_attributes,
    set_status,
    side_effect,
    start_detached,
    uuid4,
    workflow,
)
from trioflow._engine.reader import Reader
from trioflow._model.invoker import Invoker
from trioflow._model.queries import Question, decode_question, encode_question
from trioflow._model.turns import Completed

contents = Query("contents", result=list[int])
above = Query("above", argument=int, result=list[int])
number, stop = Signal("number", int), Signal("stop", str)
a = act("a", int)


@workflow
async def other():
    pass


def ask(driver, name, *value):
    """The answer as plain data, or type and message of a failure."""
    question = Question(name, *map(raw, value))
    question = decode_question(encode_question(question))
    answer = driver.execution.answer(question)
    if isinstance(answer, Completed):
        return msgspec.json.decode(bytes(answer.result))
    return f"{answer.failure.type.rpartition('.')[2]}: {answer.failure.message}"


async def collects():
    seen = []
    contents.handler(lambda: seen)

    @above.handler
    def _(least):
        return [value for value in seen if value > least]

    async for value in number:
        if value == 0:
            return "ended"
        seen.append(value)
        await a()


def test_a_query_sees_what_the_last_turn_left(drive):
    driver = drive(collects)
    assert ask(driver, "contents") == []
    driver.turn(signal("number", 3))
    assert ask(driver, "contents") == [3]
    driver.turn(done("0:0", 1), signal("number", 7))
    assert (ask(driver, "contents"), ask(driver, "above", 3)) == ([3, 7], [7])
    driver.turn(done("0:1", 1), signal("number", 0))
    assert driver.check().result() == "ended"
    assert ask(driver, "contents") == [3, 7]
    driver.evict()
    driver.revive()
    assert ask(driver, "above", 3) == [7]


def test_a_query_leaves_no_trace_in_the_history(drive):
    driver = drive(collects)
    driver.turn(signal("number", 3))
    before = list(driver.history)
    ask(driver, "contents")
    ask(driver, "unknown")
    assert driver.history == before
    assert not driver.execution.disturbed
    driver.turn(done("0:0", 1))
    driver.check()


def test_a_query_without_a_handler_names_those_that_there_are(drive):
    assert ask(drive(collects), "content") == (
        "QueryNotHandled: instance 'wf' has no handler for the query: 'content'; there are "
        "handlers for 'contents', 'above'"
    )

    async def none():
        await stop.receive()

    assert "'contents'; it has no handler at all" in ask(drive(none), "contents")


def test_what_does_not_fit_is_answered(drive):
    async def wf():
        contents.handler(lambda: "no list")
        above.handler(lambda least: [1 // least])
        await stop.receive()

    driver = drive(wf)
    assert "the result of query 'contents': Expected array, got str" in ask(driver, "contents")
    assert "query 'contents' has no argument" in ask(driver, "contents", 1)
    assert "query 'above' has an argument, and was given none" in ask(driver, "above")
    assert "the argument of query 'above': Expected int, got str" in ask(driver, "above", "x")
    assert "ZeroDivisionError" in ask(driver, "above", 0)


def test_what_has_no_handler_goes_to_the_one_for_any(drive):
    async def wf():
        contents.handler(lambda: [1])

        @Query.any_handler
        def _(name, value):
            return [name, value]

        await stop.receive()

    driver = drive(wf)
    assert ask(driver, "contents") == [1]
    assert ask(driver, "other", {"x": 1}) == ["other", {"x": 1}]
    assert ask(driver, "none") == ["none", None]


CHANGES = {
    "activity 'a'": a,
    "receive() of signal 'number'": number.receive,
    "receive_nowait() of signal 'number'": number.receive_nowait,
    "side_effect()": lambda: side_effect(lambda: 1),
    "random()": random,
    "uuid4()": uuid4,
    "set_status()": lambda: set_status(1),
    "set_attributes()": lambda: set_attributes(color="red"),
    "patched()": lambda: patched("new"),
    "deprecate_patch()": lambda: deprecate_patch("new"),
    "retrying()": retrying,
    "saga()": saga,
    "start_detached()": lambda: start_detached(other),
    "cancel_instance()": lambda: cancel_instance("i"),
    "send_signal()": lambda: send_signal("i", number, 1),
    "forward_unread()": lambda: forward_unread("i"),
    "Promise('p')": lambda: Promise("p"),
    "continue_as_new()": continue_as_new,
    "the handler of query 'above'": lambda: above.handler(lambda _: []),
    "the handler of update 'add'": lambda: Update("add").handler(lambda: 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_query_asks_for_nothing(drive, what):
    async def wf():
        contents.handler(CHANGES[what])
        await stop.receive()
        return await number.receive()

    driver = drive(wf, first=[signal("number", 5)])
    told = ask(driver, "contents")
    assert told.startswith(f"DeterminismError: the handler of query 'contents' called {what}: it")
    assert not driver.execution.disturbed
    driver.turn(signal("stop", ""))
    assert driver.check().result() == 5


def test_what_is_not_refused_only_looks():
    protocol = {name for name in vars(Invoker) if not name.startswith("_")}
    assert protocol <= set(vars(Reader))
    known = {name for name in dir(Reader) if not name.startswith("_")}
    assert known - protocol - {"refuse"} == {"execution", "identity", "info", "now", "replaying"}


def test_a_validator_asks_for_nothing(drive):
    told = []

    async def wf():
        def checks(_):
            for what, change in CHANGES.items():
                with pytest.raises(DeterminismError) as raised:
                    change()
                told.append(f"the validator of update 'add' called {what}: " in str(raised.value))

        Update("add", argument=int).handler(lambda _: None, validator=checks)
        await stop.receive()

    driver = drive(wf)
    driver.turn(request("r1", "add", 4))
    assert told == [True] * len(CHANGES)


def test_what_may_be_looked_at(drive):
    async def wf():
        contents.handler(
            lambda: [
                int(now()),
                int(trio.current_time()),
                info().turns,
                len(info().id),
                int(is_replaying()),
            ]
        )
        await stop.receive()

    assert ask(drive(wf), "contents") == [1_000_000, 1_000_000, 0, 2, 0]


def test_what_a_query_draws_is_put_back(drive):
    async def wf():
        mine = random()
        contents.handler(lambda: [mine.randrange(100)])
        await stop.receive()
        return mine.randrange(1000)

    driver, undisturbed = drive(wf), drive(wf)
    assert "the handler of query 'contents' drew random numbers" in ask(driver, "contents")
    for one in (driver, undisturbed):
        one.turn(signal("stop", ""))
    assert driver.check().result() == undisturbed.check().result()


@pytest.mark.parametrize("how", ["event", "channel", "scope", "deadline", "nursery"])
def test_a_query_that_wakes_somebody_is_found_out(drive, how):
    async def wf():
        event, (send, receive) = trio.Event(), trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(event.wait)
            nursery.start_soon(receive.receive)
            with trio.move_on_after(1000) as scope:
                changes = {
                    "event": event.set,
                    "channel": lambda: send.send_nowait(1),
                    "scope": scope.cancel,
                    "deadline": lambda: setattr(scope, "deadline", 1.0),
                    "nursery": lambda: nursery.start_soon(event.wait),
                }
                contents.handler(lambda: [bool(changes[how]())])
                await stop.receive()
            nursery.cancel_scope.cancel()
        return "as before"

    driver = drive(wf)
    assert "woke a task, or changed a deadline" in ask(driver, "contents")
    assert driver.execution.disturbed
    driver.evict()
    driver.revive()
    driver.turn(signal("stop", ""))
    assert driver.check().result() == "as before"


def test_a_query_may_not_do_what_cannot_be_repeated(drive):
    def reads():
        with open(__file__) as file:  # noqa: PTH123
            return file.read()

    async def wf():
        contents.handler(reads)
        await stop.receive()

    assert "DeterminismError" in ask(drive(wf), "contents")


def test_a_workflow_that_leaves_a_nursery_open_is_asked_further(drive):
    async def wf():
        seen = [1]
        contents.handler(lambda: seen)
        nursery = trio.open_nursery()
        (await nursery.__aenter__()).start_soon(trio.sleep, 100)
        return "left it open"

    driver = drive(wf)
    assert driver.outcome is not None
    assert ask(driver, "contents") == [1]


def test_an_update_sees_no_less(drive):
    async def wf():
        seen = []
        contents.handler(lambda: seen)
        Update("add", argument=int).handler(seen.append)
        await stop.receive()

    driver = drive(wf)
    driver.turn(request("r1", "add", 4))
    assert ask(driver, "contents") == [4]


def test_what_cannot_be_a_handler_is_refused(drive):
    async def wf():
        async def waits():
            pass

        with pytest.raises(DefinitionError, match="the handler of query 'contents' is async"):
            contents.handler(waits)
        with pytest.raises(DefinitionError, match="the handler of query 'contents' is a function"):
            contents.handler([1])
        return True

    assert drive(wf).check().result() is True
    with pytest.raises(NotInWorkflow, match=r"Query\.handler\(\)"):
        contents.handler(list)
