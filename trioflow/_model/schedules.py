"""Schedules as they are stored: what a schedule does, how far it is, and the messages to it.

A schedule is an instance of a workflow of ours (`trioflow.schedules`). Clients write its input and
its messages, so what both need is here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from trioflow._codec.limits import check_id
from trioflow._model.attributes import Stored
from trioflow._model.calendars import StoredCalendar
from trioflow._model.commands import StartOptions
from trioflow._model.events import RUN_ENDED
from trioflow._model.signals import Signal
from trioflow._model.workflows import Workflow

__all__ = [
    "MOST_RUNNING",
    "MOST_WAITING",
    "OVERLAPS",
    "SCHEDULE",
    "SCHEDULE_ATTRIBUTE",
    "SCHEDULE_MESSAGES",
    "SCHEDULE_WORKFLOW",
    "SHOWN",
    "Backfill",
    "Changes",
    "Due",
    "Overlap",
    "Pause",
    "Plan",
    "Progress",
    "Published",
    "Replace",
    "Resume",
    "RunEnded",
    "ScheduleMessage",
    "ScheduleState",
    "Target",
    "Terms",
    "Trigger",
    "run_id",
]

SCHEDULE_WORKFLOW: Final = "trioflow.schedule"
"""The name of the workflow of which every schedule is an instance."""

SCHEDULE_ATTRIBUTE: Final = "trioflow.schedule"
"""The attribute, true, by which schedules are found."""

MOST_WAITING: Final = 1000
"""How many runs wait at most until another one has ended."""

MOST_RUNNING: Final = 1000
"""How many runs under way a schedule knows, the newest: with ``allow`` there may be more."""

SHOWN: Final = 100
"""How much of a list clients are shown."""

_RECENT: Final = 10

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow"]
OVERLAPS: Final[tuple[str, ...]] = get_args(Overlap)


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is started: the options of a `BoundWorkflow`, and its arguments as they are stored."""

    workflow: str
    input: str
    queue: str = "default"
    priority: int = 0
    options: StartOptions | None = None
    attributes: Stored = {}
    metadata: dict[str, str] = {}


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a schedule does: when, what, and what if something comes in between."""

    calendar: StoredCalendar
    target: Target
    overlap: Overlap = "skip"
    catch_up: float = 3600.0
    jitter: float = 0.0


class Due(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that is to begin, or that has begun: its id, and the time for which it was due."""

    id: str
    at: float


class _Message(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="message"):
    """``at`` is when it was sent, by the store's clock: it acts on what is due after that."""


class Pause(_Message, frozen=True, tag="pause"):
    """Begin no more runs."""

    at: float
    reason: str = ""


class Resume(_Message, frozen=True, tag="resume"):
    """Begin runs again, but none for the time since the pause."""

    at: float


class Trigger(_Message, frozen=True, tag="trigger"):
    """Begin a run now, whatever else is under way."""

    at: float
    run: str


class Backfill(_Message, frozen=True, tag="backfill"):
    """Begin the runs of all times after one moment, and not after another."""

    at: float
    after: float
    until: float
    overlap: Overlap = "buffer_all"


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a `Plan` is to be another; ``None`` for what stays."""

    calendar: StoredCalendar | None = None
    target: Target | None = None
    overlap: Overlap | None = None
    catch_up: float | None = None
    jitter: float | None = None

    def applied_to(self, plan: Plan) -> Plan:
        """Return a plan with these changes."""
        given = msgspec.structs.asdict(self)
        return msgspec.structs.replace(
            plan, **{name: value for name, value in given.items() if value is not None}
        )


class Replace(_Message, frozen=True, tag="replace"):
    """Change the plan."""

    at: float
    changes: Changes


class RunEnded(_Message, frozen=True, tag=RUN_ENDED):
    """A run has ended. Workers and stores write this, and no codec: see `run_ended`."""

    run: str
    status: str


ScheduleMessage: TypeAlias = Pause | Resume | Trigger | Backfill | Replace | RunEnded

SCHEDULE_MESSAGES: Final = Signal[ScheduleMessage](SCHEDULE_WORKFLOW, ScheduleMessage)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a union is no type


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a schedule is. It goes from one execution to the next, and is its published status.

    Attributes:
        after: All times up to this one have been dealt with.
        next_at: When the next run is due, without jitter; ``None`` if none is, or while paused.
        paused: Why it is paused; ``None`` if it is not.
        running: The runs under way, the oldest first.
        waiting: Those that begin when the ones under way have ended.
        recent: The runs that it began last, the newest first.
        begun: How many runs it has begun.
        skipped: How many times were skipped because another run was under way.
        missed: How many times were more than ``catch_up`` ago when a worker came.
        backfills: What is still to be begun of the past, the first at first.
        held_until: When the last of the times up to ``after`` was due, with jitter.
    """

    after: float
    next_at: float | None = None
    paused: str | None = None
    running: list[Due] = []
    waiting: list[Due] = []
    recent: list[Due] = []
    begun: int = 0
    skipped: int = 0
    missed: int = 0
    backfills: list[Backfill] = []
    held_until: float = 0.0

    def note_begun(self, run: Due) -> None:
        """Count a run that has begun."""
        self.begun += 1
        self.running = [*self.running, run][-MOST_RUNNING:]
        self.recent = [run, *self.recent][:_RECENT]

    def note_ended(self, run: str) -> None:
        """Take a run from those under way."""
        self.running = [one for one in self.running if one.id != run]


class ScheduleState(msgspec.Struct, omit_defaults=True):
    """What a schedule is, from execution to execution; ``next`` is a message not yet obeyed."""

    plan: Plan
    progress: Progress
    next: ScheduleMessage | None = None


class Terms(msgspec.Struct, frozen=True):
    """What clients see of a `Plan`."""

    calendar: StoredCalendar
    workflow: str
    overlap: Overlap
    catch_up: float
    jitter: float


class Published(msgspec.Struct, frozen=True):
    """What clients see of a schedule: its status. Long lists are cut to `SHOWN`."""

    terms: Terms
    progress: Progress


def run_id(schedule: str, at: float) -> str:
    """Return the id of the run that is due then: ``daily/2026-11-26T08:00:00Z``.

    Raises:
        ArgumentError: It is too long.
    """
    moment = datetime.fromtimestamp(at, UTC)
    spec = "microseconds" if moment.microsecond else "seconds"
    text = moment.isoformat(timespec=spec).replace("+00:00", "Z")
    return check_id(f"{schedule}/{text}")


async def _kept(state: ScheduleState) -> None:
    raise AssertionError(f"clients start schedules, and workers keep them: {state!r}")


SCHEDULE: Final = Workflow(_kept, name=SCHEDULE_WORKFLOW)
"""What clients start; the function itself is `trioflow.schedules.keep_schedule`."""
