"""``trioflow cancel``, ``terminate``, ``pause``, … and ``remove``: by ids, or all of a filter."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import click

from trioflow import BulkReport, Client, Handle, InstanceError
from trioflow._cli.many import OPEN, Act, by_filters, by_method, chosen_or_ids, do_to_all
from trioflow._cli.output import shown
from trioflow._cli.store import InstanceId, Store, StoreCommand, store_options
from trioflow.backends.records import ENDED

__all__ = ["cancel", "fork", "pause", "remove", "reset", "resume", "retry_now", "terminate"]

_REMOVED_AT_ONCE = 1000

_ids = click.argument("ids", type=InstanceId(), nargs=-1, required=True, metavar="ID...")
_reason = click.option("--reason", metavar="TEXT", help="Why, for those who look.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


def _do_each(
    store: Store,
    ids: tuple[str, ...],
    act: Callable[[Handle[Any]], Awaitable[object]],
    done: str,
) -> None:
    """Do something with each instance; one that refuses it does not keep it from the others."""

    async def main(client: Client) -> None:
        for id in ids:
            try:
                changed = await act(client.handle(id))
            except InstanceError as error:
                if len(ids) == 1:
                    raise
                click.echo(f"Error: {shown(str(error))}", err=True)
                refused.append(id)
            else:
                said = "nothing was waiting" if changed is False else done
                click.echo(f"{shown(id)}: {said}")

    refused: list[str] = []
    store.run(main)
    if refused:
        raise click.ClickException(f"{len(refused)} of {len(ids)} instances were left as they are")


def _ask(ids: tuple[str, ...], what: str, *, yes: bool) -> None:
    if not yes:
        named = shown(ids[0]) if len(ids) == 1 else f"{len(ids)} instances"
        click.confirm(f"{what} {named}?", abort=True, err=True)


@click.command(cls=StoreCommand)
@by_filters
@_reason
@_yes
@store_options
def cancel(
    *,
    store: Store,
    ids: tuple[str, ...],
    reason: str | None,
    yes: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Ask instances to end: their code cleans up, and may take its time.

    They are those of the ids, or all that the filters mean; then it asks before.
    """
    chosen = chosen_or_ids(ids, options, dry_run=dry_run)
    done = "cancel requested"
    if chosen is None:
        _do_each(store, ids, lambda handle: handle.cancel(reason), done)
        return
    act = Act(
        verb="Cancel",
        done=done,
        statuses=OPEN,
        call=by_method("cancel", reason=reason),
    )
    do_to_all(store, act, chosen, yes=yes, dry_run=dry_run)


