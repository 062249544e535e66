"""Updates: answered once, whatever happens to the workflow, its worker and whoever asks."""

from __future__ import annotations

import anyio
import pytest

from tests.worker.flow import (
    Dying,
    Gate,
    in_memory,
    serving,
    until,
    until_parked,
    until_status,
)
from trioflow import (
    ArgumentError,
    ClientClosed,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFound,
    InstanceSuspended,
    InstanceTerminated,
    LeaseLost,
    Registry,
    RemoteError,
    Signal,
    Update,
    ValueMismatch,
    continue_as_new,
    open_client,
)

add = Update("add", argument=int, result=int)
total = Update("total", result=list[int])
word = Signal("word", str)
flows = Registry()


class Refused(Exception):
    pass


@flows.workflow
async def numbers(seen: list[int], every: int = 1000) -> list[int]:
    """Adds what it is asked to; continues as new after so many, or does what it is told."""
    done = anyio.Event()

    def check(number: int) -> None:
        if number < 0:
            raise Refused(number)

    @add.handler(validator=check)
    async def _(number: int) -> int:
        seen.append(number)
        if len(seen) % every == 0:
            done.set()
        return sum(seen)

    total.handler(lambda: seen)

    async with anyio.create_task_group() as group:
        if every < 1000:
            await done.wait()
            continue_as_new(seen, every)
        how = await word.receive()
        group.cancel_scope.cancel()
    if how == "raise":
        raise Refused("enough")
    if how == "again":
        continue_as_new(seen)
    return seen


async def test_answers_and_errors_come_back(flow):
    async with flow.client(flows) as client, flow.worker(flows) as worker:
        handle = await worker.client.start(numbers.options(id="n"), [])
        assert await handle.update(add, 2) == 2
        other = client.handle("n")
        assert await other.update(add, 3) == 5
        assert await other.update("add", 4) == 9
        assert await other.update(total) == [2, 3, 4]
        with pytest.raises(Refused, match="-1"):
            await other.update(add, -1)
        with pytest.raises(ValueMismatch, match="the argument of update 'add': Expected int"):
            await other.update("add", "x")
        begun = await other.start_update(add, 5)
        assert repr(begun) == f"<Handle of update '{begun.id}' of instance 'n'>"
        assert await begun.result() == await begun.result() == 14
        await handle.signal(word, "return")
        assert await handle.result() == [2, 3, 4, 5]


async def test_bad_input_changes_nothing(flow):
    async with flow.client(flows) as client:
        handle = await client.start(numbers, [])
        with pytest.raises(ValueMismatch, match="argument of update 'add'.*int"):
            await handle.update(add, "x")
        with pytest.raises(ArgumentError, match="'add' has an argument"):
            await handle.update(add)
        with pytest.raises(ArgumentError, match="'total' has no argument, and was given 3"):
            await handle.update(total, 3)
        with pytest.raises(ArgumentError, match="an update's id.*201 characters, at most 200"):
            add.options(id="x" * 201)
        with pytest.raises(InstanceNotFound, match="'nobody'"):
            await client.handle("nobody").update(add, 1)
        assert (await handle.describe()).unread == 0


async def test_the_same_id_is_done_once(flow):
    asked = add.options(id="req-1")
    async with flow.client(flows) as client, flow.client(flows) as other:
        handle = await client.start(numbers.options(id="n"), [])
        begun = [await each.handle("n").start_update(asked, 7) for each in (client, other) * 3]
        assert (await handle.describe()).unread == 1
        answers = []

        async def wait(one):
            answers.append(await one.result())

        async with flow.worker(flows), anyio.create_task_group() as group:
            for one in begun:
                group.start_soon(wait, one)
            assert await other.handle("n").update(asked, 8) == 7
        assert answers == [7] * 6
        assert await handle.update(asked, 9) == 7


async def test_an_id_names_one_request_whatever_update_it_is_of(clock):
    """So the answer is that of the first, or does not fit the type of the second."""
    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(numbers.options(id="n"), [])
        assert await handle.update(add.options(id="req-1"), 7) == 7
        other, text = Update("other", argument=str, result=int), Update("add", result=str)
        assert await handle.update(other.options(id="req-1"), "x") == 7
        with pytest.raises(ValueMismatch, match="Expected str, got int"):
            await handle.update(text.options(id="req-1"))
        assert (await handle.describe()).unread == 0


