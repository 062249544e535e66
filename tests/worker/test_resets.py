"""An instance goes on from before a turn: what was done stays done, and what is dropped is gone."""

from __future__ import annotations

import logging

import anyio
import pytest
import trio

from tests.worker.flow import Gate, in_memory, serving, until, until_status
from trioflow import (
    Every,
    InstanceAlreadyExists,
    InstanceNotFound,
    InstanceTerminated,
    Promise,
    Query,
    Registry,
    SharedLock,
    Signal,
    Update,
    activity_info,
    continue_as_new,
    info,
    now,
    set_attributes,
    set_status,
)
from trioflow._model.turns import decode_turn
from trioflow.errors import ArgumentError, TrioflowError

go, number = Signal("go", str), Signal("number", int)
DAY = 24 * 3600.0


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "trioflow.worker")


class Shop:
    """Workflows with a bug, which ends when ``mended`` is set; ``calls`` are their activities'."""

    def __init__(self):
        self.mended = False
        self.calls = []
        self.gate = Gate()
        self.flows = Registry()

        @self.flows.activity
        async def book(what: str) -> str:
            self.calls.append((what, activity_info().idempotency_key, activity_info().attempt))
            return what.upper()

        @self.flows.activity
        async def work(what: str) -> str:
            self.calls.append((what, activity_info().idempotency_key, activity_info().attempt))
            await self.gate.wait()
            return what.upper()

        self.book, self.work = book, work

    def called(self):
        return [what for what, _, _ in self.calls]

    def check(self):
        if not self.mended:
            raise ValueError("a bug")


async def test_a_bug_is_mended_by_a_deploy_and_a_reset(flow):
    shop = Shop()

    @shop.flows.workflow
    async def trip() -> list[object]:
        found = [await shop.book("flight"), await go.receive(), await shop.book("hotel")]
        shop.check()
        return [*found, await shop.book("car"), info().execution]

    async with flow.worker(shop.flows) as worker:
        handle = await worker.client.start(trip)
        await handle.signal(go, "now")
        with pytest.raises(ValueError, match="a bug"):
            await handle.result()
        shop.mended = True
        await handle.reset(reason="mended")
        assert await handle.result() == ["FLIGHT", "now", "HOTEL", "CAR", 2]
        assert shop.called() == ["flight", "hotel", "car"]
        first, second = await handle.history()
        left = first.turns[-1].reset
        assert (left.turn, left.reason) == (len(first.turns) - 2, "mended")
        assert first.turns[-2].outcome is not None
        assert second.turns[: left.turn][1:] == first.turns[: left.turn][1:]


