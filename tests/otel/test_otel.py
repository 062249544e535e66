"""Spans and metrics through OpenTelemetry, with the SDK's exporters in memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from trioflow import (
    InstanceFinished,
    Registry,
    RetryPolicy,
    Signal,
    _recording,
    continue_as_new,
    open_client,
    open_worker,
    side_effect,
)
from trioflow.backends.memory import MemoryBackend
from trioflow.observers import InstanceCreated
from trioflow.otel import ClientSpans, OpenTelemetry, tracer
from trioflow.otel.spans import Span, parent_in

flows = Registry()
go = Signal("go", int)


@flows.activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.0))
async def charge(amount: int) -> int:
    with tracer().start_as_current_span("call the bank"):
        if amount < 0:
            raise ValueError("below zero")
    return amount


@flows.workflow
async def part(amount: int) -> int:
    return await charge(amount)


@flows.workflow
async def order(amount: int) -> int:
    with tracer().start_as_current_span("paying", attributes={"amount": amount}) as span:
        paid = await part.options(id="the-part")(amount)
        span.add_event("paid")
        span.set_attribute("paid", paid)
    return paid + await go.receive() + side_effect(lambda: 0)


@flows.workflow
async def twice(again: bool) -> None:
    if again:
        continue_as_new(False)


class Process:
    """What one process has: a provider of its own, and what it has exported."""

    def __init__(self):
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.telemetry = OpenTelemetry(self.provider, MeterProvider([self.reader]))

    @property
    def spans(self):
        self.telemetry.flush()
        return {span.name: span for span in self.exporter.get_finished_spans()}

    @property
    def metrics(self):
        self.telemetry.flush()
        data = self.reader.get_metrics_data()
        return {
            metric.name: [
                (
                    dict(point.attributes),
                    getattr(point, "value", None) or getattr(point, "count", 0),
                )
                for point in metric.data.data_points
            ]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def parents(*processes):
    """Return who is inside whom, by name, over all processes."""
    spans = [span for process in processes for span in process.exporter.get_finished_spans()]
    names = {span.context.span_id: span.name for span in spans}
    return {
        span.name: None if span.parent is None else names.get(span.parent.span_id) for span in spans
    }


def names_of(process):
    """Return the names of the spans that are written already."""
    return {span.name for span in process.exporter.get_finished_spans()}


async def test_spans_are_inside_each_other_across_processes():
    shop, workflows, activities = Process(), Process(), Process()
    store = MemoryBackend()
    async with (
        open_worker(store, registry=flows, activities=False, observers=[workflows.telemetry]),
        open_worker(store, registry=flows, workflows=False, observers=[activities.telemetry]),
        open_client(store, observers=[shop.telemetry]) as client,
    ):
        with shop.provider.get_tracer("shop").start_as_current_span("checkout"):
            handle = await client.start(order.options(id="o1"), 3)
        await handle.signal(go, 4)
        assert await handle.result() == 7
    await store.aclose()
    assert parents(shop, workflows, activities) == {
        "checkout": None,
        "start order": "checkout",
        "order": "checkout",
        "paying": "order",
        "part": "paying",
        "charge": "part",
        "call the bank": "charge",
        "signal go": "order",
        "side effect": "order",
    }
    every = [*shop.spans.values(), *workflows.spans.values(), *activities.spans.values()]
    assert len({span.context.trace_id for span in every}) == 1
    whole, charged = workflows.spans["order"], activities.spans["charge"]
    assert whole.kind is SpanKind.CONSUMER
    assert whole.attributes["trioflow.instance"] == "o1"
    assert whole.attributes["trioflow.status"] == "completed"
    assert whole.start_time <= charged.start_time <= charged.end_time <= whole.end_time
    paying = workflows.spans["paying"]
    assert dict(paying.attributes) == {"amount": 3, "paid": 3}
    assert [event.name for event in paying.events] == ["paid"]


async def test_calls_of_clients_are_spans_if_it_is_asked_for():
    process = Process()
    calls = ClientSpans(process.provider)
    async with open_worker(
        "memory://", registry=flows, observers=[process.telemetry], interceptors=[calls]
    ) as worker:
        with process.provider.get_tracer("shop").start_as_current_span("checkout"):
            handle = await worker.client.start(order.options(id="o1"), 3)
            await handle.signal(go, 4)
        assert await handle.result() == 7
        with pytest.raises(InstanceFinished):
            await handle.signal(go, 5)
        await worker.client.count()
    process.telemetry.flush()
    spans = {span.name: span for span in process.exporter.get_finished_spans()}
    inside = parents(process)
    assert {name: inside[name] for name in inside if name.startswith("client.")} == {
        "client.start": "checkout",
        "client.signal": None,  # the second one
        "client.result": None,
        "client.count": None,
    }
    assert (inside["start order"], inside["order"]) == ("client.start", "client.start")
    refused = spans["client.signal"]
    assert refused.kind is SpanKind.CLIENT
    assert refused.attributes["trioflow.instance"] == "o1"
    assert (refused.status.status_code, refused.events[0].name) == (StatusCode.ERROR, "exception")
    assert not spans["client.count"].attributes
    ended = [span for span in process.exporter.get_finished_spans() if span.name == refused.name]
    assert ended[0].parent.span_id == spans["checkout"].context.span_id


async def test_a_replay_writes_nothing_twice():
    one, two = Process(), Process()
    store = MemoryBackend()
    async with open_worker(store, registry=flows, observers=[one.telemetry]) as worker:
        await worker.client.start(order.options(id="o1"), 3)
        while "paying" not in one.spans:
            await trio.sleep(0)
    async with open_worker(store, registry=flows, observers=[two.telemetry]) as worker:
        await worker.client.handle("o1").signal(go, 4)
        assert await worker.client.handle("o1").result() == 7
    await store.aclose()
    assert set(one.spans) == {"start order", "paying", "part", "charge", "call the bank"}
    assert set(two.spans) == {"order", "signal go", "side effect"}
    assert parents(one, two)["paying"] == "order"
    assert parents(one, two)["order"] is None
    assert two.spans["order"].start_time <= one.spans["paying"].start_time


async def test_failures_and_retries_and_continued_executions():
    process = Process()
    async with open_worker("memory://", registry=flows, observers=[process.telemetry]) as worker:
        with pytest.raises(ValueError, match="below zero"):
            await worker.client.run(part, -1)
        await worker.client.run(twice, True)
    spans = process.exporter.get_finished_spans()
    first, second = (span for span in spans if span.name == "charge")
    assert [span.attributes["trioflow.status"] for span in (first, second)] == ["retried", "failed"]
    assert first.context.span_id != second.context.span_id
    failed = process.spans["part"]
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description == "ValueError: below zero"
    assert failed.events[0].name == "exception"
    assert "charge" in failed.events[0].attributes["exception.stacktrace"]
    before, after = (span for span in spans if span.name == "twice")
    assert before.attributes["trioflow.status"] == "continued"
    assert [link.context.span_id for link in after.links] == [before.context.span_id]


async def test_metrics():
    process = Process()
    async with open_worker("memory://", registry=flows, observers=[process.telemetry]) as worker:
        handle = await worker.client.start(order, 3)
        await handle.signal(go, 4)
        await handle.result()
        with pytest.raises(ValueError, match="below zero"):
            await worker.client.run(part, -1)
        await worker.client.start(order.options(queue="other"), 3)
        assert "trioflow.queue.running" not in process.metrics
        for _ in range(2):
            process.telemetry.set_backlog(await worker.client.stats())
        name = worker.name
    metrics = process.metrics
    created = {"workflow": "part", "subworkflow": "true"}
    assert (created, 1) in metrics["trioflow.workflow.created"]
    done = {"workflow": "part", "status": "failed", "subworkflow": "false"}
    assert (done, 1) in metrics["trioflow.workflow.finished"]
    attempts = metrics["trioflow.activity.task.processed"]
    for status in ("retried", "failed"):
        assert ({"activity": "charge", "status": status}, 1) in attempts
    assert ({"activity": "charge"}, 2) in metrics["trioflow.activity.task.time_in_queue"]
    assert metrics["trioflow.commit.duration"][0][1] > 0
    assert metrics["trioflow.workflow.task.processed"][0][1] >= 3
    assert ({"queue": "other"}, 1) in metrics["trioflow.queue.pending_instances"]
    ((_, age),) = metrics["trioflow.queue.oldest_instance"]
    assert age > 0
    assert ({"workflow": "part"}, 1) in metrics["trioflow.cache.hits"]
    assert ({"workflow": "part"}, 1) in metrics["trioflow.workflow.task.time_in_queue"]
    assert [labels for labels, _ in metrics["trioflow.worker.instances"]] == [{"worker": name}]
    process.telemetry.set_backlog([])
    assert "trioflow.queue.pending_instances" not in process.metrics


async def test_without_an_observer_a_workflows_spans_go_nowhere():
    async with open_worker("memory://", registry=flows) as worker:
        handle = await worker.client.start(order, 3)
        await handle.signal(go, 4)
        assert await handle.result() == 7


async def test_the_api_alone_suffices():
    telemetry = OpenTelemetry(trace.NoOpTracerProvider())
    async with open_worker("memory://", registry=flows, observers=[telemetry]) as worker:
        assert await worker.client.run(part, 3) == 3


async def test_a_span_waits_for_its_own_turn_however_late_spans_are_written(monkeypatch):
    monkeypatch.setattr(_recording, "_GATHERING", 60.0)

    @flows.workflow(name="steps")
    async def steps() -> None:
        for step in ("one", "two"):
            with tracer().start_as_current_span(step):
                await charge(1)

    process = Process()
    kept = process.telemetry._unstored
    async with open_worker("memory://", registry=flows, observers=[process.telemetry]) as worker:
        await worker.client.run(steps)
        assert names_of(process) == {"call the bank"}
        ((key, ended),) = kept.items()
        # The turn that has ended "two" was not stored, as far as this is told.
        process.telemetry._write_ended(key, min(turn for turn, _ in ended.values()))
        assert names_of(process) == {"call the bank", "one"}
    assert parents(process)["two"] == "steps"
    assert not kept


async def test_nothing_is_kept_of_an_execution_that_only_waits():
    process = Process()
    async with open_worker("memory://", registry=flows, observers=[process.telemetry]) as worker:
        handle = await worker.client.start(order, 3)
        while (await handle.describe()).turns < 2:
            await trio.lowlevel.checkpoint()
        while "paying" not in process.spans:
            await trio.lowlevel.checkpoint()
        assert process.telemetry._unstored == {}
        await handle.terminate()


def test_a_span_of_a_turn_that_is_made_again_is_written_once():
    process = Process()
    telemetry, key = process.telemetry, ("life", 1)
    one, two, again = (span("one", 1), span("two", 2), span("one", 1))
    for turn, each in [(3, one), (4, two), (3, again), (4, two)]:
        telemetry._keep_span(key, turn, each)
    telemetry._write_ended(key, 3)
    telemetry._write_ended(key, 4)
    assert [each.name for each in process.exporter.get_finished_spans()] == ["one", "two"]
    assert telemetry._unstored == {}


def span(name, id):
    """Return a span of that id."""
    return Span(
        name, SpanContext(1, id, is_remote=False, trace_flags=TraceFlags(1)), None, 1.0, 2.0
    )


async def test_the_span_is_known_where_user_code_runs_though_nothing_is_written_yet(monkeypatch):
    monkeypatch.setattr(_recording, "_GATHERING", 60.0)
    seen = []
    registry = Registry()

    @registry.activity
    async def look() -> None:
        seen.append(trace.get_current_span().get_span_context())

    @registry.workflow
    async def looks() -> None:
        seen.append(trace.get_current_span().get_span_context())
        await look()

    process = Process()
    async with open_worker("memory://", registry=registry, observers=[process.telemetry]) as worker:
        await worker.client.run(looks)
        assert not process.exporter.get_finished_spans()
    written = [process.spans[name].context for name in ("looks", "look")]
    assert [(each.trace_id, each.span_id) for each in seen] == [
        (each.trace_id, each.span_id) for each in written
    ]


async def test_an_exporter_that_fails_is_named_once_and_metrics_go_on(caplog):
    class Failing(SpanProcessor):
        def on_start(self, span, parent_context=None):
            if span.name == "part":
                raise OSError("no disk")

    process = Process()
    process.provider.add_span_processor(Failing())
    async with open_worker("memory://", registry=flows, observers=[process.telemetry]) as worker:
        for _ in range(3):
            await worker.client.run(part, 1)
    errors = [each for each in caplog.records if "failed to record" in each.getMessage()]
    assert len(errors) == 1
    done = {"workflow": "part", "status": "completed", "subworkflow": "false"}
    assert (done, 3) in process.metrics["trioflow.workflow.finished"]


def test_a_traceparent_is_read_as_the_w3c_says():
    given = [
        "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "00-" + "0" * 32 + "-" + "2" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "2" * 16 + "-00",
        "00-" + "1" * 32 + "-" + "2" * 16 + "-ff",
        "01-" + "1" * 32 + "-" + "2" * 16 + "-01-more",
        "ff-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "nonsense",
    ]
    for traceparent in given:
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())
        theirs = trace.get_current_span(context).get_span_context()
        ours = parent_in({"traceparent": traceparent})
        assert ours == (theirs if theirs.is_valid else None), traceparent


def test_spans_are_written_though_metrics_cannot_be(caplog):
    def broken(key):
        raise OSError("no meter")

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    otel = OpenTelemetry(provider)
    otel._recorder = broken
    about = {"life": "1" * 32, "workflow": "part", "queue": "q", "metadata": {}}
    otel.observe(InstanceCreated(instance="a", stored_at=1.0, **about))
    assert otel.flush()
    assert [span.name for span in exporter.get_finished_spans()] == ["start part"]
    assert "no meter" in caplog.text


FORKS = """
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12: there is a thread
from trioflow.otel import OpenTelemetry

otel = OpenTelemetry()
held, end = threading.Event(), threading.Event()

def hold():
    with otel._lock:
        held.set()
        end.wait()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if not child:
    os._exit(0 if otel._lock.acquire(timeout=30) else 1)
end.set()
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_does_not_wait_for_a_thread_that_it_has_not():
    done = subprocess.run([sys.executable, "-c", FORKS], check=False, timeout=50)
    assert done.returncode == 0
