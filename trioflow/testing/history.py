"""Histories in files: export them, replay them with the present code, step through them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import msgspec

from trioflow._client.handle import Handle
from trioflow._codec.values import Codec, JsonCodec
from trioflow._engine import guard
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution, Identity
from trioflow._engine.strict import StrictExecution
from trioflow._engine.suspension import NeedsSuspension
from trioflow._engine.tree import tasks_of
from trioflow._model.events import Started
from trioflow._model.info import SuspendReport, TaskInfo
from trioflow._model.interceptors import Interceptor, those_around
from trioflow._model.propagation import Propagator
from trioflow._model.turns import Turn, decode_turn
from trioflow._model.workflows import Workflow
from trioflow.backends.abc import Backend
from trioflow.backends.records import InstanceRecord
from trioflow.errors import InstanceNotFound, TrioflowError
from trioflow.testing.debugging import stopping
from trioflow.testing.trees import show_tasks

__all__ = ["History", "Replay", "ReplayError", "check_replay", "export_history", "load_history"]

FORMAT = 1
"""The version of the file format; newer ones are refused."""


class ReplayError(TrioflowError, AssertionError):
    """Raised where the code does not replay a history.

    Attributes:
        report: What differs, and where.
    """

    def __init__(self, instance: str, report: SuspendReport) -> None:
        super().__init__(f"instance {instance!r} does not replay: {report.message}")
        self.instance = instance
        self.report = report


class StoredExecution(msgspec.Struct, frozen=True):
    """One execution of a `History`: its number, and its turns in their stored form."""

    number: int
    turns: list[msgspec.Raw]

    def decode(self) -> list[Turn]:
        """Read the turns.

        Raises:
            msgspec.DecodeError: One of them is no turn.
        """
        return [decode_turn(data) for data in self.stored()]

    def stored(self) -> list[bytes]:
        """Return the turns as a store has them, however they are written in a file."""
        return [msgspec.json.format(bytes(turn), indent=-1) for turn in self.turns]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of an instance, as it can be kept in a file.

    Attributes:
        id: The instance's id.
        workflow: The name of its workflow.
        queue: Where it ran.
        priority: Its priority.
        life: What tells it from other instances that had its id.
        executions: Its executions in order, more than one after ``continue_as_new``.
        format: The version of this format.
    """

    id: str
    workflow: str
    executions: list[StoredExecution]
    queue: str = "default"
    priority: int = 0
    life: str = ""
    status: str = ""
    format: int = FORMAT

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, as JSON that can be read and compared line by line."""
        write_json(self, path)


def write_json(value: object, path: str | os.PathLike[str]) -> None:
    """Write something to a file, as JSON that can be read and compared line by line."""
    Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


async def export_record(backend: Backend, record: InstanceRecord) -> History:
    """Read what a store has of an instance."""
    stored = await backend.history(record.id)
    return history_of(record, [(each.number, each.turns) for each in stored])


def history_of(
    record: InstanceRecord, executions: Iterable[tuple[int, Sequence[bytes]]]
) -> History:
    """Return the history of an instance with some of its executions: their numbers and turns."""
    return History(
        id=record.id,
        workflow=record.workflow,
        queue=record.queue,
        priority=record.priority,
        life=record.life,
        status=record.status,
        executions=[
            StoredExecution(number, [msgspec.Raw(turn) for turn in turns])
            for number, turns in executions
        ],
    )


async def export_history(handle: Handle[Any]) -> History:
    """Read an instance's history, so that it can be kept in a file with `History.save`.

    Raises:
        InstanceNotFound: There is no such instance.
    """
    backend = handle.client.backend
    record = await backend.get(handle.id)
    if record is None:
        raise InstanceNotFound(handle.id)
    return await export_record(backend, record)


Source = History | str | os.PathLike[str] | bytes
"""A history, the path of a file with one, or the bytes of such a file."""


def load_history(source: Source) -> History:
    """Read a history.

    Raises:
        OSError: The file cannot be read.
        TrioflowError: It is no history, or in a format of a newer version.
    """
    if isinstance(source, History):
        return source
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        if data.lstrip().startswith(b"["):
            raise msgspec.ValidationError(
                "it is a bundle of several, for check_bundle() or trioflow check --from"
            )
        version = msgspec.json.decode(data, type=_Format).format
        if version > FORMAT:
            raise TrioflowError(
                f"the history has format {version}, this trioflow reads up to {FORMAT}; update it"
            )
        return msgspec.json.decode(data, type=History)
    except msgspec.MsgspecError as exc:
        where = "it" if isinstance(source, bytes) else repr(os.fspath(source))
        raise TrioflowError(f"{where} is no history of an instance: {exc}") from None


class _Format(msgspec.Struct):
    format: int = FORMAT


class Replay:
    """Steps through one execution of a history with the present code.

    Args:
        history: Whose; see `load_history`.
        workflow: The workflow as it is now.
        execution: Which execution; by default the last.
        codec: For its values; by default `JsonCodec`.
        strict: Whether arguments, values of signals and results have to be the same as well. A
            worker compares which commands are given, and no more.
        propagators: Those of the workers, for workflows that read what these take over.
        interceptors: Those of the workers; they are needed if they give commands.

    Attributes:
        turns: The stored turns.
        position: How many of them were made.

    Example:
        >>> with Replay("order-7.json", checkout) as replay:  # doctest: +SKIP
        ...     for turn in replay:
        ...         print(replay.position, turn.events, replay.tasks())
    """

    def __init__(
        self,
        history: Source,
        workflow: Workflow[..., Any],
        *,
        execution: int | None = None,
        codec: Codec | None = None,
        strict: bool = True,
        propagators: Sequence[Propagator] = (),
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self.history = load_history(history)
        found = {each.number: each for each in self.history.executions}
        number = max(found, default=0) if execution is None else execution
        if number not in found:
            raise TrioflowError(
                f"the history of {self.history.id!r} has no execution {number}; it has "
                f"{', '.join(map(str, found)) or 'none'}"
            )
        self.number = number
        self.turns = found[number].decode()
        of = _workflow_of(self.turns) or self.history.workflow
        if workflow.name != of:
            raise TrioflowError(f"this history is of workflow {of!r}, not {workflow.name!r}")
        guard.install()
        self.position = 0
        self._execution = (StrictExecution if strict else Execution)(
            workflow,
            Identity(
                self.history.id,
                number,
                self.history.queue,
                self.history.priority,
                self.history.life,
            ),
            JsonCodec() if codec is None else codec,
            Caller,
            propagators=propagators,
            interceptors=those_around(interceptors, "workflow"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Turn]:
        while self.position < len(self.turns):
            yield self.step()

    def step(self) -> Turn:
        """Make the next turn and compare it with the stored one; return that.

        Raises:
            ReplayError: They differ.
            IndexError: There is no further turn.
        """
        turn = self.turns[self.position]
        try:
            self._execution.replay([turn])
        except NeedsSuspension as stop:
            raise ReplayError(self.history.id, stop.report) from None
        self.position += 1
        return turn

    def debug(
        self,
        *,
        turn: int | None = None,
        task: str | None = None,
        turns: int | None = None,
        debugger: Callable[[FrameType], object] | None = None,
    ) -> Turn | None:
        """Make turns until code of yours runs in a task, and stop there in a debugger.

        Args:
            turn: The first turn in which to stop, from 0; by default the next one.
            task: The path of the task, ``"0.1"``, as `tasks` and reports of divergences say it; by
                default any.
            turns: How many turns are made at most; by default all that are left.
            debugger: Is called with a frame, to stop at its next line; by default
                ``pdb.Pdb().set_trace``.

        Returns:
            The turn in which it has stopped, once it is over; ``None`` if the task ran in none of
            those that were made.

        Raises:
            ReplayError: As `step`.
        """
        end = len(self.turns) if turns is None else min(len(self.turns), self.position + turns)
        while self.position < end:
            if turn is not None and self.position < turn:
                self.step()
                continue
            with stopping(self._execution, task, debugger) as stop:
                made = self.step()
            if stop.reached:
                return made
        return None

    def show(self) -> str:
        """Return the last turn and the tree of tasks after it as text, without the values."""
        if not self.position:
            return "no turn was made yet"
        turn = self.turns[self.position - 1]
        lines = [f"turn {self.position - 1} of {len(self.turns)}, at {turn.now:.3f}"]
        lines += [f"  event {_said(event)}" for event in turn.events]
        lines += [f"  command {_said(command)}" for command in turn.commands]
        if turn.outcome is not None:
            lines.append(f"  outcome {_said(turn.outcome)}")
        return "\n".join([*lines, *(f"  task {line}" for line in show_tasks(self.tasks()))])

    def tasks(self) -> list[TaskInfo]:
        """The tasks after the last turn: where each one waits, for what, and until when."""
        return tasks_of(self._execution)

    def close(self) -> None:
        """Unwind the workflow's code, without effects. Idempotent."""
        self._execution.evict()


