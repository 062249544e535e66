"""Signals: in the order of arrival, to one receiver each, lost to nobody."""

# mypy: ignore-errors

from __future__ import annotations

import pytest
import trio

from tests.engine.driver import START, act, done, signal
from trioflow import Signal, continue_as_new, forward_unread, send_signal
from trioflow._codec.failures.failures import Failure
from trioflow._engine.tree import tasks_of
from trioflow._model import events as ev
from trioflow._model.rules import FORWARDED_ONCE
from trioflow._model.turns import Continued
from trioflow.errors import InstanceNotFound

number, word = Signal("number", int), Signal("word", str)
a = act("a", int)


def test_signals_come_in_the_order_of_their_arrival_by_name(drive):
    async def wf():
        return [await number.receive(), await word.receive(), await number.receive()]

    driver = drive(wf)
    driver.turn(signal("word", "a"), signal("number", 1))
    driver.turn(signal("number", 2))
    assert driver.check().result() == [1, "a", 2]


def test_what_came_before_it_was_asked_for_is_kept(drive):
    async def wf():
        await trio.sleep(10)
        return [await number.receive(), await number.receive()]

    driver = drive(wf, first=[signal("number", 1)])
    driver.turn(signal("number", 2))
    driver.wake()
    assert driver.check().result() == [1, 2]


def test_iterating_receives_for_ever(drive):
    async def wf():
        seen = []
        async for value in number:
            seen.append(value)
            if value == 0:
                break
        return seen

    driver = drive(wf)
    for value in (3, 2, 1, 0):
        driver.turn(signal("number", value))
    assert driver.check().result() == [3, 2, 1, 0]


def test_receiving_without_waiting(drive):
    async def wf():
        seen = []
        for _ in range(3):
            try:
                seen.append(number.receive_nowait())
            except trio.WouldBlock:
                seen.append("nothing")
        return seen

    assert drive(wf, first=[signal("number", 1), signal("number", 2)]).check().result() == [
        *(1, 2, "nothing")
    ]


def test_the_longest_waiting_receiver_gets_it(drive):
    async def wf():
        seen = []

        async def receiver(name):
            seen.append([name, await number.receive()])

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(receiver, name)
        return seen

    driver = drive(wf)
    driver.turn(signal("number", 1))
    driver.turn(signal("number", 2), signal("number", 3))
    assert driver.check().result() == [["a", 1], ["b", 2], ["c", 3]]


def test_losing_a_receive_to_a_cancel_loses_no_signal(drive):
    async def wf():
        with trio.move_on_after(5):
            await number.receive()
        return [await number.receive(), trio.current_time() - START]

    driver = drive(wf)
    driver.wake()
    driver.turn(signal("number", 1))
    assert driver.check().result() == [1, 5]


def test_a_signal_in_the_turn_of_the_deadline_is_received(drive):
    async def wf():
        with trio.move_on_after(5):
            return await number.receive()
        return "lost"

    driver = drive(wf)
    driver.turn(signal("number", 1), now=START + 5)
    assert driver.check().result() == 1


def test_a_cancelled_receiver_leaves_the_queue_to_the_next(drive):
    async def wf():
        seen = []

        async def patient():
            seen.append(await number.receive())

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1):
                nursery.start_soon(patient)
                await number.receive()
        return seen

    driver = drive(wf)
    driver.wake()
    driver.turn(signal("number", 9))
    assert driver.check().result() == [9]


def test_unread_signals_are_carried_over_in_their_order(drive):
    async def wf(more):
        if more:
            await number.receive()
            continue_as_new(False)
        return [await number.receive(), await word.receive(), await number.receive()]

    sent = [signal("number", 1), signal("word", "x"), signal("number", 2), signal("number", 3)]
    driver = drive(wf, True, first=sent)
    assert isinstance(driver.outcome, Continued)
    carried = driver.check().execution.messages.unread()
    assert carried == sent[1:]
    after = drive(wf, False, number=2, started={"carried": [sent[2], sent[1]]})
    after.turn(sent[3])
    assert after.check().result() == [2, "x", 3]


