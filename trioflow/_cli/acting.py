"""``trioflow cancel``, ``terminate``, ``pause``, ``resume`` and ``remove``: ids, one by one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click

from trioflow import Client, Handle, InstanceError
from trioflow._cli.output import shown
from trioflow._cli.store import InstanceId, Store, StoreCommand, store_options

__all__ = ["cancel", "fork", "pause", "remove", "reset", "resume", "terminate"]

_ids = click.argument("ids", type=InstanceId(), nargs=-1, required=True, metavar="ID...")
_reason = click.option("--reason", metavar="TEXT", help="Why, for those who look.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


def _do_each(
    store: Store,
    ids: tuple[str, ...],
    act: Callable[[Handle[Any]], Awaitable[None]],
    done: str,
) -> None:
    """Do something with each instance; one that refuses it does not keep it from the others."""

    async def main(client: Client) -> None:
        for id in ids:
            try:
                await act(client.handle(id))
            except InstanceError as error:
                if len(ids) == 1:
                    raise
                click.echo(f"Error: {shown(str(error))}", err=True)
                refused.append(id)
            else:
                click.echo(f"{shown(id)}: {done}")

    refused: list[str] = []
    store.run(main)
    if refused:
        raise click.ClickException(f"{len(refused)} of {len(ids)} instances were left as they are")


def _ask(ids: tuple[str, ...], what: str, *, yes: bool) -> None:
    if not yes:
        named = shown(ids[0]) if len(ids) == 1 else f"{len(ids)} instances"
        click.confirm(f"{what} {named}?", abort=True, err=True)


@click.command(cls=StoreCommand)
@_ids
@_reason
@store_options
def cancel(*, store: Store, ids: tuple[str, ...], reason: str | None) -> None:
    """Ask instances to end: their code cleans up, and may take its time."""
    _do_each(store, ids, lambda handle: handle.cancel(reason), "cancel requested")


@click.command(cls=StoreCommand)
@_ids
@_reason
@_yes
@store_options
def terminate(*, store: Store, ids: tuple[str, ...], reason: str | None, yes: bool) -> None:
    """End instances and their sub-workflows at once, without asking their code."""
    _ask(ids, "Terminate", yes=yes)
    _do_each(store, ids, lambda handle: handle.terminate(reason), "terminated")


@click.command(cls=StoreCommand)
@_ids
@_reason
@store_options
def pause(*, store: Store, ids: tuple[str, ...], reason: str | None) -> None:
    """Suspend instances until they are resumed; their activities go on."""
    _do_each(store, ids, lambda handle: handle.pause(reason), "paused")


@click.command(cls=StoreCommand)
@_ids
@click.option(
    "--without", metavar="SIGNAL", help="Leave out the unread signals of that name, for good."
)
@store_options
def resume(*, store: Store, ids: tuple[str, ...], without: str | None) -> None:
    """Let suspended instances go on, with the code that the workers have now."""
    _do_each(store, ids, lambda handle: handle.resume(without=without), "resumed")


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
@_ids
@_yes
@store_options
def remove(*, store: Store, ids: tuple[str, ...], yes: bool) -> None:
    """Remove finished instances from the store, with their histories."""
    _ask(ids, "Remove", yes=yes)
    _do_each(store, ids, lambda handle: handle.remove(), "removed")
