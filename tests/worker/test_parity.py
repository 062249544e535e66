"""What another engine's tests ask end to end, on every store, with cached executions and without.

All ideas run at once, beside each other, on one worker and one store, since each takes but moments;
those that remove what the others look at come after them, one by one. What the other tests of this
folder look at more closely is here once for the stores and caches that they leave out.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from contextvars import ContextVar

import anyio
import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.stores import ALL, marked
from tests.worker.flow import Flow, kinds, until, until_parked, until_status
from trioflow import (
    ArgumentError,
    ContextVars,
    InstanceAlreadyExists,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFinished,
    InstanceNotFound,
    InstanceSuspended,
    Registry,
    RetryPolicy,
    Signal,
    activity_by_name,
    activity_info,
    continue_as_new,
    info,
    now,
    send_signal,
    side_effect,
    sleep,
    workflow_by_name,
)
from trioflow.otel import OpenTelemetry, tracer

go = Signal("go", int)
once = RetryPolicy(max_attempts=1)
flows = Registry()
IDEAS = []
AFTERWARDS = []


def idea(function):
    """Take a function of a `World` among those that are run at once."""
    IDEAS.append(function)
    return function


def afterwards(function):
    """Take one that runs alone, since it removes what it finds in the whole store."""
    AFTERWARDS.append(function)
    return function


class World:
    """A store with a worker that serves the default queue.

    Attributes:
        client: The worker's.
    """

    def __init__(self, flow, client):
        self._flow = flow
        self.client = client

    async def backend(self):
        """Return a backend of the store, to be given to a worker; in memory there is but one."""
        return await self._flow.backend()

    @asynccontextmanager
    async def worker(self, registry, queue, **options):
        """Open another worker, which serves one queue."""
        async with self._flow.worker(registry, queues=[queue], **options) as worker:
            yield worker


class OutOfStock(Exception):
    def __init__(self, item, left):
        super().__init__(item, left)
        self.item = item
        self.left = left


RUNS = [(kind, cache) for kind in ALL for cache in (1000, 0)]


@pytest.fixture(params=marked(RUNS, store=lambda run: run[0]))
def flow(request, tmp_path, servers, harness):
    kind, cache = request.param
    return Flow(kind, "trio", cache, tmp_path, servers).of(harness)


async def test_all_ideas_at_once(flow):
    async def run(idea, world):
        try:
            await idea(world)
        except Exception as exc:
            exc.add_note(f"in {idea.__name__}")
            raise

    async with flow.worker(flows) as worker, trio.open_nursery() as nursery:
        for each in IDEAS:
            nursery.start_soon(run, each, World(flow, worker.client))
    async with flow.worker(flows) as worker:
        for each in AFTERWARDS:
            await run(each, World(flow, worker.client))


class Counted:
    """A backend that counts a worker's heartbeats, and its looks for what is to be removed."""

    def __init__(self, backend):
        self._backend = backend
        self.calls = Counter()

    def __getattr__(self, name):
        member = getattr(self._backend, name)
        if name not in ("heartbeat", "remove"):
            return member

        def call(*args, **kwargs):
            self.calls[name] += 1
            return member(*args, **kwargs)

        return call


# --- activities ----------------------------------------------------------------------------


@flows.activity
async def add(a: int, b: int) -> int:
    return a + b


@flows.activity
def square(n: int) -> int:
    return n * n


@flows.workflow
async def sums(n: int) -> int:
    return await add(n, await add(n, 1))


@idea
async def a_simple_workflow(world):
    assert await world.client.run(sums, 3) == 7


@flows.workflow
async def adds_many(count: int) -> int:
    return sum(await anyio.amap(lambda n: add(n, 0), range(count)))


@idea
async def hundreds_of_activities_at_once(world):
    handle = await world.client.start(adds_many, 200)
    assert await handle.result() == sum(range(200))
    (execution,) = await handle.history()
    assert sum(len(turn.commands) for turn in execution.turns) == 200


@flows.workflow
async def waits_between() -> int:
    first = await add(1, 1)
    return first + await go.receive()


@idea
async def the_exact_history(world):
    handle = await world.client.start(waits_between)
    await until_parked(handle, turns=2)
    await handle.signal(go, 5)
    assert await handle.result() == 7
    (execution,) = await handle.history()
    assert kinds(execution.turns) == [
        (["Started"], ["RunActivity"]),
        (["ActivityCompleted"], []),
        (["SignalReceived"], []),
    ]


