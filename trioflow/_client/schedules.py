"""Schedules, seen from outside: creating, finding, changing and removing them.

A schedule is an instance; what is asked of it is a signal to it. So it is stored when a call here
returns, whether or not a worker runs, and seen in `ScheduleHandle.describe` once one has read it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import msgspec

from trioflow._client.handle import Handle, signal_event
from trioflow._client.native_cancel import raises_native_cancels
from trioflow._codec.limits import ID_LENGTH, check_id, check_reason
from trioflow._codec.values import Codec, decode_as
from trioflow._model.bound import BoundWorkflow
from trioflow._model.calendars import (
    Calendar,
    StoredCalendar,
    calendar_of,
    epoch_seconds,
)
from trioflow._model.options import check_choice, check_seconds
from trioflow._model.propagation import injected
from trioflow._model.schedules import (
    OVERLAPS,
    SCHEDULE,
    SCHEDULE_ATTRIBUTE,
    SCHEDULE_MESSAGES,
    SCHEDULE_WORKFLOW,
    Backfill,
    Changes,
    Due,
    Overlap,
    Pause,
    Plan,
    Progress,
    Published,
    Replace,
    Resume,
    ScheduleMessage,
    ScheduleState,
    Target,
    Terms,
    Trigger,
)
from trioflow._model.workflows import Workflow
from trioflow.backends.records import ENDED, InstanceRecord, Status
from trioflow.errors import ArgumentError, InstanceFinished, InstanceNotFound

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["ScheduleDescription", "ScheduleHandle", "ScheduledRun", "describe_schedule", "start_of"]

R = TypeVar("R")

_ALWAYS: Final = 1e15
"""What is stored for a ``catch_up`` of infinity, since JSON has none."""

TRIGGERED: Final = "trigger-"


class _ScheduleNotFound(InstanceNotFound):
    _text = "there is no such schedule, {instance!r}"


class ScheduledRun(msgspec.Struct, frozen=True):
    """A run of a schedule: the id of its instance, and when it was due, epoch seconds."""

    id: str
    scheduled_at: float


class ScheduleDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a schedule. Of long lists there are the hundred entries that matter most.

    Attributes:
        id: Its id.
        calendar: When it is due: a `Cron` or an `Every`.
        workflow: The name of the workflow that it runs.
        overlap: What happens if a run is due while another is under way.
        catch_up: By how many seconds a run may be late and is still begun.
        jitter: Within how many seconds after its time a run begins.
        status: ``"running"``; or ``"suspended"``, ``"failed"``, …, as for any instance:
            ``client.handle(id).describe()`` says why.
        next_at: When the next run is due, epoch seconds; ``None`` while paused, or if none comes.
        paused: Why it is paused, ``""`` if nobody said why; ``None`` if it is not.
        running: The runs under way, the oldest first.
        waiting: Those that begin when the ones under way have ended.
        recent: The last ten that it has begun, the newest first.
        begun: How many runs it has begun.
        skipped: How many it has left out: because another was under way, or since the run of that
            time had been begun before.
        missed: How many it has left out because no worker was there within ``catch_up``.
        backfilling: Whether it begins runs of the past.
        created_at: Epoch seconds.
    """

    id: str
    calendar: Calendar
    workflow: str
    overlap: Overlap
    catch_up: float
    jitter: float
    status: Status
    next_at: float | None
    paused: str | None
    running: list[ScheduledRun]
    waiting: list[ScheduledRun]
    recent: list[ScheduledRun]
    begun: int
    skipped: int
    missed: int
    backfilling: bool
    created_at: float


