"""Traces and metrics through OpenTelemetry: ``open_worker(…, observers=[OpenTelemetry()])``.

Needs the extra ``otel``, which is ``opentelemetry-api`` alone; a program that wants its spans
somewhere sets up the SDK and an exporter, as it does for everything else.

A span of an execution, or of an attempt of an activity, is written when that has ended, and not
before. Its id is made from what it stands for, so that every process knows it in advance: what runs
inside has it as the parent, wherever that runs, and nothing is written twice for one thing.
"""

from __future__ import annotations

from trioflow._metadata import fixup_module_metadata
from trioflow.otel.calls import ClientSpans
from trioflow.otel.observer import OpenTelemetry
from trioflow.otel.tracer import tracer

__all__ = ["ClientSpans", "OpenTelemetry", "tracer"]

fixup_module_metadata(__name__, {name: globals()[name] for name in __all__})
del fixup_module_metadata
