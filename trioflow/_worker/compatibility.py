"""Whether the present code fits the instances that are under way: their histories are replayed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import anyio.lowlevel
import msgspec

from trioflow._client import Client
from trioflow._codec.values import Codec
from trioflow._engine import guard
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.strict import StrictExecution
from trioflow._engine.suspension import NeedsSuspension, undecodable, unreadable_turn
from trioflow._model.events import Started
from trioflow._model.ids import MAIN_TASK
from trioflow._model.info import Identity, SuspendReport
from trioflow._model.interceptors import Interceptor, those_around
from trioflow._model.options import check_count
from trioflow._model.propagation import Propagator
from trioflow._model.turns import Turn, decode_turn
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry, default_registry, known_workflows
from trioflow.backends.abc import Backend
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import InstanceRecord, Status
from trioflow.errors import InstanceNotFound

__all__ = [
    "Compatibility",
    "HistoryCheck",
    "Misfit",
    "check_code",
    "check_compatibility",
    "loaded",
    "records_under_way",
]

_PAGE = 500  # rows that are listed at once
_LOADED = 20  # histories that are in memory at once
_SHOWN = 20  # misfits in a message


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """An instance whose history the present code does not replay.

    Attributes:
        instance: Its id.
        workflow: The name of its workflow.
        execution: Which execution, from 1.
        life: What tells it from other instances that had or will have its id.
        report: What differs, and where; ``report.patch`` is the name of a patch to add.
    """

    instance: str
    workflow: str
    execution: int
    life: str
    report: SuspendReport

    def __str__(self) -> str:
        return f"{self.instance!r} ({self.workflow}): {self.report.message}"


class Compatibility(msgspec.Struct, kw_only=True):
    """What `check_compatibility` has found.

    Attributes:
        checked: How many instances were looked at.
        changed: How many of them began with other source of their workflow than there is now.
        diverging: Those that the present code would not continue.
        differing: Those that it continues, though it now passes other arguments, ids of
            sub-workflows or queues, which depends on something that is not in the history or was
            meant so.
        unknown: How many instances there are of workflows that are not in the registry, by name.
    """

    checked: int = 0
    changed: int = 0
    diverging: list[Misfit] = []
    differing: list[Misfit] = []
    unknown: dict[str, int] = {}

    @property
    def ok(self) -> bool:
        """Whether the present code continues all of them."""
        return not self.diverging

    def __str__(self) -> str:
        first = (
            f"{self.checked} instance{'s were' if self.checked != 1 else ' was'} checked: "
            f"{len(self.diverging)} {'does' if len(self.diverging) == 1 else 'do'} not fit the "
            f"present code, {len(self.differing)} would only pass other data"
        )
        lines = [first]
        lines += [f"- {misfit}" for misfit in self.diverging[:_SHOWN]]
        left = max(0, _SHOWN - len(self.diverging))
        lines += [f"- only other data: {misfit}" for misfit in self.differing[:left]]
        more = len(self.diverging) + len(self.differing) - _SHOWN
        if more > 0:
            lines.append(f"- and {more} more")
        lines += [
            f"- workflow {name!r} is not registered here: {count} instances were not checked"
            for name, count in sorted(self.unknown.items())
        ]
        return "\n".join(lines)


async def check_compatibility(
    client: Client,
    registry: Registry | None = None,
    *,
    sample: int | None = None,
    suspended: bool = False,
) -> Compatibility:
    """Replay the instances that are under way with the code of this process, and change nothing.

    No worker has to be stopped for it. It takes as long as the replay of each history.

    Args:
        client: On the store that has them. Its codec, its propagators and its
            interceptors are used.
        registry: The definitions; by default all that were decorated in this process.
        sample: How many instances of each workflow are looked at, drawn at random; by default all.
        suspended: Whether suspended instances are looked at as well: whether a resume would help.

    Returns:
        Which instances diverge and where.

    Raises:
        BackendUnavailable: The store cannot be reached.
        ValueError: ``sample`` is below 1.
    """
    if sample is not None:
        check_count("sample", sample, 1)
    statuses: tuple[Status, ...] = ("running", "suspended") if suspended else ("running",)
    return await check_code(
        client.backend,
        registry or default_registry,
        client.codec,
        statuses,
        sample=sample,
        propagators=client.propagators,
        interceptors=those_around(client.interceptors, "workflow"),
    )


async def check_code(
    backend: Backend,
    registry: Registry,
    codec: Codec,
    statuses: tuple[Status, ...] = ("running",),
    *,
    queues: Collection[str] | None = None,
    sample: int | None = None,
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
) -> Compatibility:
    """Do what `check_compatibility` does, of some queues alone if they are given."""
    found = Compatibility()
    known = known_workflows(registry)
    of_workflow = await records_under_way(
        backend, statuses, known=known, queues=queues, sample=sample
    )
    for name, drawn in of_workflow.items():
        workflow = known.get(name)
        if workflow is None:
            found.unknown[name] = drawn.seen
            continue
        check = HistoryCheck(workflow, codec, propagators, interceptors, found)
        async for record, turns in loaded(backend, drawn.records):
            check.look_at(_identity_of(record), turns, record.input)
            await anyio.lowlevel.checkpoint()
    return found


class Drawn(msgspec.Struct):
    """Some of the instances of a workflow, and how many there are."""

    records: list[InstanceRecord] = []
    seen: int = 0


async def records_under_way(
    backend: Backend,
    statuses: tuple[Status, ...],
    *,
    known: Collection[str] | None = None,
    queues: Collection[str] | None = None,
    sample: int | None = None,
) -> dict[str, Drawn]:
    """Return the instances of each workflow, or so many of them, drawn at random.

    Args:
        backend: The store.
        statuses: Of which statuses.
        known: The names of workflows; instances of others are counted only.
        queues: Only those of these queues.
        sample: How many of each workflow; by default all.
    """
    of_workflow: dict[str, Drawn] = {}
    chance = random.Random(0)  # noqa: S311  # not for secrets; the same store gives the same sample
    async for record in _records(backend, InstanceFilter(status=statuses)):
        if queues is not None and record.queue not in queues:
            continue
        drawn = of_workflow.setdefault(record.workflow, Drawn())
        drawn.seen += 1
        if known is not None and record.workflow not in known:
            continue
        if sample is None or len(drawn.records) < sample:
            drawn.records.append(record)
        elif (place := chance.randrange(drawn.seen)) < sample:
            drawn.records[place] = record
    return of_workflow


async def loaded(
    backend: Backend, records: Sequence[InstanceRecord]
) -> AsyncIterator[tuple[InstanceRecord, Sequence[bytes]]]:
    """Load the present executions of instances, some at once."""
    for first in range(0, len(records), _LOADED):
        some = records[first : first + _LOADED]
        stored = await backend.load([(record.id, record.execution) for record in some])
        for record, turns in zip(some, stored, strict=True):
            yield record, turns


def _identity_of(record: InstanceRecord) -> Identity:
    """Return what the code of an instance's present execution knows itself by."""
    return Identity(record.id, record.execution, record.queue, record.priority, record.life)


