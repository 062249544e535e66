"""The tree of an instance's tasks, drawn."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from rich.tree import Tree

from trioflow import TaskInfo
from trioflow._cli.output import place, shown, time_of

__all__ = ["draw"]


def draw(head: Text, tasks: Sequence[TaskInfo]) -> Tree:
    """Draw tasks under a heading: each below the one that spawned it."""
    tree = Tree(head, guide_style="dim")
    branches: dict[str | None, Tree] = {None: tree}
    for task in tasks:
        branches[task.path] = branches.get(task.parent, tree).add(_label(task))
    return tree


def _label(task: TaskInfo) -> Text:
    label = Text.assemble((shown(task.name), "bold"), " waits for ", shown(task.waits_for))
    if task.since is not None:
        label.append(f", since {time_of(task.since)}")
    if task.until is not None:
        label.append(f", until {time_of(task.until)}")
    if task.line:
        label.append(f"  {shown(place(task.line))}", "dim")
    return label
