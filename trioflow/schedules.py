"""Schedules: `Cron`, `Every`, and the workflow of which every schedule is an instance.

It sleeps until the next time is due, starts the run as a detached instance, and continues as new
now and then. The run tells it of its end (`trioflow._model.events.run_ended`); the store does so
where it ends the run itself. So what holds for instances holds for schedules: they are taken by one
worker at a time, and survive what instances survive.

Determinism: which time comes next depends on the data about time zones, which are updated. So each
next time is a side effect, recorded when it was computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
import trio

from trioflow._engine.calls import Caller, current_caller
from trioflow._engine.runs import start_run, terminate_instance
from trioflow._model.calendars import Cron, Every
from trioflow._model.rules import SCHEDULED_IN_STEPS, SCHEDULED_IN_TURN
from trioflow._model.schedules import (
    MOST_WAITING,
    SCHEDULE_MESSAGES,
    SCHEDULE_WORKFLOW,
    SHOWN,
    Backfill,
    Due,
    Overlap,
    Pause,
    Plan,
    Progress,
    Published,
    Replace,
    Resume,
    RunEnded,
    ScheduleMessage,
    ScheduleState,
    Terms,
    Trigger,
    run_id,
)
from trioflow._model.workflows import Workflow
from trioflow._registry import add_to_every_registry
from trioflow.errors import ArgumentError, InstanceNotFound

__all__ = ["Cron", "Every"]

T = TypeVar("T")

_ON_TIME: Final = 10.0
"""Seconds by which a run may be late without being a time that was missed: workers may be busy."""

_COUNTED_AT_ONCE: Final = 10_000
_MOMENT: Final = 0.001
_STEPS: Final = 100
"""What a turn does at most: a backlog of thousands would hold up the other work of the worker."""

_EVENTS: Final = 200
"""The size of a history at which the next execution begins: what a worker without it replays."""

_REPLACED: Final = "the next run of its schedule is due"


async def keep_schedule(state: ScheduleState) -> None:
    """Run a schedule: begin its runs when they are due, and obey the messages to it."""
    await _Keeper(state).keep()


class _Keeper:
    """A schedule's loop.

    A message acts on what is due after it was sent, also if a worker comes later than both. So the
    next message is looked at before what is due, and waits (``_next``) while something is due that
    is older.
    """

    def __init__(self, state: ScheduleState) -> None:
        self._caller: Caller = current_caller("a schedule")
        self._id = self._caller.identity.id
        self._plan: Plan = state.plan
        self._progress: Progress = state.progress
        self._next: ScheduleMessage | None = state.next
        self._turn = self._steps = 0

    async def keep(self) -> None:
        """Handle due times and messages one after the other, for ever."""
        while True:
            upcoming = self._upcoming()
            self._publish(upcoming)
            if self._caller.info().events >= _EVENTS:
                state = ScheduleState(self._plan, self._progress, self._next)
                raise self._caller.continue_as_new((state,), {})
            message = await self._wait(upcoming)
            if message is not None:
                await self._obey(message)
            elif upcoming is not None and self._due_at(upcoming) <= self._caller.now:
                await self._pass_time(upcoming)
            elif self._may_backfill():
                await self._backfill()
            await self._end_long_turn()

    async def _end_long_turn(self) -> None:
        execution = self._caller.execution
        if self._turn != execution.turns:
            self._turn, self._steps = execution.turns, 0
        self._steps += 1
        if self._steps >= _STEPS and execution.rules >= SCHEDULED_IN_STEPS:
            await trio.sleep(_MOMENT)

    # --- waiting ------------------------------------------------------------------------

    def _upcoming(self) -> float | None:
        """Return the next time of the calendar, ``None`` if there is none or it does not count."""
        progress = self._progress
        if progress.paused is not None:
            return None
        if progress.next_at is None or progress.next_at <= progress.after:
            calendar, after = self._plan.calendar, progress.after
            progress.next_at = self._once(lambda: calendar.next_after(after), float | None)
        return progress.next_at

    async def _wait(self, upcoming: float | None) -> ScheduleMessage | None:
        """Wait for what comes first; return the message, or ``None`` if a run is to begin."""
        due_at = None if upcoming is None else self._due_at(upcoming)
        due = due_at is not None and due_at <= self._caller.now
        message = self._take()
        if message is not None:
            sent_at = None if isinstance(message, RunEnded) else message.at
            if due and sent_at is not None and due_at is not None and due_at < sent_at:
                self._next = message
                return None
            return message
        if due or self._may_backfill():
            return None
        if due_at is None:
            return await SCHEDULE_MESSAGES.receive()
        with trio.move_on_at(due_at):
            return await SCHEDULE_MESSAGES.receive()
        return None

    def _take(self) -> ScheduleMessage | None:
        message, self._next = self._next, None
        if message is None:
            try:
                return SCHEDULE_MESSAGES.receive_nowait()
            except trio.WouldBlock:
                return None
        return message

    def _due_at(self, at: float) -> float:
        """Return when a run begins that is due ``at`` a time: with jitter, always the same."""
        if not self._plan.jitter:
            return at
        digest = hashlib.blake2b(f"{self._id}/{at}".encode(), digest_size=8).digest()
        return at + self._plan.jitter * (int.from_bytes(digest) / 2**64)

    def _publish(self, upcoming: float | None) -> None:
        """Let clients see the state: no arguments, and of long lists a part."""
        progress = self._progress
        progress.next_at = upcoming
        plan = self._plan
        self._caller.set_status(
            Published(
                Terms(
                    plan.calendar, plan.target.workflow, plan.overlap, plan.catch_up, plan.jitter
                ),
                msgspec.structs.replace(
                    progress,
                    running=progress.running[-SHOWN:],
                    waiting=progress.waiting[:SHOWN],
                    backfills=progress.backfills[:SHOWN],
                ),
            )
        )

    # --- what is due --------------------------------------------------------------------

    async def _pass_time(self, at: float) -> None:
        """Begin the run of a time that has come, or count it as missed, with others like it."""
        progress = self._progress
        patience = max(self._plan.catch_up, _ON_TIME)
        oldest = self._caller.now - patience
        due_at = self._due_at(at)
        if self._caller.execution.rules >= SCHEDULED_IN_TURN:
            # Runs begin in the order of their times: jitter holds up those that follow, too.
            due_at = progress.held_until = max(due_at, progress.held_until)
        if due_at >= oldest:
            progress.after = at
            await self._begin(Due(run_id(self._id, at), at), self._plan.overlap)
            return
        until = max(at, oldest - self._plan.jitter)
        if self._next is not None and not isinstance(self._next, RunEnded):
            until = max(at, min(until, self._next.at))
        calendar, after = self._plan.calendar, progress.after
        count, last = self._once(
            lambda: calendar.passed(after, until, _COUNTED_AT_ONCE), tuple[int, float]
        )
        progress.missed += count
        progress.after = max(last, at)
        if count >= _COUNTED_AT_ONCE:
            await trio.sleep(_MOMENT)  # the turn ends here, so that no turn takes long

    async def _begin(self, run: Due, overlap: Overlap) -> None:
        """Begin a run, or do what is to be done if another one is under way."""
        progress = self._progress
        if overlap == "allow" or not (progress.running or progress.waiting):
            await self._start(run)
            return
        waiting = progress.waiting
        match overlap:
            case "skip":
                progress.skipped += 1
            case "buffer_one" if waiting:
                progress.skipped += 1
            case "buffer_one" | "buffer_all":
                if len(waiting) < MOST_WAITING:
                    progress.waiting = [*waiting, run]
                else:
                    progress.skipped += 1
            case _:
                progress.skipped += len(waiting)
                progress.waiting = [run]
                for other in progress.running:
                    await self._stop(other, overlap)
                await self._begin_waiting()

    async def _start(self, run: Due) -> None:
        if await start_run(self._caller, self._plan.target, run):
            self._progress.note_begun(run)
        else:
            self._progress.skipped += 1  # it was run before

    async def _stop(self, run: Due, overlap: Overlap) -> None:
        """Have a run end. If it had ended already, the message that says so is on its way."""
        try:
            if overlap == "terminate_other":
                await terminate_instance(self._caller, run.id, _REPLACED)
            else:
                await self._caller.cancel_instance(run.id, _REPLACED)
        except InstanceNotFound:
            self._progress.note_ended(run.id)

    async def _begin_waiting(self) -> None:
        progress = self._progress
        while progress.waiting and not progress.running and progress.paused is None:
            run, *progress.waiting = progress.waiting
            await self._start(run)

    # --- the past -----------------------------------------------------------------------

    def _may_backfill(self) -> bool:
        progress = self._progress
        if not progress.backfills:
            return False
        idle = not (progress.running or progress.waiting)
        return idle or progress.backfills[0].overlap not in ("buffer_one", "buffer_all")

    async def _backfill(self) -> None:
        """Begin the next run of the first backfill, or end that."""
        first, *others = self._progress.backfills
        calendar = self._plan.calendar
        at = self._once(lambda: calendar.next_after(first.after), float | None)
        if at is None or at > first.until:
            self._progress.backfills = others
            return
        rest = Backfill(first.at, at, first.until, first.overlap)
        self._progress.backfills = [rest, *others]
        await self._begin(Due(run_id(self._id, at), at), first.overlap)

    # --- messages -----------------------------------------------------------------------

    async def _obey(self, message: ScheduleMessage) -> None:
        progress = self._progress
        match message:
            case RunEnded():
                progress.note_ended(message.run)
                await self._begin_waiting()
            case Pause():
                progress.paused = message.reason
            case Resume():
                if progress.paused is not None:
                    progress.paused = None
                    progress.after = max(progress.after, message.at)
                    await self._begin_waiting()
            case Trigger():
                await self._start(Due(message.run, message.at))
            case Backfill():
                progress.backfills = [*progress.backfills, message]
            case Replace():
                self._plan = message.changes.applied_to(self._plan)
                progress.after = max(progress.after, message.at)
                progress.next_at = None

    def _once(self, compute: Callable[[], T], type_: object) -> T:
        return self._caller.side_effect(compute, type_)


add_to_every_registry(
    # A time zone that a worker does not know is no reason to end a schedule.
    Workflow(keep_schedule, name=SCHEDULE_WORKFLOW, unread="ignore", suspend_on=ArgumentError)
)