@idea
async def an_unknown_workflow_waits_for_who_knows_it(world):
    here, there = Registry(), Registry()

    @here.workflow
    async def known() -> int:
        return 1

    @there.workflow
    async def unknown() -> int:
        return 2

    by_name = workflow_by_name("unknown", int).options(queue="unknown")
    handle = await world.client.start(by_name)
    async with world.worker(here, "unknown"):
        assert await world.client.run(known.options(queue="unknown")) == 1
        assert (await handle.describe()).turns == 0
    async with world.worker(there, "unknown"):
        assert await handle.result() == 2


@flows.workflow
async def calls_elsewhere() -> int:
    return await activity_by_name("elsewhere", int, queue="elsewhere")(n=2)


async def pending(handle):
    return [task.activity for task in (await handle.describe()).activities]


@idea
async def an_unknown_activity_waits_for_who_knows_it(world):
    here, there = Registry(), Registry()

    @here.activity
    async def another() -> None: ...

    @there.activity
    async def elsewhere(n: int) -> int:
        return n + 1

    handle = await world.client.start(calls_elsewhere)
    async with world.worker(here, "elsewhere", workflows=False):
        await until(lambda: pending(handle))
        assert await pending(handle) == ["elsewhere"]
    async with world.worker(there, "elsewhere", workflows=False):
        assert await handle.result() == 3


@idea
async def arguments_that_do_not_fit_a_workflow_are_refused(world):
    with pytest.raises(ArgumentError, match="'n'.*int.*str"):
        await world.client.start(sums.options(id="does-not-fit"), "three")
    with pytest.raises(ArgumentError, match="1 positional argument"):
        await world.client.start(sums.options(id="does-not-fit"), 1, 2)
    assert await world.client.count(id_prefix="does-not-fit") == 0


@flows.workflow
async def calls_wrongly() -> str:
    with pytest.raises(ArgumentError) as raised:
        await add(1, "x")
    return str(raised.value)


@idea
async def arguments_that_do_not_fit_an_activity_are_refused(world):
    handle = await world.client.start(calls_wrongly)
    assert "'b'" in await handle.result()
    (execution,) = await handle.history()
    assert kinds(execution.turns) == [(["Started"], [])]


drawn = []


@flows.workflow
async def draws() -> list[int]:
    def draw() -> int:
        drawn.append(info().id)
        return drawn.count(info().id)

    first = side_effect(draw)
    await go.receive()
    return [first, side_effect(draw)]


@idea
async def a_side_effect_happens_once(world):
    handle = await world.client.start(draws)
    await until_parked(handle)
    await handle.signal(go, 1)
    assert await handle.result() == [1, 2]


@flows.activity(retry=once)
async def divides(n: int) -> float:
    return 1 / n


@flows.activity(retry=once)
async def reserves(item: str) -> None:
    raise OutOfStock(item, 3)


@flows.activity(retry=RetryPolicy(max_attempts=3, initial_interval=0.01))
async def is_tried() -> int:
    if activity_info().attempt < 3:
        raise OSError("not yet")
    return activity_info().attempt


@flows.workflow
async def fails(how: str) -> float:
    try:
        if how == "divides":
            return await divides(0)
        if how == "is tried":
            return await is_tried()
        await reserves("pen")
    except OutOfStock as exc:
        return exc.left


@idea
async def an_activity_that_raises_fails_its_workflow(world):
    with pytest.raises(ZeroDivisionError) as raised:
        await world.client.run(fails, "divides")
    assert "divides" in str(raised.value.__cause__)


@idea
async def an_error_of_ones_own_is_caught_as_what_it_is(world):
    assert await world.client.run(fails, "reserves") == 3


@idea
async def an_activity_sees_its_attempt(world):
    assert await world.client.run(fails, "is tried") == 3


# --- sub-workflows -------------------------------------------------------------------------


@flows.workflow
async def waiting() -> int:
    return await go.receive()


@flows.workflow
async def calls(id: str, queue: str | None = None) -> int | str:
    child = waiting.options(id=id) if queue is None else waiting.options(id=id, queue=queue)
    try:
        return await child()
    except InstanceAlreadyExists as exc:
        return str(exc)


