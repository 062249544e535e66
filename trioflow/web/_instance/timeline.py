"""What an execution did over time, as bars and marks: made of its turns, without their values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from trioflow._client.description import ActivityDescription, Undecodable
from trioflow._codec.failures.lines import failure_line
from trioflow._model import commands as co
from trioflow._model import events as ev
from trioflow._model.shared import shared_words
from trioflow._model.turns import Cancelled, Completed, Continued, Failed, Turn

__all__ = ["Bar", "Mark", "Reader", "Timeline", "timeline_of"]

BarStatus = Literal[
    "completed", "failed", "cancelled", "running", "retrying", "waiting", "left", "continued"
]

# A title is for a glance: what failed is shown in full elsewhere.
_LONGEST = 300


class Bar(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that lasts: a call and its answer.

    Attributes:
        kind: ``"activity"``, ``"sub-workflow"``, ``"update"``, ``"signal sent"``, ``"request"`` or
            ``"shared"``.
        name: Of the activity, the workflow, and so on.
        id: The id of the command, or of the update's request.
        instance: The other instance that it concerns, ``""`` for none.
        start: When it was called, epoch seconds.
        end: When its answer was consumed; ``None`` while it lasts.
        status: How it ended; ``"left"`` if the execution ended before it did. ``"retrying"`` is a
            running one that has failed already, ``"waiting"`` one of something that instances share
            which others have.
        turn: The turn that called it.
        attempt: The attempt that runs or is next, 0 where that is not known: it is of those that
            last.
        waits: Whether that attempt is next, and no worker has it yet.
        held_at: Of something that instances share: since when this one has had it.
        note: What is to be said of it: why it failed, or was cancelled.
    """

    kind: str
    name: str
    id: str
    start: float
    end: float | None
    status: BarStatus
    turn: int
    instance: str = ""
    attempt: int = 0
    waits: bool = False
    held_at: float | None = None
    note: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took, ``None`` while it lasts."""
        return None if self.end is None else self.end - self.start


class Mark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened at one moment.

    Attributes:
        kind: ``"signal"``, ``"timer"``, ``"promise"``, ``"side effect"``, ``"stream"``,
            ``"cancel"`` or ``"patch"``.
        name: Of the signal, the stream, …; ``""`` for none.
        at: When, epoch seconds.
        turn: In which turn.
        bad: Whether something failed.
    """

    kind: str
    name: str
    at: float
    turn: int
    bad: bool = False


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """An execution over time.

    Attributes:
        start: The time of its first turn, epoch seconds.
        end: That of its last one, if it has ended; ``None`` while it lasts.
        now: When this was made.
        status: Of the execution.
        bars: In the order of their start; those from the ``first`` on.
        first: How many were left out before them.
        total: How many there are.
        marks: In the order of time.
        turns: The times of its turns.
        wakes_at: The next moment at which it has something to do, or ``None``.
        unread: Turns that could not be read, and are not shown.
    """

    start: float
    end: float | None
    now: float
    status: BarStatus
    bars: list[Bar]
    first: int
    total: int
    marks: list[Mark]
    turns: list[float]
    wakes_at: float | None = None
    unread: int = 0

    @property
    def until(self) -> float:
        """Until when there is something to draw."""
        return self.now if self.end is None else self.end


def timeline_of(
    reader: Reader,
    *,
    now: float,
    ended: bool = False,
    activities: Sequence[ActivityDescription] = (),
    wakes_at: float | None = None,
    first: int = 0,
    limit: int = 500,
) -> Timeline:
    """Return what an execution did over time.

    Args:
        reader: Has read all its turns.
        now: The present time, epoch seconds.
        ended: Whether nothing goes on any more, though the turns need not say so.
        activities: Those that are not finished.
        wakes_at: When it has something to do next, or ``None``.
        first: How many bars are left out.
        limit: How many are given at most.
    """
    times = reader.times
    over = ended or reader.status != "running"
    end = times[-1] if over and times else None
    pending = {each.key.command: each for each in activities}
    bars = sorted(reader.bars.values(), key=lambda bar: bar.start)
    shown = [bar.made(end, pending.get(bar.id)) for bar in bars[first : first + limit]]
    return Timeline(
        start=times[0] if times else now,
        end=end,
        now=max([now, *times[-1:]]),
        status=reader.status,
        bars=shown,
        first=min(first, len(bars)),
        total=len(bars),
        marks=reader.marks,
        turns=times,
        wakes_at=None if over else wakes_at,
        unread=reader.unread,
    )


class _Open:
    """A bar that is being read."""

    __slots__ = (
        "end",
        "held_at",
        "id",
        "instance",
        "kind",
        "name",
        "note",
        "start",
        "status",
        "turn",
    )

    def __init__(self, kind: str, name: str, id: str, start: float, turn: int) -> None:
        self.kind, self.name, self.id, self.start, self.turn = kind, name, id, start, turn
        self.instance = self.note = ""
        self.end: float | None = None
        self.held_at: float | None = None
        self.status: BarStatus = "running"

    def close(self, at: float, status: BarStatus, note: str | None = "") -> None:
        self.end, self.status = at, status
        self.note = (note or self.note)[:_LONGEST]

    def made(self, ended_at: float | None, pending: ActivityDescription | None) -> Bar:
        """Return the bar, of an execution that has ended at that time, or has not."""
        end, status, note, attempt, waits = self.end, self.status, self.note, 0, False
        if end is None and ended_at is not None:
            end, status = max(ended_at, self.start), "left"
        elif end is None and pending is not None:
            attempt, waits = pending.attempt, pending.next_at is not None
            if pending.failure is not None:
                status = "retrying"
                note = f"attempt {attempt - 1}: {failure_line(pending.failure)}"[:_LONGEST]
        return Bar(
            kind=self.kind,
            name=self.name,
            id=self.id,
            instance=self.instance,
            start=self.start,
            end=end,
            status=status,
            turn=self.turn,
            attempt=attempt,
            waits=waits,
            held_at=self.held_at,
            note=note,
        )


