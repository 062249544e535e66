"""What the pages and the JSON API show: each function asks a client, and returns a frozen struct.

What is stored need not be readable here; then it is shown as that, and everything else beside it.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.exceptions import HTTPException

from trioflow import (
    Client,
    Cron,
    Description,
    Every,
    InstanceNotFound,
    Limit,
    ScheduleDescription,
    ScheduledRun,
    UndecodableValue,
    WorkerInfo,
)
from trioflow._client.listing import SCHEDULES
from trioflow._client.schedules import describe_schedule
from trioflow._client.texts import detail_of
from trioflow.backends.records import ENDED, QueueStats, Status, Trouble
from trioflow.web._filtering import Wanted
from trioflow.web._words import duration

__all__ = [
    "InstancePage",
    "InstanceRow",
    "Overview",
    "Schedule",
    "SchedulePage",
    "Staff",
    "instances",
    "overview",
    "schedule",
    "schedules",
    "staff",
]

DAY = 86_400.0
SHOWN = 500
"""Characters of the detail of a row that are kept."""

MOST_COUNTED = 10_000
"""Up to which number instances are counted."""

_LATELY = 300.0
_NEWEST = 6


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """An instance in a list. Times are epoch seconds.

    Attributes:
        id: Its id.
        execution: The number of its current execution.
        workflow: The workflow's name.
        queue: Where it runs.
        status: Its status.
        parent: The id of the instance that started it, or ``None``.
        priority: The larger, the sooner it is taken.
        worker: The id of the worker that holds it, or ``None``.
        turns: How many turns its execution has.
        unread: How many messages wait for it.
        created_at: When it was started.
        starts_at: The time before which it does not begin, or ``None``.
        finished_at: When it ended, or ``None``.
        wakes_at: The earliest moment at which it has something to do, or ``None``.
        attributes: What it can be found by.
        detail: In a few words why it failed, was cancelled or is suspended, or its custom status;
            in a list of what is tried again the activity, and why its last attempt failed.
        attempt: In such a list the number of the attempt that runs, or is next; otherwise ``None``.
    """

    id: str
    execution: int
    workflow: str
    queue: str
    status: Status
    parent: str | None
    priority: int
    worker: str | None
    turns: int
    unread: int
    created_at: float
    starts_at: float | None
    finished_at: float | None
    wakes_at: float | None
    attributes: dict[str, Any]
    detail: str
    attempt: int | None = None


class InstancePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of instances, newest first.

    Attributes:
        instances: Them.
        next: What to give as ``after`` for the next page; ``None`` if there is none.
    """

    instances: list[InstanceRow]
    next: str | None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule. The fields are those of `trioflow.ScheduleDescription`, where not said.

    Attributes:
        calendar: When it is due, as Python writes it; ``""`` if that cannot be read here.
        when: The same in short: ``"0 9 * * mon-fri"``, ``"every 5m"``.
        tz: The time zone of a cron expression, ``""`` for anything else.
        catch_up: By how many seconds a run may be late and is still begun; ``None`` for any.
        undecodable: Why it cannot be read, if another codec has stored it; then only ``id``,
            ``status`` and ``created_at`` mean something.
    """

    id: str
    calendar: str = ""
    when: str = ""
    tz: str = ""
    workflow: str = ""
    overlap: str = ""
    catch_up: float | None = None
    jitter: float = 0.0
    status: Status
    next_at: float | None = None
    paused: str | None = None
    running: list[ScheduledRun] = []
    waiting: list[ScheduledRun] = []
    recent: list[ScheduledRun] = []
    begun: int = 0
    skipped: int = 0
    missed: int = 0
    backfilling: bool = False
    created_at: float
    undecodable: str | None = None


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of schedules, newest first; ``next`` is as in `InstancePage`."""

    schedules: list[Schedule]
    next: str | None


class Staff(msgspec.Struct, frozen=True, kw_only=True):
    """Who works, and on what.

    Attributes:
        at: When it was read, by the store's clock, epoch seconds.
        workers: The workers that have a row in the store, by name.
        queues: The numbers of each queue that has unfinished work.
        limits: The limits across workers.
    """

    at: float
    workers: list[WorkerInfo]
    queues: list[QueueStats]
    limits: list[Limit]

    def serving(self, queue: str) -> list[str]:
        """Return the names of the living workers that take anything of a queue."""
        return [
            each.name
            for each in self.workers
            if each.alive
            and any(
                names is None or queue in names for names in (each.queues, each.activity_queues)
            )
        ]

    @property
    def idle(self) -> list[str]:
        """The queues that are served and have no unfinished work."""
        busy = {each.queue for each in self.queues}
        served = {
            name
            for each in self.workers
            if each.alive
            for name in [*(each.queues or ()), *(each.activity_queues or ())]
        }
        return sorted(served - busy)