async def test_what_a_nursery_cancelled_runs_again(backend):
    shop = Shop()

    @shop.flows.workflow
    async def trip() -> list[str]:
        found = []

        async def fails():
            found.append(await shop.book("hotel"))
            shop.check()

        async def waits():
            found.append(await shop.work("flight"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            nursery.start_soon(fails)
        return found

    async with serving(backend, shop.flows) as client:
        handle = await client.start(trip)
        with pytest.raises(ExceptionGroup):
            await handle.result()
        shop.mended = True
        shop.gate.open()
        await handle.reset()
        assert await handle.result() == ["HOTEL", "FLIGHT"]
    flights = [key for what, key, _ in shop.calls if what == "flight"]
    assert len(shop.calls) == 3
    assert len(flights) == 2
    assert len(set(flights)) == 1


async def test_what_runs_goes_on_and_what_is_dropped_is_not_taken(backend):
    shop = Shop()

    @shop.flows.workflow
    async def trip() -> list[str]:
        found = []

        async def one(what):
            found.append(await shop.work(what))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "kept")
            await go.receive()
            nursery.start_soon(one, "dropped")
        return found

    async with serving(backend, shop.flows) as client:
        handle = await client.start(trip)
        await _has_begun(handle)
        await handle.signal(go, "")
        await shop.gate.until_entered(2)
        await handle.reset(turn=1)
        await shop.gate.until_entered(4)
        assert sorted(shop.called()) == ["dropped", "dropped", "kept", "kept"]
        keys = {what: [] for what in shop.called()}
        for what, key, attempt in shop.calls:
            keys[what].append(key)
            assert attempt == 1
        assert len(set(keys["kept"])) == 1
        assert len(set(keys["dropped"])) == 2
        shop.gate.open()
        assert sorted(await handle.result()) == ["DROPPED", "KEPT"]
    assert sorted(shop.gate.left) == ["Cancelled", "Cancelled", "left", "left"]


async def test_messages_are_unread_again_in_their_order(backend):
    shop = Shop()
    add, seen = Update("add", argument=int, result=int), Query("seen", result=list[int])

    @shop.flows.workflow
    async def collects() -> list[object]:
        found = []
        seen.handler(lambda: [each for each in found if isinstance(each, int)])

        @add.handler
        async def _(value: int) -> int:
            found.append(value)
            await shop.book("update")
            return len(found)

        promise = Promise("paid", str)
        set_status(promise.token)
        await go.receive()
        found += [await number.receive(), await number.receive(), await promise.receive()]
        shop.check()
        return found

    async with serving(backend, shop.flows) as client:
        handle = await client.start(collects)
        await _has_begun(handle)
        await handle.signal(go, "")
        await handle.signal(number, 1)
        assert await handle.update(add.options(id="r"), 7) == 1
        await handle.signal(number, 2)
        token = (await handle.describe()).custom_status
        assert await client.resolve(token, "paid")
        await until_status(handle, "failed")
        shop.mended = True
        await handle.reset(turn=1)
        assert sorted(map(str, await handle.result())) == ["1", "2", "7", "paid"]
        # It was done again, and the client keeps the first answer.
        assert shop.called() == ["update", "update"]
        assert await handle.update(add.options(id="r"), 7) == 1
        assert not await client.resolve(token, "again")


async def test_a_sub_workflow_goes_on_for_the_next_execution(backend):
    shop = Shop()

    @shop.flows.workflow
    async def child() -> str:
        return await shop.work("child")

    @shop.flows.workflow
    async def parent() -> str:
        async with anyio.create_task_group() as group:
            handle = group.start_soon(child.options(id="kid"))
            await go.receive()
            await shop.book("dropped")
        return await handle

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        await shop.gate.until_entered()
        await handle.signal(go, "")
        await until(lambda: _async(len(shop.calls) == 2))
        await handle.reset(turn=1)
        await until(lambda: _async(shop.called().count("dropped") == 2))
        kid = client.handle("kid")
        assert (await kid.describe()).parent.execution == 2
        shop.gate.open()
        assert await handle.result() == "CHILD"
        assert await kid.result() == "CHILD"
        assert len(await kid.history()) == 1


async def test_a_cancel_reaches_a_sub_workflow_that_was_taken_over(backend):
    shop = Shop()

    @shop.flows.workflow
    async def child() -> None:
        await trio.sleep_forever()

    @shop.flows.workflow
    async def parent() -> None:
        await child.options(id="kid")()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        kid = client.handle("kid")
        await _has_begun(kid)
        await handle.reset(turn=1)
        await handle.cancel("enough")
        assert (await handle.wait()).status == "cancelled"
        assert (await kid.describe()).status == "cancelled"


async def test_a_sub_workflow_of_a_dropped_turn_is_terminated(backend):
    shop = Shop()

    @shop.flows.workflow
    async def child() -> str:
        return await shop.work("child")

    @shop.flows.workflow
    async def parent() -> str:
        await go.receive()
        return await child()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent.options(id="p"))
        await _has_begun(handle)
        await handle.signal(go, "")
        await shop.gate.until_entered()
        await handle.reset(turn=1)
        await shop.gate.until_entered(2)
        shop.gate.open()
        assert await handle.result() == "CHILD"
        with pytest.raises(InstanceTerminated, match="reset to before"):
            await client.handle("p/0:0").result()
        assert await client.handle("p/2:0:0").result() == "CHILD"