@click.command(cls=StoreCommand)
@by_filters
@_reason
@_yes
@store_options
def terminate(
    *,
    store: Store,
    ids: tuple[str, ...],
    reason: str | None,
    yes: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """End instances and their sub-workflows at once, without asking their code.

    They are those of the ids, or all that the filters mean.
    """
    chosen = chosen_or_ids(ids, options, dry_run=dry_run)
    if chosen is None:
        _ask(ids, "Terminate", yes=yes)
        _do_each(store, ids, lambda handle: handle.terminate(reason), "terminated")
        return
    act = Act(
        verb="Terminate",
        done="terminated",
        statuses=OPEN,
        call=by_method("terminate", reason=reason),
    )
    do_to_all(store, act, chosen, yes=yes, dry_run=dry_run)


@click.command(cls=StoreCommand)
@by_filters
@_reason
@_yes
@store_options
def pause(
    *,
    store: Store,
    ids: tuple[str, ...],
    reason: str | None,
    yes: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Suspend instances until they are resumed; their activities go on.

    They are those of the ids, or all that the filters mean; then it asks before.
    """
    chosen = chosen_or_ids(ids, options, dry_run=dry_run)
    if chosen is None:
        _do_each(store, ids, lambda handle: handle.pause(reason), "paused")
        return
    act = Act(
        verb="Pause",
        done="paused",
        statuses=("running",),
        call=by_method("pause", reason=reason),
    )
    do_to_all(store, act, chosen, yes=yes, dry_run=dry_run)


@click.command(cls=StoreCommand)
@by_filters
@_yes
@store_options
def resume(*, store: Store, ids: tuple[str, ...], yes: bool, dry_run: bool, **options: Any) -> None:
    """Let suspended instances go on, with the code that the workers have now.

    They are those of the ids, or all that the filters mean; then it asks before.
    """
    chosen = chosen_or_ids(ids, options, dry_run=dry_run)
    if chosen is None:
        _do_each(store, ids, lambda handle: handle.resume(), "resumed")
        return
    act = Act(
        verb="Resume",
        done="resumed",
        statuses=("suspended",),
        call=by_method("resume"),
    )
    do_to_all(store, act, chosen, yes=yes, dry_run=dry_run)


@click.command("retry-now", cls=StoreCommand)
@by_filters
@click.option("--activity", metavar="NAME", help="Only activities of this name.")
@_yes
@store_options
def retry_now(
    *,
    store: Store,
    ids: tuple[str, ...],
    activity: str | None,
    yes: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Let activities that wait for their next attempt begin it at once.

    Those of the instances of the ids, or of all that the filters mean; then it asks before.
    """
    chosen = chosen_or_ids(ids, options, dry_run=dry_run)
    done = "tried again now"
    if chosen is None:
        _do_each(store, ids, lambda handle: handle.retry_now(activity), done)
        return
    act = Act(
        verb="Retry the activities of",
        done=done,
        statuses=OPEN,
        call=by_method("retry_now", activity=activity),
    )
    do_to_all(store, act, chosen, yes=yes, dry_run=dry_run)


@click.command(cls=StoreCommand)
@_ids
@click.option("--turn", type=click.IntRange(min=0), metavar="N", help="The first turn to drop.")
@_reason
@_yes
@store_options
def reset(
    *, store: Store, ids: tuple[str, ...], turn: int | None, reason: str | None, yes: bool
) -> None:
    """Let instances go on from before a turn, with the code that the workers have now.

    Turns are counted from 0, as `trioflow history` shows them. Without `--turn` it is the one in
    which the instance failed, or that does not fit the code. What the dropped turns had begun is
    cancelled. An instance that had ended lives again.
    """
    _ask(ids, "Reset", yes=yes)
    _do_each(store, ids, lambda handle: handle.reset(turn, reason=reason), "reset")


@click.command(cls=StoreCommand)
@click.argument("id", type=InstanceId())
@click.option("--turn", type=click.IntRange(min=0), metavar="N", help="The first turn to leave.")
@click.option("--id", "new_id", metavar="ID", help="The new one's id; made up by default.")
@store_options
def fork(*, store: Store, id: str, turn: int | None, new_id: str | None) -> None:
    """Start an instance with the first turns of another one, which is left alone."""

    async def begin(client: Client) -> str:
        return (await client.fork(id, turn=turn, new_id=new_id)).id

    click.echo(shown(store.run(begin)))


@click.command(cls=StoreCommand)
@by_filters
@_yes
@store_options
def remove(*, store: Store, ids: tuple[str, ...], yes: bool, dry_run: bool, **options: Any) -> None:
    """Remove finished instances from the store, with their histories.

    They are those of the ids, or all that the filters mean: `--ended-until 30d`.
    """
    chosen = chosen_or_ids(ids, options, dry_run=dry_run)
    if chosen is None:
        _ask(ids, "Remove", yes=yes)
        _do_each(store, ids, lambda handle: handle.remove(), "removed")
        return
    if "trouble" in chosen:
        raise click.UsageError("--trouble: what has ended is in no trouble")
    act = Act(verb="Remove", done="removed", statuses=ENDED, call=_remove_all)
    do_to_all(store, act, chosen, yes=yes, dry_run=dry_run)


async def _remove_all(client: Client, those: dict[str, Any]) -> BulkReport:
    removed = 0
    rest: dict[str, Any] = {"finished_before": math.inf, **those}
    while number := await client.remove(**rest, limit=_REMOVED_AT_ONCE):
        removed += number
    return BulkReport(removed, 0, None)