def test_sending_waits_until_it_has_arrived(drive):
    async def wf():
        await send_signal("other", number, 5)
        return await a()

    driver = drive(wf)
    command = driver.last.commands[0]
    assert (command.instance, command.name, bytes(command.value)) == ("other", "number", b"5")
    driver.turn(ev.SignalSent(id="0:0"))
    driver.turn(done("0:1", 1))
    assert driver.check().result() == 1


def test_sending_to_nobody_is_an_error(drive):
    async def wf():
        try:
            await send_signal("other", number, 5)
        except InstanceNotFound as error:
            return error.instance

    driver = drive(wf)
    driver.turn(ev.SignalFailed(id="0:0", failure=Failure.of(InstanceNotFound("other"))))
    assert driver.check().result() == "other"


def test_what_nobody_receives_by_its_name_goes_to_who_receives_any(drive):
    async def wf():
        seen = []

        async def others():
            async for name, value in Signal.any():
                seen.append([name, value])

        async with trio.open_nursery() as nursery:
            await number.receive()
            nursery.start_soon(others)
            seen.append(await number.receive())
            seen.append(await number.receive())
            with pytest.raises(trio.WouldBlock):
                Signal.any().receive_nowait()
            nursery.cancel_scope.cancel()
        return seen

    early = [signal("early", {"x": 1}), signal("number", 0), signal("number", 1)]
    driver = drive(wf, first=[*early, signal("word", "a")])
    driver.turn(signal("other", 2), signal("word", "b"))
    driver.turn(signal("number", 3), signal("late", None))
    assert driver.check().result() == [
        *(1, ["early", {"x": 1}], ["word", "a"], ["other", 2], ["word", "b"], 3),
        ["late", None],
    ]


def test_a_receiver_of_any_is_shown_as_that(drive):
    async def wf():
        await Signal.any().receive()

    (task,) = tasks_of(drive(wf).execution)
    assert task.waits_for == "any signal"
    assert repr(Signal.any()) == "Signal.any()"


async def forwards_twice_and_receives():
    await trio.sleep(10)
    got = []

    async def send():
        try:
            await forward_unread("other")
        except InstanceNotFound:
            got.append("failed")

    async def receive():
        got.append(await number.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(send)
        nursery.start_soon(receive)
    return got


def sent(turn):
    return [(command.id, bytes(command.value)) for command in turn.commands]


def test_what_is_forwarded_goes_to_nobody_else(drive):
    driver = drive(forwards_twice_and_receives, first=[signal("number", n) for n in (1, 2, 3)])
    first, second = sent(driver.wake())
    assert sorted([first[1], second[1]]) == [b"1", b"2"]  # and 3 is received
    driver.turn(ev.SignalSent(first[0]))
    driver.turn(ev.SignalSent(second[0]))
    assert driver.check().result() == [3]


def test_by_older_rules_it_stays_until_it_is_there(drive):
    """Histories that began so replay so."""
    first = [signal("number", 1)]
    driver = drive(forwards_twice_and_receives, first=first, rules=FORWARDED_ONCE - 1)
    commands = sent(driver.wake())
    assert [value for _, value in commands] == [b"1", b"1"]
    driver.turn(*[ev.SignalSent(id) for id, _ in commands])
    assert driver.check().result() == [1]


def test_what_cannot_be_forwarded_comes_back_to_its_place(drive):
    async def send():
        with pytest.raises(InstanceNotFound):
            await forward_unread("other")

    async def wf():
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            nursery.start_soon(send)
        return [await number.receive() for _ in range(3)]

    driver = drive(wf, first=[signal("number", 1), signal("number", 2)])
    ids = {value: id for id, value in sent(driver.wake())}
    failure = Failure.of(InstanceNotFound("other"))
    driver.turn(signal("number", 3), ev.SignalFailed(ids[b"2"], failure))
    driver.turn(ev.SignalFailed(ids[b"1"], failure))
    assert driver.check().result() == [1, 2, 3]


def test_what_cannot_be_forwarded_goes_to_who_waits_by_now(drive):
    driver = drive(forwards_twice_and_receives, first=[signal("number", 1)])
    ((id, _),) = sent(driver.wake())
    driver.turn(ev.SignalFailed(id, Failure.of(InstanceNotFound("other"))))
    assert driver.check().result() == ["failed", 1]
