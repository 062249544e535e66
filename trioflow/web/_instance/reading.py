"""What the pages of an instance show, and the JSON API too: from a client to frozen structs.

Nothing here fails because of what is stored: a value that cannot be decoded is an `Undecodable`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from starlette.exceptions import HTTPException

from trioflow import (
    Client,
    Description,
    InstanceNotFound,
    InstanceSuspended,
    NoWorkerAnswered,
    Registry,
    TaskInfo,
    TrioflowError,
    Workflow,
)
from trioflow._client.description import ActivityDescription, describe
from trioflow._client.executions import describe_executions
from trioflow._codec.failures.failures import Failure
from trioflow._model.limits import Limit, Limits
from trioflow._registry import known_workflows
from trioflow.backends.records import ENDED, InstanceRecord
from trioflow.testing.history import ReplayError
from trioflow.testing.tasks import replayed_tasks
from trioflow.web._instance.digest import Digest, digest_of
from trioflow.web._instance.divergence import Divergence, read_divergence
from trioflow.web._instance.facts import Fact, Wanted
from trioflow.web._instance.history import HistoryPage, read_page
from trioflow.web._instance.timeline import Timeline, timeline_of
from trioflow.web._instance.trees import Family, TaskNode, read_family, task_tree

__all__ = [
    "ExecutionView",
    "InstanceView",
    "PendingActivity",
    "TasksView",
    "family_of",
    "history_of",
    "instance_of",
    "suspension_of",
    "tasks_of",
    "timeline_of_instance",
]

_ASKING = 2.0  # seconds in which a worker has to answer


class PendingActivity(msgspec.Struct, frozen=True, kw_only=True):
    """An activity that is not finished, and the limits that it may have to wait for.

    Attributes:
        activity: What is known of it.
        limits: Those that hold for it.
    """

    activity: ActivityDescription
    limits: list[Limit]


class ExecutionView(msgspec.Struct, frozen=True, kw_only=True):
    """An execution of an id, the present one included.

    Attributes:
        number: From 1; it goes on counting when the id is used again.
        life: Which instance it belongs to.
        workflow: The workflow's name.
        status: How it ended, or how it is.
        started_at: Epoch seconds, or ``None`` where that is not known any more.
        ended_at: Epoch seconds, or ``None``.
        turns: How many turns it has.
        failure: Why it failed, or ``None``.
        present: Whether it is the last one.
        result: What it returned, if it completed.
        reason: Why it was cancelled, if somebody said.
    """

    number: int
    life: str
    workflow: str
    status: str
    started_at: float | None
    ended_at: float | None
    turns: int
    failure: Failure | None = None
    present: bool = False
    result: Any = None
    reason: str | None = None


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an instance at one moment.

    Attributes:
        instance: As a client describes it.
        life: What tells it from other instances that had or will have its id.
        executions: All of its id, in order.
        pending: Its unfinished activities, with the limits that hold for them.
        limit: That of its workflow, if it has one.
        now: When this was read, by the store's clock.
    """

    instance: Description
    life: str
    executions: list[ExecutionView]
    pending: list[PendingActivity]
    limit: Limit | None
    now: float

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.instance.status in ENDED