async def test_an_end_that_no_parent_heard_of_is_the_answer(backend):
    shop = Shop()

    @shop.flows.workflow
    async def child() -> str:
        return await shop.work("child")

    @shop.flows.workflow
    async def parent() -> str:
        async with anyio.create_task_group() as group:
            kid = group.start_soon(child.options(id="kid", on_cancel="abandon"))
            await shop.book("parent")
            shop.check()
        return await kid

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        await handle.wait(status="failed")
        shop.gate.open()
        assert await client.handle("kid").result() == "CHILD"
        shop.mended = True
        await handle.reset()
        assert await handle.result() == "CHILD"
        assert sorted(shop.called()) == ["child", "parent"]


async def test_a_parent_is_not_told_twice(backend):
    shop = Shop()
    told = []

    @shop.flows.workflow
    async def child() -> str:
        await shop.book("child")
        shop.check()
        return "mended"

    @shop.flows.workflow
    async def parent() -> list[str]:
        for _ in range(2):
            try:
                told.append(await child.options(id="kid")())
            except ValueError as exc:
                told.append(str(exc))
            await go.receive()
        return told

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        kid = client.handle("kid")
        await until(lambda: _async(bool(told)))
        shop.mended = True
        await kid.reset()
        assert await kid.result() == "mended"
        assert (await kid.describe()).parent is None
        assert shop.called() == ["child"]
        before = (await handle.describe()).turns
        await trio.sleep(DAY)
        described = await handle.describe()
        assert (described.turns, described.unread) == (before, 0)
        assert told == ["a bug"]
        await handle.terminate()
        assert (await kid.describe()).status == "completed"


async def test_a_deadline_passes_at_its_time(backend):
    shop = Shop()
    began = backend.now()

    @shop.flows.workflow
    async def waits() -> list[object]:
        with trio.move_on_after(10):
            first = await go.receive()
        with trio.move_on_after(100):
            await go.receive()
            return [first, "in time", now() - began]
        shop.check()
        return [first, "over", now() - began]

    async with serving(backend, shop.flows) as client:
        handle = await client.start(waits)
        await trio.sleep(5)
        await handle.signal(go, "first")
        await handle.wait(status="failed")
        shop.mended = True
        await trio.sleep(1000 - (backend.now() - began))
        # The signal came in time, though that is long ago; the second deadline is set anew.
        await handle.reset(turn=1)
        found = await handle.result()
        assert found[:2] == ["first", "over"]
        assert found[2] == pytest.approx(1100, abs=1)


@pytest.mark.parametrize("fork", [False, True])
async def test_a_deadline_that_has_passed_wakes_what_has_no_message(fork, backend):
    shop = Shop()

    @shop.flows.workflow
    async def sleeps() -> str:
        await trio.sleep(10)
        await shop.book("once")
        await trio.sleep(1000)
        return "over"

    async with serving(backend, shop.flows) as client:
        handle = await client.start(sleeps.options(id="s"))
        assert await handle.result() == "over"
        began = backend.now()
        if fork:
            handle = await client.fork("s", turn=1)
        else:
            await handle.reset(turn=1)
        assert await handle.result() == "over"
        assert backend.now() == pytest.approx(began + 1000, abs=1)
        assert len(shop.calls) == 2


async def test_status_and_attributes_are_those_of_the_turns_that_are_kept(backend):
    shop = Shop()

    @shop.flows.workflow
    async def paints() -> None:
        set_status("red")
        set_attributes(colour="red")
        await go.receive()
        if not shop.mended:
            set_status("blue")
            set_attributes(colour="blue", more=1)
        await go.receive()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(paints.options(attributes={"size": 1}))
        await _has_begun(handle)
        await handle.signal(go, "")
        await until(lambda: _is(handle, "blue"))
        shop.mended = True
        await handle.reset(turn=1)
        await until(lambda: _is(handle, "red"))
        described = await handle.describe()
        assert described.attributes == {"size": 1, "colour": "red"}
        assert (await client.count(where={"colour": "blue"})) == 0