class ScheduleHandle(Generic[R]):
    """A schedule, by its id. ``client.schedule()`` and ``client.schedule_handle()`` give it.

    What is asked of it is stored when the call returns, and acts on what is due from then on, also
    if a worker reads it later. `describe` shows it once a worker has read it. Each call means the
    schedule that has the id then.

    Every call raises `InstanceNotFound` if there is no such schedule.

    Attributes:
        id: The id.
    """

    def __init__(self, client: Client, id: str, workflow: Workflow[..., R] | None = None) -> None:
        self.id = id
        self._client = client
        self._workflow = workflow

    def __repr__(self) -> str:
        return f"<ScheduleHandle of schedule {self.id!r}>"

    @raises_native_cancels
    async def pause(self, reason: str = "") -> None:
        """Begin no more runs until `resume`; those under way go on.

        Times that pass meanwhile are left out. `trigger` and `backfill` work all the same.

        Args:
            reason: Why, for those who look.

        Raises:
            ArgumentError: The reason is too long, or has characters that a store does not take.
        """
        await self._tell(Pause(self._now(), check_reason(reason) or ""))

    @raises_native_cancels
    async def resume(self) -> None:
        """Begin runs again, from now on; `backfill` begins those of the time since the pause."""
        await self._tell(Resume(self._now()))

    @raises_native_cancels
    async def trigger(self) -> Handle[R]:
        """Begin a run now, whatever else is under way, and also while the schedule is paused.

        This waits until a worker has begun it.

        Returns:
            A handle of the run.

        Raises:
            ClientClosed: The client was closed while this waited.
        """
        run = f"{self.id}/{TRIGGERED}{self._client.fresh_request()}"
        await self._tell(Trigger(self._now(), run))
        while True:
            seen = self._client.backend.changes()
            if await self._client.backend.get(run) is not None:
                return Handle(self._client, run, self._workflow)
            if (await self._record()).status in ENDED:
                raise InstanceNotFound(self.id, "it ended before the run began")
            await self._client.wait_change(seen)

    @raises_native_cancels
    async def backfill(
        self,
        start: datetime | float,
        end: datetime | float,
        *,
        overlap: Overlap = "buffer_all",
    ) -> None:
        """Begin the runs that were due in a time of the past, except for those that were begun.

        Args:
            start: The first moment, a datetime with a time zone or epoch seconds.
            end: The last, not after now.
            overlap: What happens if another run is under way. By default one begins when the one
                before it has ended; ``"allow"`` begins all of them together.

        Raises:
            ArgumentError: A datetime has no time zone, or ``end`` is before ``start``, or to come.
            DefinitionError: There is no such ``overlap``.
        """
        check_choice("overlap", overlap, OVERLAPS)
        first, last = epoch_seconds(start, "start"), epoch_seconds(end, "end")
        now = self._now()
        if not first <= last <= now:
            why = "before start" if last < first else "to come; those runs begin by themselves"
            raise ArgumentError(f"backfill() of schedule {self.id!r}: end, {end!r}, is {why}")
        # Times are whole numbers of seconds, or far apart: the first is one of them.
        await self._tell(Backfill(now, first - 0.000_001, last, overlap))

    @raises_native_cancels
    async def replace(
        self,
        calendar: Calendar | None = None,
        call: BoundWorkflow[Any] | None = None,
        *,
        overlap: Overlap | None = None,
        catch_up: float | None = None,
        jitter: float | None = None,
    ) -> None:
        """Change the schedule from now on; what is not given stays. Runs under way go on.

        Raises:
            ArgumentError, DefinitionError, TypeError, ValueError: As ``client.schedule()``. Nothing
                was changed.
        """
        _check_terms(overlap=overlap, catch_up=catch_up, jitter=jitter)
        changes = Changes(
            calendar=None if calendar is None else StoredCalendar.of(calendar_of(calendar)),
            target=None if call is None else target_of(self._client, call),
            overlap=overlap,
            catch_up=None if catch_up is None else _storable(catch_up),
            jitter=None if jitter is None else float(jitter),
        )
        await self._tell(Replace(self._now(), changes))

    @raises_native_cancels
    async def describe(self) -> ScheduleDescription:
        """Return what is known of the schedule.

        Raises:
            InstanceNotFound: There is no such schedule, or no longer.
            UndecodableValue: Another codec has stored it.
        """
        return describe_schedule(await self._record(), self._client.codec)

    @raises_native_cancels
    async def remove(self) -> None:
        """Remove the schedule; its runs stay, and those under way go on.

        Raises:
            InstanceNotFound: There is no such schedule, or no longer.
        """
        record = await self._record()
        instance: Handle[None] = Handle(self._client, self.id, None, life=record.life)
        if record.status not in ENDED:
            with contextlib.suppress(InstanceFinished):  # it has ended meanwhile
                await instance.terminate("the schedule was removed")
        await instance.remove()

    def _now(self) -> float:
        return self._client.backend.now()

    async def _record(self) -> InstanceRecord:
        record = await self._client.backend.get(self.id)
        if record is None:
            raise _ScheduleNotFound(self.id)
        if record.workflow != SCHEDULE_WORKFLOW:
            raise _ScheduleNotFound(self.id, f"it is no schedule, but a {record.workflow!r}")
        return record

    async def _tell(self, message: ScheduleMessage) -> None:
        record = await self._record()
        event = signal_event(self._client.codec, SCHEDULE_MESSAGES, message)
        sent = await self._client.backend.send(self.id, event, life=record.life)
        if sent != "done":
            why = f"it has ended: client.handle({self.id!r}).describe() says why"
            raise InstanceNotFound(self.id, why if sent == "finished" else None)


