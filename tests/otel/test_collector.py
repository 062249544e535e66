"""Spans in a real collector, over OTLP: what it has received is the tree that the docs show.

It needs a program of the OpenTelemetry Collector with ``otlp`` and ``file``, which
``TRIOFLOW_TEST_OTELCOL`` names, and the package ``opentelemetry-exporter-otlp-proto-http``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from contextlib import contextmanager

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from examples.tracing import approved, checkout, flows
from trioflow import open_worker
from trioflow.otel import OpenTelemetry

PROGRAM = os.environ.get("TRIOFLOW_TEST_OTELCOL")

pytestmark = pytest.mark.skipif(not PROGRAM, reason="TRIOFLOW_TEST_OTELCOL names no collector")


@contextmanager
def collector(folder):
    """Start one; give the address for spans, and the file into which it writes them."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    file = folder / "spans.json"
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": address}}}},
        "exporters": {"file": {"path": str(file)}},
        "service": {
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # which is YAML, too
    with subprocess.Popen([PROGRAM, "--config", f"file:{folder / 'config.yaml'}"]) as process:
        try:
            yield f"http://{address}/v1/traces", file
        finally:
            process.terminate()


def received(file):
    """Return all spans in a file of the collector's."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        span
        for line in lines
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


async def test_a_collector_has_the_tree_of_the_docs(tmp_path):
    otlp = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    with collector(tmp_path) as (url, file):
        provider = TracerProvider()
        # It tries again until the collector listens.
        provider.add_span_processor(BatchSpanProcessor(otlp.OTLPSpanExporter(url, timeout=30)))
        telemetry = OpenTelemetry(provider)
        async with open_worker("memory://", registry=flows, observers=[telemetry]) as worker:
            with provider.get_tracer("shop").start_as_current_span("POST /orders"):
                handle = await worker.client.start(checkout, "order-7")
            await handle.signal(approved, True)
            await handle.result()
        provider.shutdown()
        with trio.fail_after(30):
            while not file.exists() or len(received(file)) < 9:
                await trio.sleep(0.05)
    spans = received(file)
    names = {span["spanId"]: span["name"] for span in spans}
    assert {span["name"]: names.get(span.get("parentSpanId")) for span in spans} == {
        "POST /orders": None,
        "checkout": "POST /orders",
        "payment": "checkout",
        "charge": "payment",
        "call the bank": "charge",
        "signal approved": "checkout",
        "ship": "checkout",
        "pack": "ship",
        "start checkout": "POST /orders",
    }
    assert len(spans) == 9
    assert len({span["traceId"] for span in spans}) == 1