@pytest.mark.parametrize("way", ["reset", "fork"])
async def test_status_and_attributes_are_shown_before_the_next_turn(way, backend):
    shop = Shop()

    @shop.flows.workflow
    async def paints() -> None:
        set_status("red")
        set_attributes(colour="red")
        await go.receive()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(paints.options(id="p", attributes={"size": 1}))
        await until(lambda: _is(handle, "red"))
        if way == "reset":
            await handle.reset(turn=1)
        else:
            handle = await client.fork("p", turn=1)
        await until(lambda: _is(handle, "red"))
        described = await handle.describe()
        assert described.attributes == {"size": 1, "colour": "red"}
        assert (described.turns, described.worker) == (1, None)
        assert handle.id in [one.id for one in await client.list(where={"colour": "red"})]
        await handle.signal(go, "")
        await handle.result()


async def test_what_its_code_has_seen_of_itself_stays_so(backend):
    shop = Shop()

    @shop.flows.workflow
    async def looks() -> list[int]:
        seen = []
        for _ in range(3):
            if info().execution == 1:
                await shop.book("first")
            else:
                await shop.book("later")
            seen.append(info().execution)
            await go.receive()
        return seen

    async with serving(backend, shop.flows) as client:
        handle = await client.start(looks)
        await until(lambda: _turns(handle, 2))
        await handle.signal(go, "")
        await until(lambda: _turns(handle, 4))
        await handle.reset(turn=2)
        await until(lambda: _turns(handle, 4))
        await handle.reset(turn=4)
        await handle.signal(go, "")
        await until(lambda: _async(len(shop.calls) == 4))
        await handle.signal(go, "")
        assert await handle.result() == [1, 2, 3]
        assert len(await handle.history()) == 3


async def test_a_suspended_one_goes_back_to_what_does_not_fit(backend):
    first, second = Registry(), Registry()

    def shop(flows, name):
        @flows.activity(name=name)
        async def step() -> str:
            return name

        @flows.workflow(name="shop")
        async def work() -> list[str]:
            word = await go.receive()
            found = [word, await step()]
            await number.receive()
            return found

        return work

    work = shop(first, "old")
    shop(second, "new")
    async with serving(backend, first, cache_size=0) as client:
        handle = await client.start(work.options(id="s"))
        await until(lambda: _turns(handle, 1))
        await handle.signal(go, "word")
        await until(lambda: _turns(handle, 3))
    async with serving(backend, second) as client:
        handle = client.handle("s")
        await handle.signal(number, 1)
        await until_status(handle, "suspended")
        await handle.reset()
        assert await handle.result() == ["word", "new"]


async def test_a_terminated_one_lives_again(backend):
    shop = Shop()

    @shop.flows.workflow
    async def child() -> str:
        return await shop.work("child")

    @shop.flows.workflow
    async def parent() -> str:
        await shop.book("parent")
        return await child.options(id="kid")()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(parent)
        await shop.gate.until_entered()
        await handle.terminate("by mistake")
        shop.gate.open()
        await handle.reset()
        assert await handle.result() == "CHILD"
        assert shop.called() == ["parent", "child", "child"]


@pytest.mark.parametrize("how", ["always changed", "cancelled"])
async def test_what_was_held_for_a_reset_in_vain_goes_on(how, backend, monkeypatch):
    shop = Shop()

    @shop.flows.workflow
    async def waits() -> str:
        return await go.receive()

    seen = []

    async with serving(backend, shop.flows) as client:
        handle = await client.start(waits)
        await until(lambda: _turns(handle, 1))
        with trio.CancelScope() as scope:

            async def changed(_reset):
                seen.append((await handle.describe()).status)
                if how == "cancelled" and seen[-1] == "suspended":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
                return "changed"

            monkeypatch.setattr(client.backend, "reset", changed)
            with pytest.raises(TrioflowError, match="it had changed until"):
                await handle.reset(turn=1)
        assert scope.cancelled_caught == (how == "cancelled")
        assert "suspended" in seen
        assert (await handle.describe()).status == "running"
        await handle.signal(go, "on")
        assert await handle.result() == "on"