async def test_an_answer_outlasts_its_worker_and_its_instance(flow):
    """The worker dies as soon as it has stored the answer, before anyone has it."""
    asked = add.options(id="req-1")
    async with flow.client(flows) as client:
        handle = await client.start(numbers, [])
        begun = await handle.start_update(asked, 1)
        dying = Dying(await flow.backend())
        commit = dying._backend.commit

        async def last_commit(*args):
            stored = await commit(*args)
            dying.die()
            return stored

        dying._backend.commit = last_commit
        async with flow.worker(flows, backend=dying):
            assert await begun.result() == 1
        assert await handle.update(asked, 1) == 1
        dying._backend.commit = commit
        await dying._backend.reclaim(0.0 if flow.kind == "memory" else -1.0)
        async with flow.worker(flows):
            assert await handle.update(add, 1) == 2
            await handle.signal(word, "return")
            assert await handle.result() == [1, 1]
        assert await handle.update(asked, 1) == 1
        await handle.remove()
        with pytest.raises(InstanceNotFound):
            await handle.update(asked, 1)


async def test_an_update_of_a_worker_that_dies_before_it_stores_is_done_by_another(flow):
    async with flow.client(flows) as client:
        handle = await client.start(numbers, [])
        async with flow.worker(flows):
            await handle.update(add, 1)
        begun = await handle.start_update(add, 2)
        dying = Dying(await flow.backend())
        died = anyio.Event()

        async def never(*_):
            dying.die()
            died.set()
            raise LeaseLost("the process is dead")

        commit, dying._backend.commit = dying._backend.commit, never
        async with flow.worker(flows, backend=dying, drain=0.0):
            await died.wait()
        dying._backend.commit = commit
        await dying._backend.reclaim(0.0 if flow.kind == "memory" else -1.0)
        async with flow.worker(flows):
            assert await begun.result() == 3


ENDS = ("return", "raise", "again", "cancel")


async def end(handle, how):
    if how == "cancel":
        await handle.cancel("enough")
    else:
        await handle.signal(word, how)


@pytest.mark.parametrize("how", ENDS)
async def test_one_that_comes_in_the_turn_of_the_end_is_answered(flow, how):
    async with flow.client(flows) as client:
        handle = await client.start(numbers, [])
        async with flow.worker(flows):
            await until_parked(handle)
        await end(handle, how)
        begun = await handle.start_update(add, 5)
        async with flow.worker(flows):
            if how != "cancel":  # it is seen before the workflow ends
                assert await begun.result() == 5
            else:
                with pytest.raises(InstanceCancelled, match="enough"):
                    await begun.result()
            if how == "again":
                assert await handle.update(total) == [5]
                await handle.signal(word, "return")
                assert await handle.result() == [5]
        if how != "again":
            with pytest.raises(InstanceFinished):
                await handle.update(add, 1)


@pytest.mark.parametrize("how", [*ENDS, "terminate"])
async def test_a_handler_that_runs_at_the_end_is_answered(flow, how):
    slow, gate = Registry(), Gate()

    @slow.activity
    async def work(number: int) -> int:
        await gate.wait()
        return number

    @slow.workflow
    async def wf(pass_: int = 1) -> str:
        @add.handler
        async def _(number: int) -> int:
            return await work(number)

        how = await word.receive()
        if how == "raise":
            raise Refused("enough")
        if how == "again":
            continue_as_new(2)
        return f"{how} in {pass_}"

    async with flow.worker(slow) as worker:
        handle = await worker.client.start(wf)
        begun = await handle.start_update(add, 5)
        await gate.until_entered()
        if how == "terminate":
            await handle.terminate("enough")
            with pytest.raises(InstanceTerminated, match="enough"):
                await begun.result()
            return
        await end(handle, how)
        if how in ("return", "again"):
            gate.open()
            assert await begun.result() == 5
        elif how == "raise":
            with pytest.raises(InstanceFinished, match="not answered.*has failed") as raised:
                await begun.result()
            assert isinstance(raised.value.__cause__, Refused)
            assert gate.left == ["Cancelled" if flow.host == "trio" else "CancelledError"]
        else:
            with pytest.raises(InstanceCancelled, match="enough"):
                await begun.result()
        if how == "again":
            await handle.signal(word, "return")
            assert await handle.result() == "return in 2"


async def test_updates_race_continue_as_new(flow):
    """New executions begin all the time; each update is answered once, and none is forgotten."""
    answers = []
    async with flow.client(flows) as client, flow.worker(flows) as worker:
        handle = await worker.client.start(numbers.options(id="n"), [], 3)

        async def ask(via, first):
            for number in range(first, 60, 4):
                answer = await via.update(add.options(id=f"req-{number}"), number)
                answers.append(answer)

        async with anyio.create_task_group() as group:
            for first in range(4):
                group.start_soon(ask, client.handle("n") if first % 2 else handle, first)
        seen = await handle.update(total)
        assert sorted(seen) == list(range(60))
        assert sorted(answers) == sorted(sum(seen[: at + 1]) for at in range(60))
        assert (await handle.describe()).execution > 5