class TasksView(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of an instance.

    Attributes:
        tasks: As they were told, parents before those that they spawned.
        tree: The same as a tree.
        by: Who has told: a ``"worker"`` that was asked, or a ``"replay"``; ``""`` for nobody.
        trouble: Why nobody could, for people.
    """

    tasks: list[TaskInfo]
    tree: list[TaskNode]
    by: Literal["worker", "replay", ""]
    trouble: str = ""


async def record_of(client: Client, id: str) -> InstanceRecord:
    """Return an instance's row.

    Raises:
        InstanceNotFound: There is no such instance.
    """
    record = await client.backend.get(id)
    if record is None:
        raise InstanceNotFound(id)
    return record


async def instance_of(client: Client, id: str) -> InstanceView:
    """Read all that is known of an instance, but for its history.

    Raises:
        InstanceNotFound: There is no such instance.
    """
    backend = client.backend
    record = await record_of(client, id)
    tasks = [] if record.status in ENDED else await backend.activities(id)
    kept = [one for one in await backend.executions(id) if one.record.execution < record.execution]
    limits = await backend.limits() if record.status not in ENDED else Limits()
    earlier = describe_executions(kept, client.codec)
    described = describe(record, tasks, client.codec)
    described = msgspec.structs.replace(described, earlier=earlier)
    return InstanceView(
        instance=described,
        life=record.life,
        executions=_executions(described, record.life),
        pending=[
            PendingActivity(activity=each, limits=limits.of_activity(each.queue, each.activity))
            for each in described.activities
        ],
        limit=limits.of_workflow(record.workflow),
        now=backend.now(),
    )


def _executions(one: Description, life: str) -> list[ExecutionView]:
    found = [
        ExecutionView(
            number=each.number,
            life=each.life,
            workflow=each.workflow,
            status=each.status,
            started_at=each.started_at,
            ended_at=each.ended_at,
            turns=each.turns,
            failure=each.failure,
            result=each.result,
            reason=each.reason,
        )
        for each in one.earlier
    ]
    before = one.earlier[-1] if one.earlier else None
    started: float | None = one.created_at
    if before is not None and before.life == life:
        started = before.ended_at
    elif before is None and one.execution > 1:
        started = None
    present = ExecutionView(
        number=one.execution,
        life=life,
        workflow=one.workflow,
        status=one.status,
        started_at=started,
        ended_at=one.finished_at,
        turns=one.turns,
        failure=one.failure,
        present=True,
        result=one.result,
        reason=one.reason,
    )
    return [*found, present]


def _chosen(view: InstanceView, execution: int | None) -> ExecutionView:
    """Return the execution of that number, by default the present one.

    Raises:
        HTTPException: There is none.
    """
    if execution is None:
        return view.executions[-1]
    for each in view.executions:
        if each.number == execution:
            return each
    numbers = ", ".join(str(each.number) for each in view.executions[-20:])
    raise HTTPException(
        404, f"instance {view.instance.id!r} has no execution {execution}; it has {numbers}"
    )


async def _digest(client: Client, view: InstanceView, chosen: ExecutionView) -> Digest:
    return await digest_of(client, view.instance.id, chosen.life, chosen.number)


async def history_of(  # noqa: PLR0917 - which, and which part
    client: Client,
    view: InstanceView,
    execution: int | None = None,
    wanted: Wanted | None = None,
    first: int = 0,
    limit: int = 100,
    *,
    turn: int | None = None,
    backwards: bool = False,
) -> HistoryPage:
    """Read a part of an execution's history.

    Args:
        client: To read with.
        view: The instance.
        execution: Which execution; by default the present one.
        wanted: Which lines; by default all.
        first: How many of them to leave out.
        limit: How many to give at most.
        turn: Begin with this turn instead.
        backwards: Whether the last line comes first; then ``first`` counts from the end.

    Raises:
        HTTPException: There is no such execution.
    """
    chosen = _chosen(view, execution)
    digest = await _digest(client, view, chosen)
    wanted = wanted or Wanted()
    if turn is not None:
        first = digest.place(turn, wanted)
        backwards = False
    return await read_page(
        client,
        view.instance.id,
        chosen.number,
        digest,
        wanted,
        first,
        limit,
        backwards=backwards,
    )


async def fact_at(
    client: Client, view: InstanceView, execution: int, turn: int, index: int
) -> Fact:
    """Read one line of a history.

    Raises:
        HTTPException: There is none.
    """
    chosen = _chosen(view, execution)
    digest = await _digest(client, view, chosen)
    # Lines are in the order of turns.
    before = digest.place(turn, Wanted())
    if before + index < len(digest.lines) and digest.lines[before + index].turn == turn:
        page = await read_page(
            client, view.instance.id, chosen.number, digest, Wanted(), before + index, 1
        )
        return page.facts[0]
    raise HTTPException(404, f"there is nothing at turn {turn}, line {index}")


async def timeline_of_instance(
    client: Client,
    view: InstanceView,
    execution: int | None = None,
    first: int = 0,
    limit: int = 500,
) -> Timeline:
    """Read what an execution did over time.

    Args:
        client: To read with.
        view: The instance.
        execution: Which execution; by default the present one.
        first: How many bars to leave out.
        limit: How many to give at most.

    Raises:
        HTTPException: There is no such execution.
    """
    chosen = _chosen(view, execution)
    digest = await _digest(client, view, chosen)
    return timeline_of(
        digest.reader,
        now=view.now,
        ended=not chosen.present or view.ended,
        activities=view.instance.activities if chosen.present else (),
        wakes_at=view.instance.wakes_at if chosen.present else None,
        first=first,
        limit=limit,
    )


def workflow_of(registry: Registry | None, name: str) -> Workflow[..., Any] | None:
    """Return the workflow of that name, if there is a registry that has it."""
    return None if registry is None else known_workflows(registry).get(name)


async def tasks_of(
    client: Client, view: InstanceView, registry: Registry | None, *, timeout: float = _ASKING
) -> TasksView:
    """Find out where the tasks of an instance wait, for what, since when and until when.

    A worker is asked; if none answers, and ``registry`` has the workflow, the history is replayed.

    Args:
        client: To read with.
        view: The instance.
        registry: The workflows whose code may be run here, or ``None``.
        timeout: Seconds to wait for a worker.
    """
    one = view.instance
    if view.ended:
        return TasksView(tasks=[], tree=[], by="", trouble=f"It has {one.status}: no task is left.")
    if not one.turns and one.execution == 1:
        return TasksView(tasks=[], tree=[], by="", trouble="It has not begun.")
    workflow = workflow_of(registry, one.workflow)
    tasks: list[TaskInfo] = []
    by: Literal["worker", "replay", ""] = ""
    trouble = ""
    try:
        tasks, by = await client.handle(one.id).tasks(timeout=timeout), "worker"
    except (NoWorkerAnswered, InstanceSuspended) as error:
        trouble = str(error)
    if not by and workflow is not None:
        try:
            tasks, by = await replayed_tasks(client, one.id, workflow), "replay"
            trouble = ""
        except ReplayError as error:
            trouble = error.report.message
        except TrioflowError as error:
            trouble = str(error)
    return TasksView(tasks=tasks, tree=task_tree(tasks), by=by, trouble=trouble)


async def family_of(
    client: Client, id: str, after: str | None = None, limit: int = 50, grandchildren: int = 5
) -> Family:
    """Read the parents and the children of an instance.

    Args:
        client: To read with.
        id: The instance.
        after: The id of the child after which to go on.
        limit: How many children are given at most.
        grandchildren: How many children of each of these.

    Raises:
        InstanceNotFound: There is no such instance, or ``after`` has been removed.
    """
    record = await record_of(client, id)
    return await read_family(client, record, after=after, limit=limit, grandchildren=grandchildren)


async def suspension_of(
    client: Client, view: InstanceView, registry: Registry | None
) -> Divergence:
    """Find out why an instance is suspended, and where the code leaves its history.

    Args:
        client: To read with.
        view: The instance.
        registry: The workflows whose code may be run here, or ``None``.
    """
    record = await record_of(client, view.instance.id)
    # To replay a long history takes seconds.
    known = workflow_of(registry, record.workflow)
    workflow = known if view.instance.suspension is not None else None
    return await read_divergence(client, record, view.instance.suspension, workflow)
