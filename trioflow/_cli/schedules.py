"""``trioflow schedules``: what is run again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click

from trioflow import Client
from trioflow._cli.many import done_to_one
from trioflow._cli.output import print_id, print_json, print_table, shown, time_of
from trioflow._cli.store import (
    InstanceId,
    Store,
    StoreCommand,
    as_json_option,
    json_anyway,
    store_options,
)
from trioflow._client.schedules import ScheduleDescription, ScheduleHandle

__all__ = ["schedules"]

_id = click.argument("id", type=InstanceId())


@click.group()
def schedules() -> None:
    """See schedules, pause them, and begin their runs.

    A schedule is made in Python, with `client.schedule()`. Its runs are instances, whose ids begin
    with the schedule's: `trioflow list --id-prefix daily/`.
    """


@schedules.command("list", cls=StoreCommand)
@store_options
@as_json_option("an array of objects")
def list_(*, store: Store, as_json: bool) -> None:
    """List schedules, the newest first."""
    found = store.run(lambda client: client.schedules())
    if as_json:
        print_json([_plain(one) for one in found])
        return
    print_table(
        ("ID", "WORKFLOW", "STATUS", "CALENDAR", "NEXT", "RUNNING", "BEGUN", "MISSED"),
        [
            (
                one.id,
                one.workflow,
                one.status if one.paused is None else "paused",
                str(one.calendar),
                time_of(one.next_at),
                str(len(one.running)),
                str(one.begun),
                str(one.missed),
            )
            for one in found
        ],
    )


def _plain(one: ScheduleDescription) -> dict[str, Any]:
    fields = {name: getattr(one, name) for name in ScheduleDescription.__struct_fields__}
    return {**fields, "calendar": str(one.calendar)}


@schedules.command(cls=StoreCommand)
@_id
@store_options
@json_anyway
def show(*, store: Store, id: str) -> None:
    """Print all that is known of a schedule as JSON: its runs, and what it has left out."""

    async def find(client: Client) -> ScheduleDescription:
        return await client.schedule_handle(id).describe()

    print_json(_plain(store.run(find)))


def _tell(
    store: Store,
    id: str,
    act: Callable[[ScheduleHandle[Any]], Awaitable[Any]],
    done: str,
    *,
    as_json: bool,
) -> None:
    async def main(client: Client) -> None:
        await act(client.schedule_handle(id))

    store.run(main)
    if as_json:
        print_json([done_to_one(id)])
    else:
        click.echo(f"{shown(id)}: {done}")


_as_json = as_json_option("an array with an object")


@schedules.command(cls=StoreCommand)
@_id
@click.option("--reason", default="", metavar="TEXT", help="Why, for those who look.")
@store_options
@_as_json
def pause(*, store: Store, id: str, reason: str, as_json: bool) -> None:
    """Begin no more runs until it is resumed; those under way go on."""
    _tell(store, id, lambda schedule: schedule.pause(reason), "paused", as_json=as_json)


@schedules.command(cls=StoreCommand)
@_id
@store_options
@_as_json
def resume(*, store: Store, id: str, as_json: bool) -> None:
    """Begin runs again, from now on."""
    _tell(store, id, lambda schedule: schedule.resume(), "resumed", as_json=as_json)


@schedules.command(cls=StoreCommand)
@_id
@store_options
@as_json_option("an object with the id")
def trigger(*, store: Store, id: str, as_json: bool) -> None:
    """Begin a run now, and print its id; this waits for a worker."""

    async def begin(client: Client) -> str:
        return (await client.schedule_handle(id).trigger()).id

    print_id(store.run(begin), as_json=as_json)


@schedules.command(cls=StoreCommand)
@_id
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@_as_json
def remove(*, store: Store, id: str, yes: bool, as_json: bool) -> None:
    """Remove a schedule; its runs stay, and those under way go on."""
    if not yes:
        click.confirm(f"Remove the schedule {shown(id)}?", abort=True, err=True)
    _tell(store, id, lambda schedule: schedule.remove(), "removed", as_json=as_json)