class Overview(Staff, frozen=True, kw_only=True):
    """What there is to know at a glance. Times are epoch seconds.

    Attributes:
        troubles: How many instances are in each kind of trouble, counted up to 1,000.
        ended: How many have ended in the last day, by how; each counted up to 10,000.
        rate: How many end in a minute, of the last five; ``None`` if that are more than 2,000.
        failed: The newest of the instances that failed in the last day.
        suspended: The newest of those that are suspended.
    """

    troubles: dict[Trouble, int]
    ended: dict[Status, int]
    rate: float | None
    failed: list[InstanceRow]
    suspended: list[InstanceRow]


async def instances(
    client: Client, wanted: Wanted, *, limit: int, after: str | None = None
) -> InstancePage:
    """Return a page of instances.

    Raises:
        HTTPException: 400: a filter is none that can be; 410: ``after`` was removed meanwhile.
    """
    filters = wanted.filters(client.backend.now())
    try:
        found = await client.list(**filters, limit=limit + 1, after=after)
    except InstanceNotFound as error:
        why = f"the page begins after the instance {after!r}, which was removed meanwhile"
        raise HTTPException(410, why) from error
    rows = [_row(one) for one in found[:limit]]
    return InstancePage(instances=rows, next=rows[-1].id if len(found) > limit else None)


def _row(one: Description) -> InstanceRow:
    tried = one.activities[0] if one.activities else None
    return InstanceRow(
        id=one.id,
        execution=one.execution,
        workflow=one.workflow,
        queue=one.queue,
        status=one.status,
        parent=None if one.parent is None else one.parent.instance,
        priority=one.priority,
        worker=one.worker,
        turns=one.turns,
        unread=one.unread,
        created_at=one.created_at,
        starts_at=one.starts_at,
        finished_at=one.finished_at,
        wakes_at=one.wakes_at,
        attributes=one.attributes,
        detail=detail_of(one)[:SHOWN],
        attempt=None if tried is None else tried.attempt,
    )


async def schedules(client: Client, *, limit: int, after: str | None = None) -> SchedulePage:
    """Return a page of schedules.

    Raises:
        HTTPException: 410: ``after`` was removed meanwhile.
    """
    try:
        records = await client.backend.list(SCHEDULES, limit=limit + 1, after=after)
    except InstanceNotFound as error:
        why = f"the page begins after the schedule {after!r}, which was removed meanwhile"
        raise HTTPException(410, why) from error
    rows: list[Schedule] = []
    for record in records[:limit]:
        try:
            rows.append(_schedule(describe_schedule(record, client.codec)))
        except UndecodableValue as error:
            rows.append(
                Schedule(
                    id=record.id,
                    status=record.status,
                    created_at=record.created_at,
                    undecodable=str(error),
                )
            )
    return SchedulePage(schedules=rows, next=rows[-1].id if len(records) > limit else None)


async def schedule(client: Client, id: str) -> Schedule:
    """Return one schedule.

    Raises:
        InstanceNotFound: There is none.
    """
    try:
        return _schedule(await client.schedule_handle(id).describe())
    except UndecodableValue as error:
        one = await client.handle(id).describe()
        return Schedule(id=id, status=one.status, created_at=one.created_at, undecodable=str(error))


def _schedule(one: ScheduleDescription) -> Schedule:
    fields = {name: getattr(one, name) for name in ScheduleDescription.__struct_fields__}
    fields["calendar"] = str(one.calendar)
    match one.calendar:
        case Cron():
            fields |= {"when": one.calendar.expression, "tz": one.calendar.tz}
        case Every():
            later = f", {duration(one.calendar.offset)} later" if one.calendar.offset else ""
            fields["when"] = f"every {duration(one.calendar.seconds)}{later}"
    if math.isinf(one.catch_up):
        fields["catch_up"] = None
    return Schedule(**fields)


async def staff(client: Client) -> Staff:
    """Return who works, and on what."""
    return Staff(**await _staff(client))


async def _staff(client: Client) -> dict[str, Any]:
    return {
        "at": client.backend.now(),
        "workers": await client.workers(),
        "queues": sorted(await client.stats(), key=lambda queue: queue.queue),
        "limits": await client.limits(),
    }


async def overview(client: Client) -> Overview:
    """Return what there is to know at a glance.

    Nothing here costs more because of what ended earlier than in the last day, and of that it is
    counted no further than so many.
    """
    now = client.backend.now()
    day, lately = now - DAY, now - _LATELY
    ended: dict[Status, int] = {}
    for status in ENDED:
        ended[status] = await client.count(status=status, finished_after=day, at_most=MOST_COUNTED)
    ends = await client.count(finished_after=lately, at_most=MOST_COUNTED)
    # Without the time in the filter: the newest are found by their order, however many there are.
    failed = await client.list(status="failed", limit=_NEWEST)
    suspended = await client.list(status="suspended", limit=_NEWEST)
    return Overview(
        **await _staff(client),
        troubles=await client.troubles(),
        ended=ended,
        rate=None if ends == MOST_COUNTED else ends / (_LATELY / 60),
        failed=[_row(one) for one in failed if (one.finished_at or now) > day],
        suspended=[_row(one) for one in suspended],
    )
