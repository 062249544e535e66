"""What to say of a test in which nothing will ever happen any more."""

from __future__ import annotations

from trioflow._client.client import Client
from trioflow._client.holders import with_holders
from trioflow._registry import Registry, known_workflows
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import InstanceRecord
from trioflow.errors import TrioflowError
from trioflow.testing.history import History, Replay, export_record
from trioflow.testing.trees import show_tasks

__all__ = ["Stuck", "report_of"]


class Stuck(TrioflowError, AssertionError):
    """Raised where a test waits though nothing can happen any more; shows what waits for what."""


async def report_of(client: Client, registry: Registry, why: str) -> str:
    """Say where the unfinished instances of a store wait, after a line that says why it is told."""
    backend = client.backend
    unfinished = InstanceFilter(status=("running", "suspended"))
    lines = [why]
    records = await backend.list(unfinished, limit=20)
    if not records:
        lines.append("Every instance has ended: it is the test itself that waits for something.")
    for record in records:
        lines.append(f"instance {record.id!r} ({record.workflow}) is {record.status}:")
        history = await export_record(backend, record)
        lines += [f"  {line}" for line in await _tasks(client, registry, record, history)]
        for task in await backend.activities(record.id):
            lines.append(
                f"  activity {task.activity!r} ({task.key.command}) of queue {task.queue!r}, "
                f"attempt {task.attempt}, has not ended"
            )
    return "\n".join(lines)


async def _tasks(
    client: Client, registry: Registry, record: InstanceRecord, history: History
) -> list[str]:
    workflow = known_workflows(registry).get(record.workflow)
    if workflow is None:
        return ["its workflow is not registered here"]
    if not record.turns:
        return ["it has not begun"]
    try:
        with Replay(
            history,
            workflow,
            codec=client.codec,
            propagators=client.propagators,
            interceptors=client.interceptors,
        ) as replay:
            for _ in replay:
                pass
            found = replay.tasks()
    except TrioflowError as exc:  # also `ReplayError`
        return [str(exc)]
    return show_tasks(await with_holders(client.backend, found))