class Reader:
    """Reads turns, one after the other, and keeps what a timeline is made of.

    Attributes:
        bars: What lasts or has lasted, by the id of its command.
        marks: What happened at one moment, in the order of the turns.
        status: Of the execution, as far as turns were read.
        times: Those of the turns.
        unread: How many turns could not be read.
    """

    def __init__(self) -> None:
        self.bars: dict[str, _Open] = {}
        self.marks: list[Mark] = []
        self.status: BarStatus = "running"
        self.times: list[float] = []
        self.unread = 0

    def read(self, number: int, turn: Turn | Undecodable) -> None:
        """Read the next turn."""
        if isinstance(turn, Undecodable):
            self.unread += 1
            return
        self.times.append(turn.now)
        times = turn.at or [turn.now] * len(turn.events)
        for at, event in zip(times, turn.events, strict=False):
            self._event(event, at, number)
        for command in turn.commands:
            self._command(command, turn.now, number)
        match turn.outcome:
            case Completed():
                self.status = "completed"
            case Failed():
                self.status = "failed"
            case Cancelled():
                self.status = "cancelled"
            case Continued():
                self.status = "continued"
            case None:
                pass
        if turn.reset is not None:
            self.status = "left"

    def _event(self, event: ev.Event, at: float, turn: int) -> None:
        match event:
            case ev.ActivityCompleted() | ev.ChildCompleted() | ev.SignalSent():
                self._close(event.id, at, "completed")
            case ev.ActivityFailed() | ev.ChildFailed() | ev.SignalFailed() | ev.RequestFailed():
                self._close(event.id, at, "failed", failure_line(event.failure))
            case ev.ActivityCancelled() | ev.ChildCancelled():
                self._close(event.id, at, "cancelled")
            case ev.RequestDone():
                bar = self.bars.get(event.id)
                if bar is not None and bar.kind == "shared" and bar.end is None:
                    bar.held_at, bar.status = at, "running"
                else:
                    self._close(event.id, at, "completed")
            case ev.UpdateRequested():
                self._open(
                    "update", event.name, event.update, at, turn, key=f"update {event.update}"
                )
            case _:
                self.marks += _marks(event, at, turn)
                if isinstance(event, ev.Started):
                    for message in event.carried:
                        self._event(message, at, turn)

    def _command(self, command: co.Command, at: float, turn: int) -> None:  # noqa: C901 - one by one
        name = co.command_target(command)
        match command:
            case co.RunActivity():
                self._open("activity", name, command.id, at, turn)
            case co.StartChild():
                bar = self._open("sub-workflow", name, command.id, at, turn)
                bar.instance = command.instance
            case co.SendSignal():
                self._open("signal sent", name, command.id, at, turn).instance = command.instance
            case co.StartDetached():
                self._open(
                    "request", f"start {name}", command.id, at, turn
                ).instance = command.instance
            case co.CancelInstance() | co.TerminateInstance():
                word = "cancel" if isinstance(command, co.CancelInstance) else "terminate"
                self._open("request", word, command.id, at, turn).instance = command.instance
            case co.ClaimShared():
                label = shared_words(name).removeprefix("the ")  # there is little room for it
                self._open("shared", label, command.id, at, turn).status = "waiting"
            case co.SetShared():
                self._open("request", f"set {shared_words(name)}", command.id, at, turn)
            case co.ReleaseShared():
                self._close(command.id, at, "completed")
            case co.CancelActivity() | co.CancelChild():
                bar_ = self.bars.get(command.id)
                if bar_ is not None:
                    bar_.note = "its cancel was asked for"
            case co.AnswerUpdate():
                failed = command.failure
                self._close(
                    f"update {command.update}",
                    at,
                    "completed" if failed is None else "failed",
                    "" if failed is None else failure_line(failed),
                )
            case co.RecordSideEffect() | co.EmitValue() | co.RecordPatch() | co.NameTimer():
                kind = _POINTS[type(command)]
                bad = isinstance(command, co.RecordSideEffect) and command.failure is not None
                self.marks.append(Mark(kind=kind, name=name, at=at, turn=turn, bad=bad))

    def _open(self, kind: str, name: str, id: str, at: float, turn: int, *, key: str = "") -> _Open:
        bar = self.bars[key or id] = _Open(kind, name, id, at, turn)
        return bar

    def _close(self, id: str, at: float, status: BarStatus, note: str = "") -> None:
        bar = self.bars.get(id)
        if bar is not None:
            bar.close(at, status, note)


_POINTS: dict[type[co.Command], str] = {
    co.RecordSideEffect: "side effect",
    co.EmitValue: "stream",
    co.RecordPatch: "patch",
    co.NameTimer: "timer",
}


def _marks(event: ev.Event, at: float, turn: int) -> Iterator[Mark]:
    match event:
        case ev.SignalReceived():
            yield Mark(kind="signal", name=event.name, at=at, turn=turn)
        case ev.Woken():
            yield Mark(kind="timer", name="", at=at, turn=turn)
        case ev.PromiseResolved():
            yield Mark(kind="promise", name="resolved", at=at, turn=turn)
        case ev.PromiseRejected():
            yield Mark(kind="promise", name="rejected", at=at, turn=turn, bad=True)
        case ev.CancelRequested():
            yield Mark(kind="cancel", name="", at=at, turn=turn)
        case _:
            pass
