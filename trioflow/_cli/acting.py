"""``trioflow cancel``, ``terminate``, ``pause``, … and ``remove``: by ids, or all of a filter."""

from __future__ import annotations

import math
from typing import Any

import click

from trioflow import BulkReport, Client
from trioflow._cli.many import MENDED, OPEN, Act, acting
from trioflow._cli.output import print_id
from trioflow._cli.store import InstanceId, Store, StoreCommand, as_json_option, store_options
from trioflow.backends.records import ENDED

__all__ = ["cancel", "fork", "pause", "remove", "reset", "resume", "retry_now", "terminate"]

_REMOVED_AT_ONCE = 1000

_reason = click.option("--reason", metavar="TEXT", help="Why, for those who look.")


@acting()
@_reason
def cancel(*, reason: str | None) -> Act:
    """Ask instances to end: their code cleans up, and may take its time.

    They are those of the ids, or all that the filters mean; then it asks before.
    """
    return Act("cancel", "Cancel", "cancel requested", OPEN, {"reason": reason})


@acting()
@_reason
def terminate(*, reason: str | None) -> Act:
    """End instances and their sub-workflows at once, without asking their code.

    They are those of the ids, or all that the filters mean.
    """
    done = "terminated"
    return Act("terminate", "Terminate", done, OPEN, {"reason": reason}, destroys=True)


@acting()
@_reason
def pause(*, reason: str | None) -> Act:
    """Suspend instances until they are resumed; their activities go on.

    They are those of the ids, or all that the filters mean; then it asks before.
    """
    return Act("pause", "Pause", "paused", ("running",), {"reason": reason})


@acting()
@click.option(
    "--without",
    metavar="SIGNAL",
    help="Leave out the unread signals of that name, for good; with ids only.",
)
def resume(*, without: str | None) -> Act:
    """Let suspended instances go on, with the code that the workers have now.

    They are those of the ids, or all that the filters mean; then it asks before.
    """
    return Act(
        "resume",
        "Resume",
        "resumed",
        ("suspended",),
        of_one={"without": without},
        unchanged="is not suspended",
    )


@acting("retry-now")
@click.option("--activity", metavar="NAME", help="Only activities of this name.")
def retry_now(*, activity: str | None) -> Act:
    """Let activities that wait for their next attempt begin it at once.

    Those of the instances of the ids, or of all that the filters mean; then it asks before.
    """
    verb, done = "Retry the activities of", "tried again now"
    options = {"activity": activity}
    return Act("retry_now", verb, done, OPEN, options, unchanged="nothing was waiting")


@acting()
@click.option(
    "--turn",
    type=click.IntRange(min=0),
    metavar="N",
    help="The first turn to drop; with ids only.",
)
@_reason
def reset(*, turn: int | None, reason: str | None) -> Act:
    """Let instances go on from before a turn, with the code that the workers have now.

    They are those of the ids, or all that the filters mean and that have failed, are suspended or
    were terminated. Turns are counted from 0, as `trioflow history` shows them. Without `--turn` it
    is the one in which the instance failed, or that does not fit the code. What the dropped turns
    had begun is cancelled. An instance that had ended lives again.
    """
    options = {"reason": reason}
    return Act("reset", "Reset", "reset", MENDED, options, of_one={"turn": turn}, destroys=True)


@click.command(cls=StoreCommand)
@click.argument("id", type=InstanceId())
@click.option("--turn", type=click.IntRange(min=0), metavar="N", help="The first turn to leave.")
@click.option("--id", "new_id", metavar="ID", help="The new one's id; made up by default.")
@store_options
@as_json_option("an object with the id")
def fork(*, store: Store, id: str, turn: int | None, new_id: str | None, as_json: bool) -> None:
    """Start an instance with the first turns of another one, which is left alone."""

    async def begin(client: Client) -> str:
        return (await client.fork(id, turn=turn, new_id=new_id)).id

    print_id(store.run(begin), as_json=as_json)


@acting()
def remove() -> Act:
    """Remove finished instances from the store, with their histories.

    They are those of the ids, or all that the filters mean: `--ended-until 30d`.
    """
    return Act("remove", "Remove", "removed", ENDED, call=_remove_all, destroys=True)


async def _remove_all(client: Client, those: dict[str, Any]) -> BulkReport:
    removed = 0
    rest: dict[str, Any] = {"finished_before": math.inf, **those}
    while number := await client.remove(**rest, limit=_REMOVED_AT_ONCE):
        removed += number
    return BulkReport(removed, 0, None)
