"""Where the present code leaves a history: what is recorded beside what it gives now.

With a registry the history is replayed here, by the code of this process. Then each command has the
line that gives it. Only the files of code that has run here are read, never one that is named by
what is stored.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, Literal, NamedTuple, cast

import anyio.lowlevel
import msgspec
import trio

from trioflow import Client, Undecodable, Workflow
from trioflow._client.history import readable_fact
from trioflow._engine import guard
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution
from trioflow._engine.loop import nested
from trioflow._engine.loop.runner import TaskState
from trioflow._engine.pending import Commands
from trioflow._engine.replay import OUR_PACKAGES, Diverged
from trioflow._engine.suspension import NeedsSuspension
from trioflow._model.commands import Command, command_order, command_target
from trioflow._model.info import Identity, SuspendReport
from trioflow._model.interceptors import those_around
from trioflow._model.turns import Turn
from trioflow.backends.records import InstanceRecord
from trioflow.web._instance.digest import read_turn
from trioflow.web._instance.facts import tag_of

__all__ = ["CommandRow", "Divergence", "Source", "SourceLine", "read_divergence"]

_AROUND = 5  # lines that are shown before and after one
_ROWS = 200
_TURNS = 20  # turns that are replayed at once
_CHUNK = 500  # turns that are read at once
_ID = re.compile(r"\(([a-z]*[0-9.]+:[0-9]+(?:!.+)?)\)$")


class SourceLine(msgspec.Struct, frozen=True):
    """A line of a source file; ``here`` is the one that is meant."""

    number: int
    text: str
    here: bool = False


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Some lines of a source file.

    Attributes:
        file: Its path.
        line: The number of the line that is meant.
        lines: It, and some around it; none if the file cannot be read here.
    """

    file: str
    line: int
    lines: list[SourceLine]


class CommandRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A command of the turn, on both sides.

    Attributes:
        id: Its id.
        recorded: What the history has there, ``""`` for nothing.
        current: What the code gives there, ``""`` for nothing; ``None`` if nobody knows.
        same: Whether these are the same.
        recorded_value: Its arguments or its value, plain data or `Undecodable`.
        current_value: Likewise.
        place: ``file:line`` of the code that gives it now, ``""`` if nobody knows.
    """

    id: str
    recorded: str
    current: str | None
    same: bool
    recorded_value: Any = None
    current_value: Any = None
    place: str = ""


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Why an instance is suspended, or would be, and where.

    Attributes:
        stored: The report with which it is suspended, or ``None``.
        found: The report of the replay here, or ``None`` if the code replays it.
        replay: ``"diverges"``, ``"replays"``, or ``"not tried"`` without a registry that has the
            workflow.
        turn: The number of the turn that is shown.
        task: The path of the task in which the difference is, ``""`` if there is none.
        rows: The commands of that turn: some of them, if there are very many.
        left_out: How many more rows there are.
        before: The last line of the task on which history and code agree; or ``None``.
        now: The line that gives what differs, or at which the task is now; or ``None``.
    """

    stored: SuspendReport | None
    found: SuspendReport | None
    replay: Literal["diverges", "replays", "not tried"]
    turn: int
    task: str
    rows: list[CommandRow]
    left_out: int = 0
    before: Source | None = None
    now: Source | None = None

    @property
    def report(self) -> SuspendReport | None:
        """The newer one of the reports."""
        return self.found or self.stored


async def read_divergence(
    client: Client,
    record: InstanceRecord,
    stored: SuspendReport | None,
    workflow: Workflow[..., Any] | None,
) -> Divergence:
    """Find out where the code leaves the history of an instance's present execution.

    Args:
        client: Its codec, its propagators and its interceptors are used.
        record: The instance's row.
        stored: The report with which it is suspended, if it is.
        workflow: The workflow as it is here, to replay the history with; or ``None``.
    """
    if workflow is not None:
        return await _replayed(client, record, stored, workflow)
    recorded: Sequence[Command] = ()
    turn = 0 if stored is None else stored.turn
    if stored is not None:
        data = await client.backend.turns_from(record.id, record.execution, turn, limit=1)
        read = read_turn(data[0]) if data else None
        recorded = read.commands if isinstance(read, Turn) else ()
    rows = [_row(client, command, command, "") for command in sorted(recorded, key=command_order)]
    if stored is not None and stored.kind == "diverged":
        rows = _with_report(rows, stored)
    return Divergence(
        stored=stored,
        found=None,
        replay="not tried",
        turn=turn,
        task="" if stored is None else stored.task,
        rows=rows[:_ROWS],
        left_out=max(0, len(rows) - _ROWS),
    )