@flows.workflow
async def nested(n: int) -> int:
    return n if n == 0 else 1 + await nested(n - 1)


@idea
async def sub_workflows(world):
    handle = await world.client.start(nested.options(id="nested"), 3)
    assert await handle.result() == 3
    assert {one.status for one in await world.client.list(parent="nested")} == {"completed"}


@idea
async def a_sub_workflow_cannot_take_an_id_that_runs(world):
    first = await world.client.start(waiting.options(id="taken"))
    assert "'taken'" in await world.client.run(calls, "taken")
    await first.signal(go, 4)
    assert await first.result() == 4


@idea
async def it_may_take_one_that_has_finished(world):
    assert await world.client.run(nested.options(id="finished"), 0) == 0
    handle = await world.client.start(calls, "finished")
    child = world.client.handle("finished", waiting)
    await until_status(child, "running")
    await child.signal(go, 9)
    assert await handle.result() == 9


@idea
async def a_cancel_reaches_the_sub_workflow(world):
    handle = await world.client.start(calls, "to-be-cancelled")
    await until_parked(handle)
    await handle.cancel("no more")
    with pytest.raises(InstanceCancelled, match="no more"):
        await handle.result()
    child = await world.client.handle("to-be-cancelled").describe()
    assert child.status == "cancelled"


@flows.workflow
async def calls_for_a_moment() -> str:
    with trio.move_on_after(0.02):
        await waiting.options(id="never-begins", queue="nobody")()
    return "gave up"


@idea
async def one_that_is_cancelled_before_it_began_never_runs(world):
    assert await world.client.run(calls_for_a_moment) == "gave up"
    child = await world.client.handle("never-begins").describe()
    assert (child.status, child.turns) == ("cancelled", 0)


@flows.workflow
async def signals_its_child() -> int:
    results = []

    async def call() -> None:
        results.append(await waiting.options(id="signalled")())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.lowlevel.checkpoint()
        await send_signal("signalled", go, 6)
    return results[0]


@idea
async def a_parent_signals_its_child(world):
    assert await world.client.run(signals_its_child) == 6


@idea
async def a_sub_workflow_on_another_queue_that_is_signalled_before_it_began(world):
    handle = await world.client.start(calls, "elsewhere-17", queue="late")
    child = world.client.handle("elsewhere-17", waiting)

    async def is_there():
        return await world.client.count(id_prefix="elsewhere-17")

    await until(is_there)
    await child.signal(go, 8)
    described = await child.describe()
    assert (described.queue, described.turns) == ("late", 0)
    async with world.worker(flows, "late"):
        assert await handle.result() == 8


# --- an instance's life --------------------------------------------------------------------


@idea
async def a_signal_after_the_end_is_refused(world):
    handle = await world.client.start(nested, 0)
    await handle.result()
    with pytest.raises(InstanceFinished):
        await handle.signal(go, 1)


@idea
async def changed_code_suspends_and_the_old_code_goes_on(world):
    def code(name):
        registry = Registry()

        @registry.activity(name=name)
        async def act() -> int:
            return 1

        @registry.workflow(name="changes", queue="changes")
        async def changes() -> int:
            return await act() + await go.receive()

        return registry, changes

    (old, changes), (new, _) = code("old"), code("new")
    async with world.worker(old, "changes"):
        handle = await world.client.start(changes)
        await until_parked(handle, turns=2)
    await handle.signal(go, 4)
    async with world.worker(new, "changes"):
        with pytest.raises(InstanceSuspended, match="'new'"):
            await handle.result(wait_suspended=False)
    async with world.worker(old, "changes"):
        await handle.resume()
        assert await handle.result() == 5


@idea
async def what_runs_cannot_be_removed_what_has_ended_can(world):
    handle = await world.client.start(waiting)
    with pytest.raises(InstanceNotFinished):
        await handle.remove()
    await handle.signal(go, 1)
    await handle.result()
    await handle.remove()
    with pytest.raises(InstanceNotFound):
        await handle.describe()


@flows.activity
async def reads() -> str:
    return activity_info().metadata["tenant"]


@flows.workflow
async def passes_on(levels: int) -> list[str]:
    below = await passes_on(levels - 1) if levels else [await reads()]
    return [info().metadata["tenant"], *below]


