"""The tree of an instance's tasks: asked of a worker, or replayed here, and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.text import Text
from rich.tree import Tree

from trioflow import Client, TaskInfo, Workflow
from trioflow._cli.output import place, shown, time_of
from trioflow.testing import Replay, export_history

__all__ = ["ShownTask", "draw", "replayed_tasks", "with_holders", "worker_tasks"]

_SHARED = ("shared lock:", "shared semaphore:")  # what a task waits for, see `TaskInfo`


class ShownTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task, as `TaskInfo` has it, and since when it waits there; ``None`` if nobody has seen."""

    path: str
    parent: str | None
    name: str
    waits_for: str
    line: str
    until: float | None
    since: float | None = None


async def worker_tasks(client: Client, id: str, timeout: float) -> list[ShownTask]:
    """Ask a worker; errors as `Handle.tasks`."""
    found = await client.handle(id).tasks(timeout=timeout)
    return [_shown(task, None) for task in found]


async def replayed_tasks(client: Client, id: str, workflow: Workflow[..., Any]) -> list[ShownTask]:
    """Replay the last execution with the code of this process, and look after each turn.

    Raises:
        ReplayError: The code does not replay the history.
        TrioflowError: It is the history of another workflow.
    """
    history = await export_history(client.handle(id))
    waits: dict[str, tuple[TaskInfo, float]] = {}
    if not history.executions:
        return []
    with Replay(history, workflow, codec=client.codec, strict=False) as replay:
        for turn in replay:
            before, waits = waits, {}
            for task in replay.tasks():
                known = before.get(task.path)
                same = known is not None and known[0] == task
                waits[task.path] = (task, known[1] if known is not None and same else turn.now)
    return [_shown(task, since) for task, since in waits.values()]


async def with_holders(client: Client, tasks: Sequence[ShownTask]) -> list[ShownTask]:
    """Say of tasks that wait for a lock or a semaphore which instances hold it."""
    known: list[ShownTask] = []
    for task in tasks:
        said = task
        if task.waits_for.startswith(_SHARED):
            state = await client.backend.shared_state(task.waits_for.removeprefix("shared "))
            if state.holders:
                holders = ", ".join(dict.fromkeys(state.holders))
                waits_for = f"{task.waits_for}, held by {holders}"
                said = msgspec.structs.replace(task, waits_for=waits_for)
        known.append(said)
    return known


def _shown(task: TaskInfo, since: float | None) -> ShownTask:
    return ShownTask(**msgspec.structs.asdict(task), since=since)


def draw(head: Text, tasks: Sequence[ShownTask]) -> Tree:
    """Draw tasks under a heading: each below the one that spawned it."""
    tree = Tree(head, guide_style="dim")
    branches: dict[str | None, Tree] = {None: tree}
    for task in tasks:
        branches[task.path] = branches.get(task.parent, tree).add(_label(task))
    return tree


def _label(task: ShownTask) -> Text:
    label = Text.assemble((shown(task.name), "bold"), " waits for ", shown(task.waits_for))
    if task.since is not None:
        label.append(f", since {time_of(task.since)}")
    if task.until is not None:
        label.append(f", until {time_of(task.until)}")
    if task.line:
        label.append(f"  {shown(place(task.line))}", "dim")
    return label