async def _records(backend: Backend, where: InstanceFilter) -> AsyncIterator[InstanceRecord]:
    """List instances page by page, also while some of them are removed."""
    before: list[str] = []  # ids of the last page
    while True:
        after = before[-1] if before else None
        try:
            page = await backend.list(where, limit=_PAGE, after=after)
        except InstanceNotFound:
            before.pop()  # removed meanwhile; from the one before it some come twice
            if not before:
                return
            continue
        for record in page:
            if record.id not in before:
                yield record
        if len(page) < _PAGE:
            return
        before = [record.id for record in page]


class HistoryCheck:
    """Looks at instances of one workflow.

    Args:
        workflow: As it is now.
        codec: For its values.
        propagators: For its metadata.
        interceptors: What is around it.
        found: What was found is added here.
    """

    def __init__(
        self,
        workflow: Workflow[..., Any],
        codec: Codec,
        propagators: Sequence[Propagator],
        interceptors: Sequence[Interceptor],
        found: Compatibility,
    ) -> None:
        guard.install()
        self._workflow = workflow
        self._codec = codec
        self._propagators = propagators
        self._interceptors = interceptors
        self._found = found

    def look_at(self, me: Identity, stored: Sequence[bytes], input: bytes) -> None:
        """Replay an instance's present execution; all that it has stored.

        Args:
            me: Whose execution it is.
            stored: Its turns.
            input: Its arguments, which are looked at if there is no turn; ``b""`` for none.
        """
        self._found.checked += 1
        try:
            turns = [decode_turn(data) for data in stored]
        except msgspec.MsgspecError as exc:
            unreadable = unreadable_turn(me.id, 0, str(exc))
            self._found.diverging.append(self._misfit(me, unreadable))
            return
        report: SuspendReport | None = None
        if not turns:
            report = self._input_fits(me, input) if input else None
        else:
            self._found.changed += self._has_changed(turns)
            # What replays strictly, replays; what does not, may replay all the same.
            differs = self._replay(StrictExecution, me, turns)
            report = None if differs is None else self._replay(Execution, me, turns)
            if differs is not None and report is None:
                self._found.differing.append(self._misfit(me, differs))
        if report is not None:
            self._found.diverging.append(self._misfit(me, report))

    def _misfit(self, me: Identity, report: SuspendReport) -> Misfit:
        return Misfit(
            instance=me.id,
            workflow=self._workflow.name,
            execution=me.execution,
            life=me.life,
            report=report,
        )

    def _has_changed(self, turns: Sequence[Turn]) -> bool:
        begun = turns[0].events[0] if turns[0].events else None
        code = begun.code if isinstance(begun, Started) else ""
        return bool(code) and code != self._workflow.fingerprint

    def _input_fits(self, me: Identity, input: bytes) -> SuspendReport | None:
        """Return what is wrong with the arguments of an instance that has not begun."""
        workflow = self._workflow
        try:
            workflow.signature.decode(self._codec, input, workflow.name)
        except Exception as exc:  # noqa: BLE001  # whatever a codec or a type says
            what = f"its input ({workflow.where})"
            return undecodable(workflow.name, me.id, 0, MAIN_TASK, what, str(exc))
        return None

    def _replay(
        self, kind: type[Execution], me: Identity, turns: Sequence[Turn]
    ) -> SuspendReport | None:
        execution = kind(
            self._workflow,
            me,
            self._codec,
            Caller,
            propagators=self._propagators,
            interceptors=self._interceptors,
        )
        try:
            execution.replay(turns)
        except NeedsSuspension as stop:
            return stop.report
        finally:
            execution.evict()
        return None