@idea
async def metadata_go_from_the_client_through_children_to_activities(world):
    call = passes_on.options(metadata={"tenant": "t1"})
    assert await world.client.run(call, 1) == ["t1"] * 3


request = ContextVar("request", default="none")


@flows.activity
async def which_request() -> str:
    return request.get()


@flows.workflow
async def which_requests(levels: int) -> list[str]:
    below = await which_requests(levels - 1) if levels else [await which_request()]
    return [request.get(), *below]


@idea
async def context_goes_the_same_way(world):
    own = [ContextVars(request=request)]
    async with world.worker(flows, "context", propagators=own) as worker:
        request.set("r7")
        call = which_requests.options(queue="context")
        assert await worker.client.run(call, 1) == ["r7"] * 3
    assert await world.client.run(which_requests, 0) == ["none"] * 2


@flows.workflow(max_events=100)
async def never_ends() -> None:
    while True:
        await anyio.amap(lambda n: add(n, 0), range(60))


@idea
async def the_limit_of_a_history_suspends(world):
    handle = await world.client.start(never_ends)
    await until_status(handle, "suspended")
    assert (await handle.describe()).suspension.kind == "history limit"


@flows.workflow
async def counts_down(n: int, done: int = 0) -> list[int]:
    done = await add(done, 1)
    if n == 0:
        return [done, info().execution]
    continue_as_new(n - 1, done)


@flows.workflow
async def waits_for_a_countdown() -> list[int]:
    return await counts_down(2)


@idea
async def continue_as_new_of_a_root(world):
    handle = await world.client.start(counts_down, 2)
    assert await handle.result() == [3, 3]
    assert [execution.number for execution in await handle.history()] == [1, 2, 3]


@idea
async def continue_as_new_of_a_child(world):
    handle = await world.client.start(waits_for_a_countdown)
    assert await handle.result() == [3, 3]
    (execution,) = await handle.history()
    assert [events for events, _ in kinds(execution.turns)] == [["Started"], ["ChildCompleted"]]


@idea
async def instances_are_listed_page_by_page(world):
    for n in range(5):
        await world.client.run(nested.options(id=f"page-{n}"), 0)
    found, last = [], None
    while page := await world.client.list(id_prefix="page-", limit=2, after=last):
        found += [one.id for one in page]
        last = found[-1]
    assert sorted(found) == [f"page-{n}" for n in range(5)]


@idea
async def only_the_queues_of_a_worker_are_served_and_each_has_its_numbers(world):
    handles = [await world.client.start(waiting.options(queue="counted")) for _ in range(3)]
    await world.client.run(nested, 1)
    assert {(await handle.describe()).queue for handle in handles} == {"counted"}
    (stats,) = [one for one in await world.client.stats() if one.queue == "counted"]
    assert (stats.running, stats.pending_instances, stats.workers) == (3, 3, 0)
    async with world.worker(flows, "counted"):
        for handle in handles:
            await handle.signal(go, 1)
            assert await handle.result() == 1
    assert [one for one in await world.client.stats() if one.queue == "counted"] == []


@idea
async def many_are_removed_at_once_and_what_runs_is_left(world):
    for n in range(3):
        await world.client.run(nested.options(id=f"old-{n}"), 0)
    await world.client.start(waiting.options(id="old-waiting"))
    end = max([(await world.client.handle(f"old-{n}").describe()).finished_at for n in range(3)])
    assert await world.client.remove(finished_before=end + 1, id_prefix="old-") == 3
    assert [one.id for one in await world.client.list(id_prefix="old-")] == ["old-waiting"]


# --- timers --------------------------------------------------------------------------------


@flows.workflow
async def sleeps_long() -> None:
    await trio.sleep(10_000)


@idea
async def a_timer_ends_with_its_cancelled_instance(world):
    handle = await world.client.start(sleeps_long)
    await until_parked(handle)
    await handle.cancel()
    with pytest.raises(InstanceCancelled):
        await handle.result()


@flows.workflow
async def cancels_timers(when: str) -> list[bool]:
    began = now()
    with trio.CancelScope() as scope:
        if when == "before":
            scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 10_000)
            if when == "at once":
                scope.cancel()
            elif when == "twice":
                await add(1, 1)
                scope.cancel()
                scope.cancel()
            elif when == "as it fires":
                nursery.start_soon(trio.sleep, 0.02)
                await trio.sleep(0.02)
                scope.cancel()
    await trio.sleep(0.01)
    return [scope.cancelled_caught, now() - began < 1000]


