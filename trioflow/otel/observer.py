"""The observer: what happens, as spans and metrics."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from trioflow._codec.failures.failures import Failure
from trioflow._engine.reader import current_view_or_none
from trioflow._measures import (
    INSTRUMENTS,
    QUEUE_AGES,
    QUEUE_GAUGES,
    Key,
    measured,
    queue_values,
)
from trioflow._model.commands import RecordSideEffect, SendSignal
from trioflow._model.events import SignalReceived, UpdateRequested, Woken
from trioflow._model.info import current_activity
from trioflow._observe import (
    AttemptEnded,
    ExecutionEnded,
    InstanceCreated,
    Observation,
    TurnStored,
)
from trioflow._recording import BackgroundObserver
from trioflow.otel.spans import (
    NAME,
    ChosenIds,
    Span,
    execution_span,
    inject,
    inner_span,
    key_of,
    parent_in,
    root_span,
)
from trioflow.otel.tracer import WorkflowScope, attempt_tracer, workflow_scope

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions

    from trioflow.backends.records import QueueStats

__all__ = ["OpenTelemetry"]

_Write: TypeAlias = Callable[..., None]
_Record: TypeAlias = Callable[[float], None]


class OpenTelemetry(BackgroundObserver):
    """Writes spans and metrics of what workers and clients do.

    One object, given as an observer to `open_worker` and `open_client`, is enough for all of a
    process. Spans of workflows have the names of the workflows, those of attempts the names of the
    activities; a signal, an update, a timer and a side effect are spans of no length. They are
    written, and metrics recorded, in a thread of its own, a moment after something has happened.

    Args:
        tracer_provider: Where spans go; by default the process' global one.
        meter_provider: Where metrics go; by default the process' global one.
        limit: So many observations may wait to be written; further ones are dropped, and `dropped`
            says how many.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        *,
        limit: int = 50_000,
    ) -> None:
        super().__init__(limit)
        self._provider = tracer_provider
        self._tracer: Any = None
        self._attempt_tracer: trace.Tracer | None = None
        self._ids = ChosenIds()
        self._instruments = _instruments(meter_provider)
        self._records: dict[Key, _Record] = {}
        self._queues: Sequence[QueueStats] = ()
        self._measures_queues = False
        self._meters = meter_provider

    def _begin_anew(self) -> None:
        super()._begin_anew()
        # Of each execution by their ids, with the turn that has ended them.
        self._unstored: dict[tuple[str, int], dict[int, tuple[int, Span]]] = {}
        self._lock = threading.Lock()  # for those: workflows add to them, in other threads

    def __repr__(self) -> str:
        return "<OpenTelemetry>"

    # --- where spans belong -----------------------------------------------------------------

    inject = staticmethod(inject)

    def extract(self, metadata: Mapping[str, str], /) -> None:
        """Make the span of the workflow, or of the attempt, that begins here the current one."""
        activity = current_activity.get()
        view = current_view_or_none()
        if view is not None:
            identity = view.execution.identity
            inside = execution_span(identity.life or identity.id, identity.execution, metadata)
            execution = identity.life, identity.execution
            workflow_scope.set(WorkflowScope(self._keep_span, execution))
        elif activity is not None:
            of = activity.life or activity.instance
            key = f"{of}/{activity.execution}/{activity.command}/{activity.attempt}"  # as `key_of`
            inside = inner_span(parent_in(metadata), key)
            attempt_tracer.set(self._attempt_tracer or self._make_attempt_tracer())
        else:
            return
        otel_context.attach(trace.set_span_in_context(NonRecordingSpan(inside)))

    # --- what happens -----------------------------------------------------------------------

    def _record(self, items: list[Observation], dropped: int) -> None:
        try:
            measured(items, dropped).write(self._recorder)
        except Exception as exc:  # noqa: BLE001 - the spans are written all the same
            self._name_failure(exc)
        for item in items:
            self._write_about(item)

    def _recorder(self, key: Key) -> _Record:
        record = self._records.get(key)
        if record is None:
            name, values = key
            write, labels = self._instruments[name]
            record = partial(write, attributes=dict(zip(labels, values, strict=True)))
            self._records[key] = record
        return record

    def _write_about(self, item: Observation) -> None:
        """Write the spans that something means. What fails is named in the log, once."""
        try:
            match item:
                case TurnStored():
                    self._turn(item)
                case AttemptEnded():
                    self._attempt(item)
                case ExecutionEnded():
                    self._execution(item)
                case InstanceCreated():
                    self._created(item)
                case _:
                    pass
        except Exception as exc:  # noqa: BLE001 - what follows is written all the same
            self._name_failure(exc)

    def set_backlog(self, queues: Sequence[QueueStats]) -> None:
        """Take over what ``client.stats()`` gives: the work that waits in each queue, and workers.

        That is the same for all workers of a store, so let one process do it, every minute say.
        """
        self._queues = queues
        if not self._measures_queues:
            self._measures_queues = True
            meter = metrics.get_meter(NAME, meter_provider=self._meters)
            for name, meaning in {**QUEUE_GAUGES, **QUEUE_AGES}.items():
                unit = "s" if name in QUEUE_AGES else "1"
                asked = [self._asked(name)]
                meter.create_observable_gauge(f"trioflow.queue.{name}", asked, unit, meaning)

    def _asked(self, name: str) -> Callable[[CallbackOptions], Iterator[metrics.Observation]]:
        def observed(_: CallbackOptions) -> Iterator[metrics.Observation]:
            now = time.time()
            for queue in self._queues:
                value = dict(queue_values(queue, now))[name]
                yield metrics.Observation(value, {"queue": queue.queue})

        return observed

    def _execution(self, ended: ExecutionEnded) -> None:
        life = ended.life or ended.instance
        links: list[Link] = []
        if ended.execution > 1:
            links = [Link(execution_span(life, ended.execution - 1, ended.metadata))]
        self._write(
            Span(
                ended.workflow,
                execution_span(life, ended.execution, ended.metadata),
                parent_in(ended.metadata),
                ended.started_at,
                ended.ended_at,
                kind=SpanKind.CONSUMER,
                attributes={
                    "trioflow.instance": ended.instance,
                    "trioflow.execution": ended.execution,
                    "trioflow.queue": ended.queue,
                    "trioflow.status": ended.status,
                },
                links=links,
                failure=ended.failure,
            )
        )
        with self._lock:
            self._unstored.pop((ended.life, ended.execution), None)

    def _attempt(self, ended: AttemptEnded) -> None:
        parent = parent_in(ended.metadata)
        of = ended.life or ended.instance, ended.execution, ended.command
        self._write(
            Span(
                ended.activity,
                inner_span(parent, key_of(*of, ended.attempt)),
                parent,
                ended.began_at,
                ended.ended_at,
                kind=SpanKind.CONSUMER,
                attributes={
                    "trioflow.instance": ended.instance,
                    "trioflow.command": ended.command,
                    "trioflow.attempt": ended.attempt,
                    "trioflow.queue": ended.queue,
                    "trioflow.status": ended.status,
                },
                failure=ended.failure,
            )
        )

    def _created(self, created: InstanceCreated) -> None:
        parent = parent_in(created.metadata)
        key = key_of(created.life, "created")
        inside = inner_span(parent, key) if parent else root_span(created.life, key)
        attributes = {"trioflow.instance": created.instance, "trioflow.queue": created.queue}
        self._write(
            Span(
                f"start {created.workflow}",
                inside,
                parent,
                created.stored_at,
                created.stored_at,
                kind=SpanKind.PRODUCER,
                attributes=attributes,
            )
        )

    def _turn(self, stored: TurnStored) -> None:
        life, at = stored.life or stored.instance, stored.turn.now
        names: list[str] = []
        for event in stored.turn.events:
            match event:
                case SignalReceived():
                    names.append(f"signal {event.name}")
                case UpdateRequested():
                    names.append(f"update {event.name}")
                case Woken():
                    names.append("timer")
                case _:
                    pass
        for command in stored.turn.commands:
            match command:
                case SendSignal():
                    names.append(f"send signal {command.name}")
                case RecordSideEffect():
                    names.append("side effect")
                case _:
                    pass
        parent = execution_span(life, stored.execution, stored.metadata) if names else None
        for number, name in enumerate(names):
            key = key_of(life, stored.execution, f"turn {stored.number}", number)
            attributes: dict[str, AttributeValue] = {
                "trioflow.instance": stored.instance,
                "trioflow.turn": stored.number,
            }
            self._write(Span(name, inner_span(parent, key), parent, at, at, attributes=attributes))

        self._write_ended((stored.life, stored.execution), stored.number)

    def _keep_span(self, key: tuple[str, int], turn: int, span: Span) -> None:
        """Write a span that a workflow has ended, once the turn that did it is stored."""
        with self._lock:  # once, if the turn is made again
            self._unstored.setdefault(key, {})[span.context.span_id] = turn, span

    def _write_ended(self, key: tuple[str, int], turn: int) -> None:
        """Write the spans of an execution that turns up to this one have ended."""
        if key not in self._unstored:
            return
        with self._lock:
            kept = self._unstored.pop(key)
            left = {id: of for id, of in kept.items() if of[0] > turn}
            if left:
                self._unstored[key] = left
        for at, span in kept.values():
            if at <= turn:
                self._write(span)

    def _make_attempt_tracer(self) -> trace.Tracer:
        self._attempt_tracer = made = self._tracer_provider().get_tracer(NAME)
        return made

    def _tracer_provider(self) -> trace.TracerProvider:
        return self._provider or trace.get_tracer_provider()

    def _write(self, span: Span) -> None:
        if self._tracer is None:
            self._tracer = copy.copy(self._tracer_provider().get_tracer(NAME))
            if hasattr(self._tracer, "id_generator"):  # that of the SDK; the API alone writes none
                self._tracer.id_generator = self._ids
        parent = span.parent
        context = otel_context.Context()
        if parent is not None:
            context = trace.set_span_in_context(NonRecordingSpan(parent), context)
        self._ids.chosen = span.context  # `_record` is called by one thread at a time
        written = self._tracer.start_span(
            span.name,
            context=context,
            kind=span.kind,
            attributes=span.attributes,
            links=span.links,
            start_time=_nanoseconds(span.began_at),
        )
        for name, attributes, at in span.events:
            written.add_event(name, attributes, timestamp=_nanoseconds(at))
        if span.failure is not None:
            _add_failure(written, span.failure, span.ended_at)
        elif span.status is not None:
            written.set_status(span.status)
        written.end(end_time=_nanoseconds(span.ended_at))


def _add_failure(written: trace.Span, failure: Failure, at: float) -> None:
    said = f"{failure.type}: {failure.message}" if failure.message else failure.type
    written.set_status(Status(StatusCode.ERROR, said))
    attributes = {
        "exception.type": failure.type,
        "exception.message": failure.message,
        "exception.stacktrace": failure.traceback,
    }
    written.add_event("exception", attributes, timestamp=_nanoseconds(at))


def _instruments(
    provider: metrics.MeterProvider | None,
) -> dict[str, tuple[_Write, tuple[str, ...]]]:
    """Return what takes the values of each metric, and the names of its labels."""
    meter = metrics.get_meter(NAME, meter_provider=provider)
    made: dict[str, tuple[_Write, tuple[str, ...]]] = {}
    for name, each in INSTRUMENTS.items():
        full = f"trioflow.{name}"
        write: _Write
        if each.kind == "histogram":
            write = meter.create_histogram(
                full, each.unit, each.meaning, explicit_bucket_boundaries_advisory=each.buckets
            ).record
        elif each.kind == "gauge":
            write = meter.create_gauge(full, each.unit, each.meaning).set
        else:
            write = meter.create_counter(full, each.unit, each.meaning).add
        made[name] = write, each.labels
    return made


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
