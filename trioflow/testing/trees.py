"""The tree of a workflow's tasks as text."""

from __future__ import annotations

from datetime import UTC, datetime

from trioflow._model.info import TaskInfo

__all__ = ["show_tasks"]


def show_tasks(tasks: list[TaskInfo]) -> list[str]:
    """Return the tree of tasks as lines of text."""
    lines: list[str] = []
    for task in tasks:
        depth = task.path.count(".")
        where = f", at {task.line}" if task.line else ""
        until = f", until {_time(task.until)}" if task.until is not None else ""
        lines.append(
            f"{'  ' * depth}{task.path} {task.name} waits for {task.waits_for}{where}{until}"
        )
    return lines


def _time(seconds: float) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):  # further away than the calendar goes
        return f"{seconds:.0f}"
    return moment.replace(tzinfo=None).isoformat(" ", "milliseconds") + "Z"
