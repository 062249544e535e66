"""Ids of tasks and commands: making, sorting, printing and parsing them.

Both are structural: they say where in the tree of tasks something is, so that replay finds it
again, and a step that is added to one branch of a workflow does not shift the ids of its siblings.

::

    task     "0.2"          the third task that the main task spawned
    command  "0.2:3"        the fourth command of that task
    marker   "0.2:3!fraud"  a marker in front of that command, which it does not count

A task's path begins with its root, the number of a task that nobody spawned. ``"0"`` is the
workflow's main task. The engine starts roots of its own: ``"1"``, ``"2"``, … clean up async
generators, and a letter in front keeps another
kind of them apart: ``"u7"`` runs the handler of the seventh update.

Histories, activities and messages hold ids as text, and so does whoever only compares them. Nobody
but this module takes the text apart or puts it together.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from trioflow._codec.limits import COMMAND_LENGTH
from trioflow.errors import ArgumentError

__all__ = [
    "HANDLER_KIND",
    "MAIN_TASK",
    "CommandId",
    "IdOrder",
    "TaskIds",
    "TaskPath",
    "check_command_id",
    "derived_id",
    "order_of",
]

MAIN_TASK = "0"
"""The path of a workflow's main task."""

HANDLER_KIND = "u"
"""The letter of the roots in which handlers of updates run."""

_LEGIBLE = 120  # characters of a derived id; a longer one ends in a digest
_KEPT = 60  # characters that are kept before the digest

_FORM = re.compile(r"([a-z]*)([0-9]+(?:\.[0-9]+)*):([0-9]+)(?:!(.+))?", re.DOTALL)

IdOrder: TypeAlias = tuple[str, tuple[int, ...], int, bool, str]
"""The sort key of an id: by task, then in the order in which a task gave its commands."""


class TaskPath(NamedTuple):
    """The path of a task in its execution's tree of tasks; sorts before its descendants.

    Attributes:
        kind: Letters that tell some of the engine's own roots from others; ``""`` for none.
        numbers: That of the root, and for each level below it the index of the spawn, from 0.
    """

    kind: str
    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return self.kind + ".".join(map(str, self.numbers))


@dataclass(frozen=True, slots=True)
class CommandId:
    """The id of a command, taken apart.

    Attributes:
        task: The task that gave it.
        number: How many commands that task had given before.
        marker: The name of a marker, which has its place among the commands and is not counted;
            ``""`` for a command that is.
    """

    task: TaskPath
    number: int
    marker: str = ""

    @classmethod
    def parse(cls, text: str) -> CommandId:
        """Parse an id.

        Raises:
            ValueError: It is none.
        """
        kind, numbers, number, _, marker = order_of(text)
        return cls(TaskPath(kind, numbers), number, marker)

    def __str__(self) -> str:
        text = f"{self.task}:{self.number}"
        return f"{text}!{self.marker}" if self.marker else text

    @property
    def order(self) -> IdOrder:
        """The sort key, as `order_of` returns it for the text."""
        return self.task.kind, self.task.numbers, self.number, not self.marker, self.marker

    def __lt__(self, other: CommandId) -> bool:
        return self.order < other.order


def order_of(text: str) -> IdOrder:
    """Return the sort key of a command's id.

    Raises:
        ValueError: The text is no id of a command.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no id of a command")
    kind, path, number, marker = found.groups("")
    # A marker comes before the command whose number it has.
    return kind, tuple(map(int, path.split("."))), int(number), not marker, marker


def check_command_id(text: str, what: str) -> str:
    """Return the id of a command if every store takes it.

    Raises:
        ArgumentError: The task that calls ``what`` is nested too deeply.
    """
    if len(text) > COMMAND_LENGTH:
        raise ArgumentError(
            f"{what} is called in a task that is nested too deeply: its path has "
            f"{len(CommandId.parse(text).task.numbers)} levels and {len(text):,} characters, the "
            f"limit is {COMMAND_LENGTH}; start the tasks from fewer nurseries, or call a "
            "sub-workflow"
        )
    return text


class TaskIds:
    """Counts one task's commands and spawns, and makes their ids.

    Args:
        parent: Those of the spawner; ``None`` for a root.
        index: How many tasks the spawner had spawned before; for a root, its number.
        kind: For a root, its letters; see `TaskPath`.

    Attributes:
        spawned: How many tasks this one has spawned.
        commands: How many commands it has given.
        levels: How many numbers the path has.
    """

    __slots__ = ("_index", "_parent", "_path", "commands", "levels", "spawned")

    def __init__(self, parent: TaskIds | None, index: int, kind: str = "") -> None:
        self._parent = parent
        self._index = index
        if parent is None:
            self._path, self.levels = f"{kind}{index}", 1
        else:
            self._path, self.levels = "", parent.levels + 1
        self.spawned = 0
        self.commands = 0

    @property
    def path(self) -> str:
        """The task's path, ``"0.2"``."""
        if not self._path:  # most tasks never need it
            parent = self._parent
            assert parent is not None
            self._path = f"{parent._path or parent.path}.{self._index}"  # noqa: SLF001  # one of us
        return self._path

    @property
    def parent(self) -> TaskIds | None:
        """Those of the task that spawned this one, ``None`` for a root."""
        return self._parent

    def next_id(self) -> str:
        """Count a command of this task and return its id."""
        number = self.commands
        self.commands = number + 1
        return f"{self._path or self.path}:{number}"

    def marker_id(self, name: str) -> str:
        """Return the id of a marker in front of the next command; it is not counted."""
        return f"{self._path or self.path}:{self.commands}!{name}"


def derived_id(instance: str, execution: int, command_id: str) -> str:
    """Derive a sub-workflow's id from its parent's id and the command's: ``order-7/0:0``.

    After the last slash is which call it is, of which execution if that is not the first:
    ``order-7/2:0:0``. So children of two parents never get the same id. Some levels deep it is
    readable. Beyond that its end is a digest, so that no depth of nesting reaches the limit of a
    store.
    """
    call = command_id if execution == 1 else f"{execution}:{command_id}"
    whole = f"{instance}/{call}"
    if len(whole) <= _LEGIBLE:
        return whole
    digest = hashlib.blake2b(whole.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{whole[:_KEPT]}~{digest}"
