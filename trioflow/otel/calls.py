"""Spans around the calls of clients."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from trioflow._model.interceptors import Call, Interceptor, Proceed
from trioflow.otel.spans import NAME

__all__ = ["ClientSpans"]


class ClientSpans(Interceptor):
    """Writes a span for each call of a client and of its handles, such as ``client.signal``.

    Give it to `open_client` or `open_worker` as one of their ``interceptors``. A span lasts as long
    as its call, and is inside the current span; what is started in it belongs to its trace. An
    exception of the call is recorded.

    Args:
        tracer_provider: Where spans go; by default the process' global one.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._provider = tracer_provider

    async def client(self, call: Call, proceed: Proceed) -> Any:
        """Make the call in a span."""
        tracer = trace.get_tracer(NAME, tracer_provider=self._provider)
        attributes = {} if call.instance is None else {"trioflow.instance": call.instance}
        with tracer.start_as_current_span(
            f"client.{call.name}", kind=SpanKind.CLIENT, attributes=attributes
        ):
            return await proceed()