def _with_report(rows: list[CommandRow], report: SuspendReport) -> list[CommandRow]:
    """Put into the rows of a history what a report says of the code."""
    ids = [found[1] for text in (report.recorded, report.current) if (found := _ID.search(text))]
    id = ids[0] if ids else ""
    told: list[CommandRow] = []
    known = False
    for row in rows:
        if row.id == id:
            known = True
            told.append(msgspec.structs.replace(row, current=report.current, same=False))
        elif known:  # what comes after a difference nobody has looked at
            told.append(msgspec.structs.replace(row, current=None, same=False))
        else:
            told.append(row)
    if not known:
        told.append(CommandRow(id=id, recorded=report.recorded, current=report.current, same=False))
    return told


# --- by replay -----------------------------------------------------------------------------------


class _Step(NamedTuple):
    """A command that was given, or a task that was spawned, and the line of the user's code."""

    task: str  # who has done it
    id: str  # the id of the command, or the path of the task
    place: str  # "" if the task has no code of the user's


class _PlacedCommands(Commands):
    """Commands that know which line of the user's code has given each of them."""

    __slots__ = ("steps",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.steps: list[_Step] = []

    def give(self, command: Command) -> None:
        self.steps.append(_Step(command.id.partition(":")[0], command.id, _users_line()))
        super().give(command)

    async def give_and_wait(self, command: Command, *, abandon: bool = False) -> Any:
        self.steps.append(_Step(command.id.partition(":")[0], command.id, _users_line()))
        return await super().give_and_wait(command, abandon=abandon)


class _Spawned(dict[trio.lowlevel.Task, TaskState]):
    """The states of tasks; notes the line of the user's code that spawns each of them."""

    def __init__(self, steps: list[_Step]) -> None:
        super().__init__()
        self._steps = steps

    def __setitem__(self, task: trio.lowlevel.Task, state: TaskState) -> None:
        super().__setitem__(task, state)
        by = "" if state.parent is None else state.parent.path
        self._steps.append(_Step(by, state.path, _users_line()))


class _PlacedExecution(Execution):
    """An execution that knows the lines of its commands, and of its tasks.

    Attributes:
        steps: What was done, in this order.
    """

    commands_class = _PlacedCommands
    __slots__ = ("steps",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.steps = cast("_PlacedCommands", self.commands).steps
        self.loop._runner.states = _Spawned(self.steps)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def places(self) -> dict[str, str]:
        """Return the lines that have given the commands, by their ids.

        If the task of a command has no code of the user's, it is the line that has spawned it.
        """
        found = {step.id: step.place for step in self.steps}
        return {id: place or found.get(id.partition(":")[0], "") for id, place in found.items()}

    def before(self, task: str, different: str, here: str) -> str:
        """Return the last line that was passed on the way to what is different.

        Args:
            task: The path of its task.
            different: The id of the command, which may not have been given.
            here: Its line.
        """
        parts = task.split(".")
        way = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        line, at = "", ""
        for step in self.steps:
            if step.task != at or step.id == different:
                if step.id == different:
                    break
                continue
            if step.place and step.place != here:
                line = step.place
            if step.id in way:  # from here on what its parent does leads elsewhere
                at = step.id
        return line


def _users_line() -> str:
    """Return the line of the user's code that is calling, ``""`` if none of this task is."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        if module == nested.__name__:
            return ""  # outside of it is whoever replays
        if module.partition(".")[0] not in OUR_PACKAGES:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


async def _replayed(
    client: Client,
    record: InstanceRecord,
    stored: SuspendReport | None,
    workflow: Workflow[..., Any],
) -> Divergence:
    guard.install()
    identity = Identity(record.id, record.execution, record.queue, record.priority, record.life)
    execution = _PlacedExecution(
        workflow,
        identity,
        client.codec,
        Caller,
        propagators=client.propagators,
        interceptors=those_around(client.interceptors, "workflow"),
    )
    turn: Turn | None = None
    try:
        first = 0
        while data := await client.backend.turns_from(
            record.id, record.execution, first, limit=_CHUNK
        ):
            for number, each in enumerate(data):
                read = read_turn(each)
                if isinstance(read, Undecodable):
                    return _unreadable(stored, first + number, read)
                turn = read
                execution.replay([turn])
                if number % _TURNS == 0:
                    await anyio.lowlevel.checkpoint()
            first += len(data)
    except Diverged as stop:
        return _diverged(client, stored, stop, execution)
    except NeedsSuspension as stop:
        recorded = () if turn is None else turn.commands
        return _diverged(client, stored, Diverged(stop.report, recorded, recorded), execution)
    finally:
        execution.evict()
    return Divergence(
        stored=stored,
        found=None,
        replay="replays",
        turn=0 if stored is None else stored.turn,
        task="",
        rows=[],
    )


def _unreadable(stored: SuspendReport | None, turn: int, read: Undecodable) -> Divergence:
    report = SuspendReport(
        kind="unreadable history", message=f"turn {turn} cannot be read: {read.why}", turn=turn
    )
    return Divergence(stored=stored, found=report, replay="diverges", turn=turn, task="", rows=[])


def _diverged(
    client: Client, stored: SuspendReport | None, stop: Diverged, execution: _PlacedExecution
) -> Divergence:
    report = stop.report
    places = execution.places()
    was = {command_order(each): each for each in stop.recorded}
    is_now = {command_order(each): each for each in stop.current}
    rows: list[CommandRow] = []
    for key in sorted(was.keys() | is_now.keys()):
        recorded, current = was.get(key), is_now.get(key)
        place = "" if current is None else places.get(current.id, "")
        rows.append(_row(client, recorded, current, place))
    differing = next((row for row in rows if not row.same), None)
    here = report.line if differing is None else differing.place or report.line
    before = execution.before(report.task, "" if differing is None else differing.id, here)
    first = 0 if differing is None else max(0, rows.index(differing) - _ROWS // 2)
    return Divergence(
        stored=stored,
        found=report,
        replay="diverges",
        turn=report.turn,
        task=report.task,
        rows=rows[first : first + _ROWS],
        left_out=max(0, len(rows) - _ROWS),
        before=_source(before),
        now=_source(here),
    )


def _row(
    client: Client, recorded: Command | None, current: Command | None, place: str
) -> CommandRow:
    given = recorded or current
    assert given is not None
    return CommandRow(
        id=given.id,
        recorded=_said(recorded),
        current=_said(current),
        same=_said(recorded) == _said(current),
        recorded_value=_value(client, recorded),
        current_value=_value(client, current),
        place=place,
    )


def _said(command: Command | None) -> str:
    if command is None:
        return ""
    return " ".join(filter(None, (tag_of(command), command_target(command))))


def _value(client: Client, command: Command | None) -> Any:
    if command is None:
        return None
    shown = readable_fact(command, client.codec)
    return next(
        (getattr(shown, name) for name in ("input", "value", "result") if hasattr(shown, name)),
        None,
    )


def _source(place: str) -> Source | None:
    """Return the lines around one of code that has run here."""
    file, _, number = place.rpartition(":")
    if not file or not number.isdecimal():
        return None
    line = int(number)
    text = linecache.getlines(file)
    first = max(1, line - _AROUND)
    lines = [
        SourceLine(at, text[at - 1].rstrip("\n"), at == line)
        for at in range(first, min(len(text), line + _AROUND) + 1)
    ]
    return Source(file=file, line=line, lines=lines)