async def test_what_cannot_be_reset_says_why(backend):
    shop = Shop()

    @shop.flows.workflow
    async def waits() -> None:
        await go.receive()

    async with serving(backend, shop.flows) as client:
        handle = await client.start(waits.options(id="w"))
        await until(lambda: _turns(handle, 1))
        with pytest.raises(ArgumentError, match="'w' is running.*turn="):
            await handle.reset()
        for turn in (-1, 2):
            with pytest.raises(ArgumentError, match=f"no turn {turn} .*turn 0 to 1"):
                await handle.reset(turn=turn)
        with pytest.raises(InstanceNotFound):
            await client.handle("nobody").reset()
        await handle.signal(go, "")
        await handle.result()
        with pytest.raises(ArgumentError, match="turn 0 to 1"):
            await handle.reset(turn=2)
        await client.start(waits.options(id="w"))
        with pytest.raises(InstanceNotFound):
            await handle.reset(turn=0)
        assert (await client.handle("w").describe()).execution == 2


async def test_it_is_tried_again_if_something_happens_meanwhile(backend):
    shop = Shop()

    @shop.flows.workflow
    async def counts() -> int:
        total = 0
        while (value := await number.receive()) > 0:
            total += value
        return total

    async with serving(backend, shop.flows) as client:
        handle = await client.start(counts)
        await until(lambda: _turns(handle, 1))
        read, times = backend.inbox, 0

        async def disturbed(instance):
            nonlocal times
            found = await read(instance)
            times += 1
            if times < 8:
                await handle.signal(number, 1)
            return found

        backend.inbox = disturbed
        await handle.reset(turn=1)
        assert times == 8
        await handle.signal(number, 0)
        assert await handle.result() == 7


async def test_what_is_shared_goes_to_the_next_and_is_not_taken_back(flow):
    shop = Shop()
    account = SharedLock("account")

    @shop.flows.workflow
    async def pays() -> str:
        word = await go.receive()
        async with account:
            await shop.book(word)
            await number.receive()
        return word

    async with flow.worker(shop.flows) as worker:
        client = worker.client
        first, second = [await client.start(pays.options(id=id)) for id in ("one", "two")]
        await until(lambda: _turns(first, 1))
        await first.signal(go, "one")
        await until(lambda: _async(bool(shop.calls)))
        await second.signal(go, "two")
        await until(lambda: _turns(first, 3))
        with pytest.raises(ArgumentError, match=r"'one' holds or waits for .*account.*turn=1\)$"):
            await first.reset(turn=3)
        await first.reset(turn=1)
        await until(lambda: _async("two" in shop.called()))
        assert shop.called() == ["one", "two"]
        await second.signal(number, 0)
        assert await second.result() == "two"
        await first.signal(number, 0)
        assert await first.result() == "one"
        assert shop.called() == ["one", "two", "one"]


@pytest.mark.parametrize("turn", [0, 1])
async def test_a_fork_has_the_options_of_the_start(turn, backend):
    shop = Shop()

    @shop.flows.workflow
    async def waits() -> None:
        await go.receive()
        if info().execution == 1:
            continue_as_new()
        await go.receive()

    async with serving(backend, shop.flows) as client:
        call = waits.options(timeout=1000, max_events=500).bind()
        schedule = await client.schedule("s", Every(hours=1), call)
        await trio.sleep(3600)
        (run,) = await until(lambda: _runs(schedule))
        await until(lambda: _turns(client.handle(run.id), 1))
        (original,) = await _started(backend, run.id)
        await trio.sleep(300)
        fork = await client.fork(run.id, turn=turn, new_id="f")
        await fork.signal(go, "")
        await until(lambda: _in_execution(fork, 2))
        for started in await _started(backend, "f"):
            assert (started.max_events, started.schedule) == (500, original.schedule)
            assert started.schedule.at == run.scheduled_at
            expected = original.deadline_at if turn else backend.now() + 1000
            assert started.deadline_at == pytest.approx(expected, abs=1)
        await fork.terminate()
        assert await _runs(schedule) == [run]


