"""One order as a tree of OpenTelemetry's spans, printed when it is done.

    pip install 'trioflow[otel]' opentelemetry-sdk
    python examples/tracing.py

A real program gives its provider an exporter that sends spans to Jaeger, Tempo or a collector:
``OTLPSpanExporter`` of opentelemetry-exporter-otlp.
"""

from __future__ import annotations

from collections.abc import Iterator

import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trioflow import Registry, Signal, open_worker
from trioflow.otel import OpenTelemetry, tracer

flows = Registry()
approved = Signal("approved", bool)


@flows.activity
async def charge(order: str) -> str:
    with tracer().start_as_current_span("call the bank"):
        await trio.sleep(0.02)
    return f"receipt of {order}"


@flows.activity
async def pack(order: str) -> None:
    await trio.sleep(len(order) / 1000)


@flows.workflow
async def ship(order: str) -> None:
    await pack(order)


@flows.workflow
async def checkout(order: str) -> str:
    await approved.receive()
    with tracer().start_as_current_span("payment"):
        receipt = await charge(order)
    await ship(order)
    return receipt


def tree(
    spans: list[ReadableSpan], parent: ReadableSpan | None = None, depth: int = 0
) -> Iterator[str]:
    """Give the spans as lines, each below the one that it is inside of."""
    inside = [
        span
        for span in spans
        if (span.parent.span_id if span.parent else None)
        == (parent.context.span_id if parent else None)
    ]
    for span in sorted(inside, key=lambda span: (span.start_time or 0, span.name)):
        yield "  " * depth + span.name
        yield from tree(spans, span, depth + 1)


async def main() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = OpenTelemetry(provider)
    async with open_worker("memory://", registry=flows, observers=[telemetry]) as worker:
        with provider.get_tracer("shop").start_as_current_span("POST /orders"):
            handle = await worker.client.start(checkout, "order-7")
        await handle.signal(approved, True)
        await handle.result()
    print("\n".join(tree(list(exporter.get_finished_spans()))))


if __name__ == "__main__":
    trio.run(main)