async def test_two_hundred_signals_race_continue_as_new(flow):
    racing = Registry()

    @racing.workflow
    async def collect(seen: list[int]) -> list[int]:
        number = Signal("number", int)
        for _ in range(3):
            seen.append(await number.receive())
            if len(seen) == 200:
                return seen
        continue_as_new(seen)

    async with flow.client(racing) as client, flow.worker(racing) as worker:
        handle = await worker.client.start(collect.options(id="c"), [])
        other = client.handle("c")
        for number in range(200):
            await (other if number % 2 else handle).signal("number", number)
        assert await handle.result() == list(range(200))
        assert (await handle.describe()).execution == 67


async def test_whoever_waits_is_told_why_there_is_no_answer(flow):
    async with flow.client(flows) as client:
        handle = await client.start(numbers.options(id="n"), [])
        begun = await handle.start_update(add, 1)
        await handle.cancel("not wanted")
        with pytest.raises(InstanceCancelled, match="not wanted"):
            await begun.result()
        async with flow.worker(flows):
            again = await client.start(numbers.options(id="n"), [])
            await until_parked(again)
            assert await again.update(add.options(id=begun.id), 4) == 4
            await again.signal(word, "return")
            await again.result()
        with pytest.raises(InstanceNotFound, match="not answered update 'add'.*taken its id"):
            await begun.result()
        with pytest.raises(InstanceFinished):
            await handle.update(add, 1)


async def test_a_suspended_instance_answers_when_it_goes_on(flow):
    old = Registry()

    @old.workflow(name="numbers")
    async def other(seen: list[int], every: int = 1000) -> str:
        return await Signal("other", str).receive()

    async with flow.worker(flows) as worker:
        handle = await worker.client.start(numbers.options(id="n"), [])
        await handle.update(add, 1)
    async with flow.worker(old) as worker:
        handle = worker.client.handle("n")
        begun = await handle.start_update(add, 2)
        await until_status(handle, "suspended")
        with pytest.raises(InstanceSuspended, match="does not match its history"):
            await begun.result(wait_suspended=False)
        with pytest.raises(InstanceSuspended):
            await handle.update(add, 4, wait_suspended=False)
    async with flow.worker(flows) as worker:
        handle = worker.client.handle("n")
        answers = []

        async def wait():
            answers.append(await handle.update(add, 8))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await handle.resume()
        assert await handle.update(total) == [1, 2, 4, 8]
        assert answers == [15]


async def test_a_wait_ends_with_its_client(flow):
    errors = []

    async def wait(begun):
        try:
            await begun.result()
        except ClientClosed:
            errors.append("closed")

    async with anyio.create_task_group() as group, open_client(await flow.backend()) as client:
        handle = await client.start(numbers, [])
        begun = await handle.start_update(add, 1)
        group.start_soon(wait, begun)

        async def waits():
            return client.answers.waiting == 1

        await until(waits)
    assert errors == ["closed"]
    with pytest.raises(ClientClosed):
        await begun.result()


async def test_the_history_shows_updates_and_answers(flow):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(numbers, [])
        await handle.update(add.options(id="r1"), 3)
        with pytest.raises(Refused):
            await handle.update(add.options(id="r2"), -3)
        await handle.update(total.options(id="r3"))
        (execution,) = await handle.history()
        turns = execution.turns
        events = [event for turn in turns for event in turn.events]
        asked = [(e.update, e.name, e.value) for e in events if hasattr(e, "update")]
        assert asked == [("r1", "add", 3), ("r2", "add", -3), ("r3", "total", None)]
        commands = [command for turn in turns for command in turn.commands]
        assert [(c.id, c.update, c.result) for c in commands] == [
            ("u1:0", "r1", 3),
            ("u2:0", "r2", None),
            ("u3:0", "r3", [3]),
        ]


async def test_an_error_of_a_class_that_is_not_here(flow):
    async with flow.worker(flows) as worker:
        handle = await worker.client.start(numbers, [])

        class Local(Exception):
            pass

        gone = Registry()

        @gone.workflow
        async def wf() -> None:
            @add.handler
            async def _(number: int) -> int:
                raise type("Gone", (Exception,), {})(number)

            await word.receive()

        async with flow.worker(gone) as other:
            second = await other.client.start(wf)
            with pytest.raises(RemoteError, match="Gone: 4"):
                await second.update(add, 4)
        assert await handle.update(add, 4) == 4
