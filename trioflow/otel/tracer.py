"""Spans that workflows open themselves."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue

from trioflow._codec.failures.failures import Failure
from trioflow._engine.reader import View, current_view_or_none
from trioflow.otel.spans import NAME, Span, inner_span, key_of

__all__ = ["WorkflowScope", "attempt_tracer", "tracer", "workflow_scope"]


class WorkflowScope:
    """Counts the spans of an execution, so that they have the same ids on each replay."""

    def __init__(
        self, keep: Callable[[tuple[str, int], int, Span], None], key: tuple[str, int]
    ) -> None:
        self.keep = keep
        self.key = key
        self.spans = 0


workflow_scope: ContextVar[WorkflowScope | None] = ContextVar("trioflow_otel", default=None)

attempt_tracer: ContextVar[trace.Tracer | None] = ContextVar("trioflow_otel_tracer", default=None)


class _WorkflowSpan(Span):
    """A span that a workflow has opened. What it is told counts by the workflow's clock."""

    def __init__(self, scope: WorkflowScope, view: View, name: str, attributes: Attributes) -> None:
        parent = trace.get_current_span().get_span_context()
        key = key_of(*scope.key, "span", scope.spans)
        scope.spans += 1
        now = view.execution.now
        super().__init__(name, inner_span(parent, key), parent, now, now, attributes=attributes)
        self._scope = scope
        self._view = view

    def is_recording(self) -> bool:
        return True

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self.attributes.update(attributes)

    def add_event(
        self, name: str, attributes: Attributes = None, timestamp: int | None = None
    ) -> None:
        at = self._view.execution.now if timestamp is None else timestamp / 1e9
        self.events.append((name, attributes, at))

    def update_name(self, name: str) -> None:
        self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self.status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 - the API's own
    ) -> None:
        self.failure = Failure.of(exception)

    def end(self, end_time: int | None = None) -> None:
        execution = self._view.execution
        if self._view.replaying or execution.loop.fenced:
            return  # it was written when it happened, or only unwinds
        self.ended_at = execution.now
        self._scope.keep(self._scope.key, execution.turns, self)


class _WorkflowTracer(trace.Tracer):
    """Opens spans in a workflow."""

    def __init__(self, scope: WorkflowScope, view: View) -> None:
        self._scope = scope
        self._view = view

    def start_span(
        self, name: str, *_: Any, attributes: Attributes = None, **__: Any
    ) -> trace.Span:
        """Open a span inside the current one; whoever does it ends it."""
        return _WorkflowSpan(self._scope, self._view, name, attributes)

    @contextmanager
    def start_as_current_span(  # type: ignore[override]  # the API's decorator is private
        self, name: str, *_: Any, attributes: Attributes = None, **__: Any
    ) -> Generator[trace.Span]:
        """Open a span for the length of a block, and make it the current one."""
        span = self.start_span(name, attributes=attributes)
        token = otel_context.attach(trace.set_span_in_context(span))
        try:
            yield span
        except Exception as exc:
            span.record_exception(exc)
            raise
        finally:
            otel_context.detach(token)
            span.end()


def tracer() -> trace.Tracer:
    """Return a tracer; the spans of a workflow are written once, and not again on replay.

    A workflow's span begins and ends by the workflow's clock, and is written when the turn in which
    it has ended is stored. What is called in it is inside of it. Outside of a workflow this is the
    process' own tracer; in an attempt of an activity its spans are inside that of the attempt.
    Where no `OpenTelemetry` observes the worker, a workflow's spans go nowhere.
    """
    view = current_view_or_none()
    if view is None:
        return attempt_tracer.get() or trace.get_tracer(NAME)
    scope = workflow_scope.get()
    return trace.NoOpTracer() if scope is None else _WorkflowTracer(scope, view)