def check_replay(
    history: Source,
    workflow: Workflow[..., Any],
    *,
    codec: Codec | None = None,
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
    breakpoint_at: int | None = None,
    breakpoint_task: str | None = None,
) -> None:
    """Replay every execution of a history with the present code.

    Args:
        history: See `load_history`.
        workflow: The workflow as it is now.
        codec: For its values; by default `JsonCodec`.
        propagators: Those of the workers, for workflows that read what these take over.
        interceptors: Those of the workers; they are needed if they give commands.
        breakpoint_at: Stop in the debugger before this turn of the last execution, from 0.
        breakpoint_task: Stop in the code of the task with this path (``"0.1"``) instead, in that
            turn or the first later one in which it runs.

    Raises:
        ReplayError: The code gives other commands, or ends otherwise; the error has the report.
        TrioflowError: It is no history, or that of another workflow.
    """
    loaded = load_history(history)
    for stored in loaded.executions:
        last = stored is loaded.executions[-1]
        with Replay(
            loaded,
            workflow,
            execution=stored.number,
            codec=codec,
            propagators=propagators,
            interceptors=interceptors,
        ) as replay:
            while replay.position < len(replay.turns):
                if last and breakpoint_task is not None:
                    replay.debug(turn=breakpoint_at, task=breakpoint_task)
                    breakpoint_task = None
                    continue
                if last and replay.position == breakpoint_at:
                    breakpoint()  # noqa: T100  # asked for
                replay.step()


def _workflow_of(turns: Sequence[Turn]) -> str | None:
    """Return whose execution it is: an earlier life of the id may have been another workflow's."""
    events = turns[0].events if turns else ()
    return next((each.workflow for each in events if isinstance(each, Started)), None)


def _said(thing: msgspec.Struct) -> str:
    names = (getattr(thing, name, "") for name in ("activity", "workflow", "name", "id"))
    what = str(type(thing).__struct_config__.tag)
    return " ".join([what, *(name for name in names if isinstance(name, str) and name)])
