"""An activity is cancelled because its row says so, and for no other reason."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pytest
import trio

from tests.stores import PassesOn
from tests.worker.flow import Gate, ends_in, moves_on_when_told, until, until_status
from trioflow import BackendUnavailable, Registry, Signal

number = Signal("number", int)


class LosesAnswer(PassesOn):
    """Passes all calls on, but loses the first answer to a commit that ``which`` means."""

    def __init__(self, backend, which):
        super().__init__(backend)
        self._which = which
        self.lost = False

    async def commit(self, worker, units):
        answer = await self._backend.commit(worker, units)
        commits = [commit for unit in units for commit in unit.instances]
        if not self.lost and any(map(self._which, commits)):
            self.lost = True
            raise BackendUnavailable("the answer was lost")
        return answer


async def test_the_end_of_one_life_does_not_cancel_activities_of_the_next(cached):
    """The worker held the first life; of the second it runs an activity for another worker."""
    flows = Registry()
    gates, entered = [], []

    @flows.activity
    async def job(n: int) -> int:
        entered.append(n)
        with anyio.CancelScope(shield=n == 1):
            await gates[n - 1].wait()
        return n

    @flows.workflow
    async def flow(n: int) -> int:
        return await job.options(queue="default")(n)

    gates[:] = [Gate(), Gate()]
    async with (
        cached.client(flows) as client,
        cached.worker(flows) as first,
        cached.worker(flows, queues=("other",), activities=False),
    ):
        held = first._pump.holdings.held
        await client.start(flow.options(id="order"), 1)
        await gates[0].until_entered()
        assert "order" in held
        await client.handle("order").terminate("again, with other data")
        handle = await client.start(flow.options(id="order", queue="other"), 2)
        await gates[1].until_entered()
        assert "order" in held
        gates[0].open()

        async def let_go():
            return "order" not in held

        await until(let_go)  # what it would have stored of the first life was refused
        gates[1].open()
        assert await handle.result() == 2
    assert entered == [1, 2]


async def test_the_lost_answer_to_a_suspension_cancels_no_activity(cached):
    flows = Registry()
    gates, spins = [], [True]

    @flows.activity
    async def job() -> int:
        await gates[0].wait()
        return 5

    @flows.workflow
    async def flow() -> int:
        found = []

        async def call():
            found.append(await job())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await number.receive()
            while spins[0]:
                await trio.sleep(0)
        return found[0]

    gates[:] = [Gate()]
    backend = LosesAnswer(await cached.backend(), lambda c: c.suspended is not None)
    async with cached.worker(flows, backend=backend, max_steps=500) as worker:
        handle = await worker.client.start(flow)
        await gates[0].until_entered()
        await handle.signal(number, 1)
        await until_status(handle, "suspended")

        async def let_go():
            return backend.lost and not worker._pump.holdings.held

        await until(let_go)
        spins[0] = False
        await handle.resume()
        gates[0].open()
        assert await handle.result() == 5


async def test_an_activity_whose_lease_came_with_a_lost_answer_runs(cached):
    """A suspect is given back with its turn, and the activity of that turn stays leased here."""
    flows = Registry()

    @flows.activity
    async def job() -> int:
        return 5

    @flows.workflow
    async def flow() -> int:
        return await job()

    def parks(commit):
        return bool(commit.activities) and not commit.leased

    async with cached.client(flows) as client:
        handle = await client.start(flow)
        await client.backend.register_worker("dead", "one that takes it and dies")
        assert (await client.backend.take_instances("dead", ("default",), 1)).instances
        await client.backend.reclaim(-1.0)
        backend = LosesAnswer(await cached.backend(), parks)
        async with cached.worker(flows, backend=backend):
            assert await handle.result() == 5
        assert backend.lost


class LosesBoth(LosesAnswer):
    """Also loses the answer to the release that follows."""

    released = 0

    async def release_instances(self, worker, instances):
        answer = await self._backend.release_instances(worker, instances)
        self.released += 1
        if self.lost and self.released == 1:
            raise BackendUnavailable("the answer was lost")
        return answer


async def test_what_was_released_with_a_lost_answer_runs_on_nowhere(cached):
    """The store has freed the activity, so its worker must not go on with it and store its end."""
    flows = Registry()
    gate, running, ends = Gate(), [], []

    @flows.activity
    async def job() -> int:
        running.append(1)
        try:
            await gate.wait()
        finally:
            running.remove(1)
        return 5

    @flows.workflow
    async def flow() -> list[str]:
        async with moves_on_when_told():
            await job()
        ends.append("cancelled")
        return ends[-1:]

    def cancels(commit):
        return bool(commit.cancelled)

    backend = LosesBoth(await cached.backend(), cancels)
    async with cached.worker(flows, backend=backend) as worker:
        handle = await worker.client.start(flow)
        await gate.until_entered()
        await handle.signal(ends_in, 0.01)
        assert await handle.result() == ["cancelled"]
        assert backend.lost
        assert backend.released >= 2

        async def stopped():
            return not running

        await until(stopped)
        turns = [turn for execution in await handle.history() for turn in execution.turns]
        answers = [event for turn in turns for event in turn.events if hasattr(event, "id")]
        assert [type(answer).__name__ for answer in answers] == ["ActivityCancelled"]


async def test_a_cancelled_activity_that_is_leased_here_and_not_here_is_freed(cached):
    """Its lease came with an answer of which nobody knows that it was lost."""
    flows = Registry()

    @flows.activity
    async def job() -> int:
        return 5

    @flows.workflow
    async def flow() -> int:
        return await job.options(queue="elsewhere")()

    async with cached.client(flows) as client, cached.worker(flows) as worker:
        handle = await client.start(flow)

        async def leased():
            id = worker._registration.id
            taken = await client.backend.take_activities(id, ("elsewhere",), 1)
            return bool(taken.activities)

        await until(leased)
        await handle.terminate("no longer")

        async def freed():
            stats = await client.stats()
            return not any(queue.running_activities for queue in stats)

        await until(freed)
        assert await client.backend.activities(handle.id) == []


class SendsBeforeTheEnd(PassesOn):
    """Sends a signal before the first commit that closes an instance, and terminates it after."""

    def __init__(self, backend, client):
        super().__init__(backend)
        self._client = client
        self.refused = False

    async def commit(self, worker, units):
        closing = [c for unit in units for c in unit.instances if c.closing is not None]
        if self.refused or not closing:
            return await self._backend.commit(worker, units)
        handle = self._client.handle(closing[0].id)
        await handle.signal(number, 1)
        answer = await self._backend.commit(worker, units)
        await handle.terminate("no longer")
        self.refused = answer[0] is not None
        return answer


@pytest.mark.parametrize("last", ["activity", "signal", "sleep"])
async def test_an_instance_that_is_ended_while_it_waits_for_unseen_messages_is_let_go(cached, last):
    flows = Registry()

    @flows.activity
    async def job() -> int:
        return 5

    @flows.workflow
    async def flow() -> None:
        if last == "activity":
            await job()
        elif last == "signal":
            await number.receive()
        else:
            await trio.sleep(0.01)

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(cached.client(flows))
        backend = SendsBeforeTheEnd(await cached.backend(), client)
        worker = await stack.enter_async_context(cached.worker(flows, backend=backend))
        handle = await client.start(flow)
        if last == "signal":
            await handle.signal(number, 0)

        async def freed():
            stats = await client.stats()
            held = worker._pump.holdings.held
            return backend.refused and not (held or any(q.running_activities for q in stats))

        await until(freed)
        assert (await handle.describe()).status == "terminated"
        assert await client.backend.activities(handle.id) == []
