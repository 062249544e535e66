"""Spans that are written after what they stand for has ended, and their ids.

An id is a digest of what the span stands for. So whoever has a part in an execution knows its span
before that is written, in whatever process.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes, AttributeValue

from trioflow._codec.failures.failures import Failure

__all__ = [
    "NAME",
    "ChosenIds",
    "Span",
    "execution_span",
    "inject",
    "inner_span",
    "key_of",
    "parent_in",
    "root_span",
]

NAME = "trioflow"
_W3C = TraceContextTextMapPropagator()

_OURS = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")  # as `inject` writes it
_SAMPLED = trace.TraceFlags(trace.TraceFlags.SAMPLED)


_NO_STATE = trace.INVALID_SPAN_CONTEXT.trace_state


class ChosenIds:
    """Gives the SDK the ids that a span is to have."""

    def __init__(self) -> None:
        self.chosen = trace.INVALID_SPAN_CONTEXT

    def generate_span_id(self) -> int:
        """Give the span's."""
        return self.chosen.span_id

    def generate_trace_id(self) -> int:
        """Give the trace's."""
        return self.chosen.trace_id

    def is_trace_id_random(self) -> bool:
        """Say that it is not."""
        return False


def key_of(*parts: object) -> str:
    """Return what a span stands for as one text."""
    return "/".join(map(str, parts))


def _number(text: str, size: int) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=size).digest()
    return int.from_bytes(digest, "big") or 1  # 0 would be no id


def inject(metadata: dict[str, str], /) -> None:
    """Add the span that a call is made in to the call's metadata, as W3C's trace context says."""
    # It is a tuple; each of its properties would be a call.
    trace_id, span_id, _, flags, state, is_valid = trace.get_current_span().get_span_context()
    if not is_valid:
        return
    metadata["traceparent"] = f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"
    if state is not _NO_STATE and state:
        metadata["tracestate"] = state.to_header()


def parent_in(metadata: Mapping[str, str]) -> SpanContext | None:
    """Return the span that a call was made in, ``None`` if it was made in none."""
    traceparent = metadata.get("traceparent")
    return None if traceparent is None else _parent(traceparent, metadata.get("tracestate"))


# The same few are asked for again and again: for each turn, each activity and the end.
@lru_cache(maxsize=4096)
def _parent(traceparent: str, tracestate: str | None) -> SpanContext | None:
    if tracestate is None and _OURS.fullmatch(traceparent):  # W3C's own takes many calls
        flags = trace.TraceFlags(int(traceparent[53:], 16))
        ids = int(traceparent[3:35], 16), int(traceparent[36:52], 16)
        ours = SpanContext(*ids, is_remote=True, trace_flags=flags)
        return ours if ours.is_valid else None
    carrier = {"traceparent": traceparent}
    if tracestate is not None:
        carrier["tracestate"] = tracestate
    context = _W3C.extract(carrier, otel_context.Context())
    found = trace.get_current_span(context).get_span_context()
    return found if found.is_valid else None


def root_span(life: str, key: str) -> SpanContext:
    """Return the span of that key in a trace of its own, that of a life of an instance."""
    return SpanContext(_number(life, 16), _number(key, 8), is_remote=True, trace_flags=_SAMPLED)


def inner_span(parent: SpanContext | None, key: str) -> SpanContext:
    """Return the span of that key in the trace of its parent."""
    if parent is None:
        return root_span(key, key)
    trace_id, _, _, flags, state, _ = parent
    return SpanContext(
        trace_id, _number(key, 8), is_remote=True, trace_flags=flags, trace_state=state
    )


def execution_span(life: str, execution: int, metadata: Mapping[str, str]) -> SpanContext:
    """Return the span of an execution; that of who started it is in the metadata, if there is."""
    state = metadata.get("tracestate")
    return _execution(life, execution, metadata.get("traceparent"), state)


@lru_cache(maxsize=4096)
def _execution(
    life: str, execution: int, traceparent: str | None, tracestate: str | None
) -> SpanContext:
    parent = None if traceparent is None else _parent(traceparent, tracestate)
    key = f"{life}/{execution}"  # as `key_of`
    return root_span(life, key) if parent is None else inner_span(parent, key)


class Span(NonRecordingSpan):
    """A span that is written later: what is known of it."""

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        began_at: float,
        ended_at: float,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, AttributeValue] | None = None,
        links: Sequence[Link] = (),
        failure: Failure | None = None,
    ) -> None:
        super().__init__(context)
        self.name = name
        self.context = context
        self.parent = parent
        self.began_at = began_at
        self.ended_at = ended_at
        self.kind = kind
        self.attributes: dict[str, AttributeValue] = dict(attributes or {})
        self.links = links
        self.failure = failure
        self.status: Status | None = None
        self.events: list[tuple[str, Attributes, float]] = []
