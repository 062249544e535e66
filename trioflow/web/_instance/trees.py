"""Trees: of the tasks of an instance, and of the instances around it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trioflow import Client, TaskInfo
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import InstanceRecord

__all__ = ["Family", "Relative", "TaskNode", "read_family", "task_tree"]

_ALIKE = 12  # tasks of one nursery that wait in the same place are shown so often
_TASKS = 2000  # tasks that are shown at most
_ANCESTORS = 30


# --- tasks -------------------------------------------------------------------------------------


class TaskNode(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A task, and those that it spawned.

    Attributes:
        task: What is known of it.
        file: The last part of the file in which it waits, with the line.
        children: Those that it spawned.
        left_out: How many tasks below it are not shown.
    """

    task: TaskInfo
    file: str
    children: list[TaskNode] = []
    left_out: int = 0


def task_tree(tasks: Sequence[TaskInfo]) -> list[TaskNode]:
    """Return tasks as a tree.

    Where very many tasks of one nursery wait in the same place, most of them are left out.

    Args:
        tasks: Parents before those that they spawned.
    """
    nodes: dict[str, TaskNode] = {}
    roots: list[TaskNode] = []
    alike: dict[tuple[str | None, str, str], int] = {}
    hidden: dict[str, str] = {}  # the paths of what is not shown, and of who counts it
    for task in tasks:
        over = hidden.get(task.parent or "")
        key = (task.parent, task.name, task.line)
        alike[key] = alike.get(key, 0) + 1
        if over is None and (alike[key] > _ALIKE or len(nodes) >= _TASKS):
            over = task.parent if task.parent in nodes else next(iter(nodes))
        if over is not None:
            hidden[task.path] = over
            nodes[over].left_out += 1
            continue
        node = TaskNode(
            task=task,
            file=task.line.replace("\\", "/").rpartition("/")[2],
            children=[],
        )
        nodes[task.path] = node
        parent = nodes.get(task.parent or "")
        (roots if parent is None else parent.children).append(node)
    return roots


# --- instances -----------------------------------------------------------------------------------


class Relative(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An instance in a tree of parents and children.

    Attributes:
        id: Its id.
        workflow: Its workflow's name, ``""`` if it is not there any more.
        status: Its status, likewise.
        created_at: Epoch seconds.
        finished_at: Likewise, or ``None``.
        command: The id of the command of its parent that started it, ``""`` for none.
        children: Those of its children that are shown, the newest first.
        more: Whether it has more children than these.
    """

    id: str
    workflow: str = ""
    status: str = ""
    created_at: float = 0.0
    finished_at: float | None = None
    command: str = ""
    children: list[Relative] = []
    more: bool = False


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """The instances around one.

    Attributes:
        ancestors: Its parent last, the first of all first.
        cut: Whether there are even more above those.
        own: It, with its children.
        after: The id after which the next page of children begins, or ``None``.
        before: Whether there are children before those on this page.
    """

    ancestors: list[Relative]
    own: Relative
    after: str | None = None
    before: bool = False
    cut: bool = False


async def read_family(
    client: Client,
    record: InstanceRecord,
    *,
    after: str | None = None,
    limit: int = 50,
    grandchildren: int = 5,
) -> Family:
    """Read the instances around one.

    Args:
        client: To read with.
        record: The row of the one.
        after: The id of the child after which to go on.
        limit: How many children are read at most.
        grandchildren: How many children of each of these are read; 0 for none.

    Raises:
        InstanceNotFound: ``after`` has been removed.
    """
    backend = client.backend
    ancestors: list[Relative] = []
    seen = {record.id}
    up = record
    while up.parent is not None and len(ancestors) < _ANCESTORS and up.parent.instance not in seen:
        ref = up.parent
        found = await backend.get(ref.instance)
        if found is None or (ref.life and found.life and found.life != ref.life):
            ancestors.append(Relative(id=ref.instance))
            break
        seen.add(ref.instance)
        ancestors.append(_relative(found))
        up = found
    own = _relative(record)
    children = await backend.list(InstanceFilter(parent=record.id), limit=limit + 1, after=after)
    own.more = len(children) > limit
    own.children = [_relative(child) for child in children[:limit]]
    for child in own.children if grandchildren else ():
        below = await backend.list(InstanceFilter(parent=child.id), limit=grandchildren + 1)
        child.children = [_relative(each) for each in below[:grandchildren]]
        child.more = len(below) > grandchildren
    return Family(
        ancestors=ancestors[::-1],
        own=own,
        after=own.children[-1].id if own.more else None,
        before=after is not None,
        cut=len(ancestors) >= _ANCESTORS,
    )


def _relative(record: InstanceRecord) -> Relative:
    return Relative(
        id=record.id,
        workflow=record.workflow,
        status=record.status,
        created_at=record.created_at,
        finished_at=record.finished_at,
        command="" if record.parent is None else record.parent.command,
        children=[],
    )