def start_of(
    client: Client,
    id: str,
    calendar: object,
    call: object,
    terms: Mapping[str, Any],
) -> tuple[Workflow[..., None], ScheduleState]:
    """Return the workflow that a schedule is an instance of, with its options, and its argument.

    Raises:
        ArgumentError, DefinitionError, TypeError, ValueError: As ``client.schedule()``.
    """
    stored = StoredCalendar.of(calendar_of(calendar))
    _check_terms(**terms)
    target = target_of(client, call)
    now = client.backend.now()
    _check_id(id)
    plan = Plan(
        calendar=stored,
        target=target,
        overlap=terms["overlap"],
        catch_up=_storable(terms["catch_up"]),
        jitter=float(terms["jitter"]),
    )
    definition = SCHEDULE.options(
        id=id,
        queue=target.queue,
        priority=target.priority,
        attributes={SCHEDULE_ATTRIBUTE: True},
    )
    return definition, ScheduleState(plan, Progress(after=now))


def _check_id(id: str) -> None:
    most = ID_LENGTH - len(f"/{TRIGGERED}{'0' * 32}")
    if len(check_id(id)) > most:
        raise ArgumentError(
            f"the id of a schedule, {id[:40]!r}…, has {len(id)} characters, at most {most}, so "
            "that those of its runs are not too long"
        )


def target_of(client: Client, call: object) -> Target:
    """Return what a schedule is to start.

    Raises:
        ArgumentError: It is no bound workflow, its arguments cannot be stored, or it has options
            that the schedule decides about.
    """
    if not isinstance(call, BoundWorkflow):
        hint = ""
        if isinstance(call, Workflow):
            hint = f": write {cast('Workflow[..., Any]', call).name}.bind(argument, …)"
        raise ArgumentError(
            f"a schedule runs a call of a workflow that is not made, not {call!r}{hint}"
        )
    bound: BoundWorkflow[Any] = cast("Any", call)
    definition = bound.definition
    for option in ("id", "start_at", "delay"):
        if getattr(definition, option):
            raise ArgumentError(
                f"{bound!r} has the option {option}=, which the schedule decides about: the id of "
                "a run is the schedule's with the time for which it is due"
            )
    if definition.if_exists != "raise" or definition.reuse_finished is not None:
        raise ArgumentError(
            f"{bound!r} has if_exists= or reuse_finished=; a schedule begins each run once"
        )
    data = definition.signature.encode(client.codec, bound.args, bound.kwargs, definition.name)
    return Target(
        workflow=definition.name,
        input=data.decode(),
        queue=definition.queue or "default",
        priority=definition.priority or 0,
        options=definition.overrides,
        attributes=definition.attributes,
        metadata=injected(client.propagators, definition.metadata),
    )


def describe_schedule(record: InstanceRecord, codec: Codec) -> ScheduleDescription:
    """Read a schedule's row.

    Raises:
        UndecodableValue: Another codec has stored it.
    """
    what = f"what is stored of schedule {record.id!r}"
    if record.custom_status:
        shown: Published = decode_as(codec, record.custom_status, Published, what)
        terms, progress = shown.terms, shown.progress
    else:
        args, _ = SCHEDULE.signature.decode(codec, record.input, what)
        state: ScheduleState = args[0]
        plan, progress = state.plan, state.progress
        workflow = plan.target.workflow
        terms = Terms(plan.calendar, workflow, plan.overlap, plan.catch_up, plan.jitter)
        progress.next_at = plan.calendar.next_after(progress.after)
    return ScheduleDescription(
        id=record.id,
        calendar=terms.calendar.read(),
        workflow=terms.workflow,
        overlap=terms.overlap,
        catch_up=math.inf if terms.catch_up >= _ALWAYS else terms.catch_up,
        jitter=terms.jitter,
        status=record.status,
        next_at=progress.next_at,
        paused=progress.paused,
        running=_runs(progress.running),
        waiting=_runs(progress.waiting),
        recent=_runs(progress.recent),
        begun=progress.begun,
        skipped=progress.skipped,
        missed=progress.missed,
        backfilling=bool(progress.backfills),
        created_at=record.created_at,
    )


def _runs(due: list[Due]) -> list[ScheduledRun]:
    return [ScheduledRun(one.id, one.at) for one in due]


def _check_terms(*, overlap: object, catch_up: object, jitter: object) -> None:
    if overlap is not None:
        check_choice("overlap", overlap, OVERLAPS)
    for name, value in (("catch_up", catch_up), ("jitter", jitter)):
        if value is not None:
            check_seconds(name, value, zero=True)
    if jitter == math.inf:
        raise ValueError("jitter is a number of seconds, not inf: no run would ever begin")


def _storable(catch_up: float) -> float:
    return min(float(catch_up), _ALWAYS)
