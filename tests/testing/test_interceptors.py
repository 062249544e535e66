"""Interceptors in tests: the tester, simulations, clusters, and what a stuck test says."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar

import anyio
import pytest

from trioflow import (
    ContextVars,
    Interceptor,
    Registry,
    RemoteError,
    RetryPolicy,
    Signal,
    activity_info,
    continue_as_new,
    info,
    side_effect,
)
from trioflow.errors import TrioflowError
from trioflow.testing import (
    Cluster,
    ReplayError,
    Stuck,
    crash_everywhere,
    explore,
    open_tester,
    simulate,
)

flows = Registry()
number = Signal("number", int)


@flows.activity(retry=RetryPolicy(max_attempts=2, initial_interval=1, jitter=0))
async def add(x: int) -> int:
    return x + 1


@flows.activity(retry=RetryPolicy(max_attempts=1))
def exhausted() -> int:
    raise AssertionError("the real one")


@flows.workflow
async def child(x: int) -> int:
    return await add(x)


@flows.workflow
async def work(x: int) -> int:
    return await child(x) + await number.receive()


@flows.workflow
async def tries() -> str:
    try:
        await exhausted()
    except Exception as exc:
        return exc.type if isinstance(exc, RemoteError) else type(exc).__name__


class Around(Interceptor):
    """Gives a command around each workflow, and adds to what activities give."""

    def __init__(self):
        self.seen = []

    async def workflow(self, call, proceed):
        self.seen.append(call.name.rpartition(".")[2])
        more = side_effect(lambda: 1000)
        return await proceed() + more

    async def activity(self, call, proceed):
        self.seen.append(f"{call.name.rpartition('.')[2]}{call.args} of {call.instance}")
        return await proceed() + 100


SIMULATED = {
    "registry": flows,
    "activities": {add: lambda x: x + 1},
    "signals": [(number, 7)],
}
RESULT = (1 + 1 + 100 + 1000) + 7 + 1000


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("faked", [False, True])
def test_the_tester_has_them(backend, faked):
    async def main():
        around = Around()
        async with open_tester(registry=flows, interceptors=[around]) as tester:
            if faked:
                tester.fake(add, lambda x: x + 1, times=1)
            handle = await tester.start(work.options(id="one"), 1)
            await handle.signal(number, 7)
            assert await handle.result() == RESULT
        assert around.seen[:2] == ["work", "child"]
        assert around.seen[2].startswith("add(1,) of one/")

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("fn", [lambda x: x + 1, add.fn])
def test_a_simulation_has_them(fn):
    around = Around()
    simulated = {**SIMULATED, "activities": {add: fn}}
    simulation = simulate(work, 1, interceptors=[around], **simulated)
    assert simulation.result() == RESULT
    assert {"work", "child"} < set(around.seen)
    assert any(seen.startswith("add(1,) of simulated-1/") for seen in around.seen)
    assert simulate(work, 1, **SIMULATED).result() == RESULT - 2100


class Passing(Interceptor):
    async def activity(self, call, proceed):
        return await proceed()


@pytest.mark.parametrize("interceptors", [[], [Passing(), Passing()]])
def test_an_error_that_no_coroutine_raises_is_the_activitys(interceptors):
    simulation = simulate(
        tries,
        registry=flows,
        interceptors=interceptors,
        activities={exhausted: lambda: next(iter(()))},
    )
    assert simulation.result() == "StopIteration"


async def test_searches_have_them():
    def check(simulation):
        if simulation.status == "completed":
            assert simulation.result() == RESULT

    around = [Around()]
    await explore(
        work, 1, interceptors=around, check=check, examples=20, seed=1, failures=False, **SIMULATED
    )
    report = await crash_everywhere(work, 1, interceptors=around, **SIMULATED)
    assert report.results == {f"completed: {RESULT}": len(report.runs)}


async def test_a_search_finds_one_that_is_not_deterministic():
    class Counts(Interceptor):
        count = 0

        async def workflow(self, call, proceed):
            self.count += 1
            for _ in range(self.count):
                side_effect(int)
            return await proceed()

    with pytest.raises(ReplayError):
        simulate(work, 1, interceptors=[Counts()], **SIMULATED)


def test_a_cluster_replays_with_them():
    async def scenario(client):
        for x in range(3):
            handle = await client.start(work, x)
            await handle.signal(number, 7)

    report = Cluster(1, registry=flows, interceptors=[Around()], propagators=[ContextVars()]).run(
        scenario
    )
    assert report.statuses == {"completed": 6}


async def test_a_stuck_test_says_where_it_waits_with_them():
    with pytest.raises(Stuck, match=r"number"):
        async with open_tester(registry=flows, interceptors=[Around()]) as tester:
            await tester.run(work, 1)


# --- propagators --------------------------------------------------------------------------------

tenant = ContextVar("tenant")
ordered = Registry()


@ordered.activity
async def who(at: str) -> str:
    raise AssertionError("the real one")


@ordered.workflow
async def below() -> str:
    return await who(f"{tenant.get()} in a sub-workflow")


@ordered.workflow
async def above(rounds: int) -> list[str]:
    first = await who(f"{tenant.get()} in round {rounds}, {info().metadata}")
    if rounds:
        continue_as_new(rounds - 1)
    tenant.set("other")
    return [first, await below(), await who("")]


@ordered.workflow
async def plainly() -> str:
    return await who.options(retry=RetryPolicy(max_attempts=1))("")


def seen(at):
    return f"{at}, {tenant.get()} in the activity, {activity_info().metadata}"


def forgets(at):
    tenant.set("forgotten")  # seen by this attempt alone
    return seen(at)


PROPAGATED = {
    "registry": ordered,
    "activities": {who: seen},
    "propagators": [ContextVars(tenant=tenant)],
}
SEEN = [
    "acme in round 0, {'tenant': 'acme'}, acme in the activity, {'tenant': 'acme'}",
    "other in a sub-workflow, other in the activity, {'tenant': 'other'}",
    ", other in the activity, {'tenant': 'other'}",
]


@pytest.fixture
def of_a_tenant():
    token = tenant.set("acme")
    yield
    tenant.reset(token)


def test_a_simulation_has_propagators(of_a_tenant):
    assert simulate(above, 1, **PROPAGATED).result() == SEEN
    with_options = above.options(metadata={"tenant": "acme", "more": "x"})
    first, *_ = simulate(with_options, 0, **PROPAGATED).result()
    assert first.endswith("{'tenant': 'acme', 'more': 'x'}")
    without = {**PROPAGATED, "propagators": []}
    assert simulate(above, 0, **without).status == "failed"


def test_an_attempt_in_a_simulation_has_a_context_of_its_own(of_a_tenant):
    simulation = simulate(above, 1, **{**PROPAGATED, "activities": {who: forgets}})
    assert simulation.result()[0].startswith("acme in round 0")
    assert tenant.get() == "acme"


async def test_searches_have_propagators(of_a_tenant):
    def check(simulation):
        if simulation.status == "completed":
            assert simulation.result() == SEEN

    searched = {**PROPAGATED, "failures": False}
    await explore(above, 1, check=check, examples=20, seed=1, **searched)
    report = await crash_everywhere(above, 1, **PROPAGATED)
    assert report.results == {f"completed: {SEEN!r}": len(report.runs)}


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_tester_has_propagators(backend, of_a_tenant):
    async def main():
        propagators = PROPAGATED["propagators"]
        async with open_tester(registry=ordered, propagators=propagators) as tester:
            tester.fake(who, seen)
            assert await tester.run(above, 1) == SEEN

    anyio.run(main, backend=backend)


def test_what_a_propagator_raises_fails_the_attempt():
    class Refuses:
        def inject(self, metadata):
            metadata["x"] = "y"

        def extract(self, metadata):
            with contextlib.suppress(TrioflowError):
                activity_info()
                raise ValueError(f"no {metadata['x']}")

    simulation = simulate(
        plainly, registry=ordered, activities={who: seen}, propagators=[Refuses()]
    )
    assert simulation.status == "failed"
    with pytest.raises(ValueError, match="no y"):
        simulation.result()