async def test_a_failure_with_a_lock_is_reset_to_before_the_lock(backend):
    shop = Shop()
    outer, inner = SharedLock("outer"), SharedLock("inner")

    @shop.flows.workflow
    async def pays() -> str:
        await go.receive()
        async with outer:
            await shop.book("outer")
            async with inner:
                await shop.book("inner")
                shop.check()
        return "paid"

    async with serving(backend, shop.flows) as client:
        handle = await client.start(pays.options(id="p"))
        await _has_begun(handle)
        await handle.signal(go, "")
        await until_status(handle, "failed")
        with pytest.raises(
            ArgumentError, match=r"'p' holds or waits for the lock .*inner.*turn=1\)$"
        ):
            await handle.reset()
        shop.mended = True
        await handle.reset(turn=1)
        assert await handle.result() == "paid"
        assert shop.called() == ["outer", "inner"] * 2


async def test_a_fork_goes_on_by_itself(backend):
    shop = Shop()

    @shop.flows.workflow
    async def trip() -> list[str]:
        found = [info().id, await shop.book("flight"), await go.receive()]
        return [*found, await shop.book("hotel"), info().id]

    async with serving(backend, shop.flows) as client:
        handle = await client.start(trip.options(id="a", attributes={"n": 1}))
        await _has_begun(handle)
        await handle.signal(go, "one")
        one = await handle.result()
        fork = await client.fork("a", turn=1, new_id="b")
        await fork.signal(go, "two")
        assert await fork.result() == ["a", "FLIGHT", "two", "HOTEL", "b"]
        assert shop.called() == ["flight", "hotel", "hotel"]
        assert len({key for _, key, _ in shop.calls}) == 3
        assert (await fork.describe()).attributes == {"n": 1}
        assert await handle.result() == one == ["a", "FLIGHT", "one", "HOTEL", "a"]
        for taken in ("a", "b"):
            with pytest.raises(InstanceAlreadyExists):
                await client.fork("a", turn=1, new_id=taken)
        other = await client.fork("a", turn=0)
        assert other.id != "b"
        await other.signal(go, "three")
        assert (await other.result())[0] == other.id


async def _async(value):
    return value


async def _runs(schedule):
    return (await schedule.describe()).running


async def _started(backend, id):
    history = await backend.history(id)
    return [decode_turn(execution.turns[0]).events[0] for execution in history]


async def _in_execution(handle, number):
    described = await handle.describe()
    return described.execution == number and described.turns


async def _is(handle, status):
    return (await handle.describe()).custom_status == status


async def _turns(handle, turns):
    described = await handle.describe()
    return described.turns >= turns and described.unread == 0 and not described.activities


async def _has_begun(handle):
    with anyio.fail_after(5):
        while True:
            try:
                if (await handle.describe()).turns:
                    return
            except InstanceNotFound:
                pass
            await anyio.sleep(0.001)


async def test_a_fork_reads_the_history_and_the_inbox_as_of_one_moment(clock, monkeypatch):
    """A result that a turn takes from the inbox in between would otherwise be in neither."""
    flows = Registry()
    ran = []
    gate = Gate()

    @flows.activity
    async def act() -> int:
        ran.append(1)
        await gate.wait()
        return len(ran)

    @flows.workflow
    async def work() -> int:
        return await act()

    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(work.options(id="one"))
        await gate.until_entered()
        load = client.backend.load

        async def slow(ids):
            loaded = await load(ids)
            monkeypatch.undo()
            gate.open()
            await handle.result()
            return loaded

        monkeypatch.setattr(client.backend, "load", slow)
        fork = await client.fork("one", turn=1, new_id="two")
        assert await fork.result() == 1
        assert ran == [1]