@idea
async def a_timer_is_cancelled_at_any_time(world):
    for when in ("before", "at once", "twice", "as it fires"):
        handle = await world.client.start(cancels_timers, when)
        assert await handle.result() == [True, True], when


@flows.workflow
async def sleeps_by_name() -> float:
    began = now()
    await sleep(0.02, name="a moment")
    return now() - began


@idea
async def a_timer_has_a_name_in_the_history(world):
    handle = await world.client.start(sleeps_by_name)
    assert await handle.result() >= 0.02
    (execution,) = await handle.history()
    first, last = execution.turns
    (command,) = first.commands
    assert command.name == "a moment"
    assert command.due_at == first.now + 0.02 <= last.now


# --- traces --------------------------------------------------------------------------------


@flows.activity
async def traced_activity() -> None:
    with tracer().start_as_current_span("in the activity"):
        pass


@flows.workflow
async def traced_child() -> None:
    with tracer().start_as_current_span("in the child"):
        await traced_activity()


@flows.workflow
async def traced() -> None:
    with tracer().start_as_current_span("in the workflow"):
        await trio.sleep(0.01)
        await traced_child()


async def parents_of_spans(world, workflow):
    """Run a workflow; return which span is inside which, by name."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    queue = f"traces of {workflow.name}"
    telemetry = OpenTelemetry(provider)
    async with world.worker(flows, queue, observers=[telemetry]) as worker:
        with provider.get_tracer("test").start_as_current_span("outside"):
            await worker.client.run(workflow.options(queue=queue))
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    assert len(names) == len(spans), "a span was written twice"
    return {span.name: span.parent and names[span.parent.span_id] for span in spans}


@idea
async def spans_of_workflows_timers_and_children_are_inside_each_other(world):
    assert await parents_of_spans(world, traced) == {
        "outside": None,
        "start traced": "outside",
        "traced": "outside",
        "in the workflow": "traced",
        "timer": "traced",
        "traced_child": "in the workflow",
        "in the child": "traced_child",
        "traced_activity": "in the child",
        "in the activity": "traced_activity",
    }


# --- what removes from the whole store -----------------------------------------------------


@afterwards
async def executions_that_others_followed_are_removed_on_request(world):
    handle = await world.client.start(counts_down, 2)
    await handle.result()
    ended = max(one.ended_at for one in (await handle.describe()).earlier)
    assert await world.client.remove_executions(ended_before=ended + 0.001) >= 2
    assert [execution.number for execution in await handle.history()] == [3]
    assert await handle.result() == [3, 3]


@afterwards
async def what_has_ended_expires_once_a_worker_says_so(world):
    ended, waits = await world.client.start(nested, 0), await world.client.start(waiting)
    await ended.result()
    patient = Counted(await world.backend())
    async with world.worker(Registry(), "no work", backend=patient, keep_finished=1e6):

        async def looked():
            return patient.calls["remove"]

        await until(looked)
        assert (await ended.describe()).status == "completed"

    async def gone():
        try:
            await ended.describe()
        except InstanceNotFound:
            return True

    async with world.worker(Registry(), "no work", keep_finished=0.01):
        await until(gone)
    await waits.signal(go, 1)
    assert await waits.result() == 1


# --- a lease -------------------------------------------------------------------------------


BEATING = [run for run in RUNS if run[0] != "memory"]  # within a process nobody needs heartbeats


@pytest.mark.parametrize("flow", marked(BEATING, store=lambda run: run[0]), indirect=True)
async def test_a_long_activity_keeps_its_lease(flow):
    """Whoever takes workers for dead that were last heard of before it began does not take it."""
    flows, counted, others = Registry(), Counted(await flow.backend()), await flow.backend()

    @flows.activity(retry=once)
    async def lasts() -> list[str]:
        began, beats = anyio.current_time(), counted.calls["heartbeat"]

        async def was_heard_of():
            return counted.calls["heartbeat"] >= beats + 3  # two are over, the last may run

        await until(was_heard_of)
        return await others.reclaim(anyio.current_time() - began)

    @flows.workflow
    async def waits() -> list[str]:
        return await lasts()

    async with flow.worker(flows, backend=counted, lease=1.2) as worker:
        assert await worker.client.run(waits) == []
