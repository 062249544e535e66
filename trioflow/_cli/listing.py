"""``trioflow list``, ``count``, ``troubles``, ``stats``, ``workers``, ``limits``: what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from trioflow import Client, Description, WorkerInfo, attribute
from trioflow._cli.filters import chosen_of, filters
from trioflow._cli.output import print_json, print_table, shown, time_of
from trioflow._cli.store import InstanceId, Store, StoreCommand, as_json_option, store_options
from trioflow._cli.values import SPAN
from trioflow._client.arguments import TROUBLE_AFTER
from trioflow._client.texts import detail_of
from trioflow.backends.records import COUNTED

__all__ = ["count", "limits", "list_", "stats", "troubles", "workers"]

_MANY = 1000  # troubles are counted so far
_MEANS_COUNT = ("status", "workflow", "queue")
_QUEUE_COLUMNS = (
    "queue",
    "running",
    "suspended",
    "pending_instances",
    "pending_activities",
    "running_activities",
    "workers",
    "activity_workers",
)


@click.command("list", cls=StoreCommand)
@filters
@click.option("--limit", type=click.IntRange(min=1), default=50, help="How many.  [default: 50]")
@click.option("--after", type=InstanceId(), metavar="ID", help="Go on after this one.")
@store_options
@as_json_option("an array of objects")
def list_(*, store: Store, limit: int, after: str | None, as_json: bool, **options: Any) -> None:
    """List instances, the newest first."""
    chosen = chosen_of(options)

    async def find(client: Client) -> list[Description]:
        return await client.list(**chosen, limit=limit, after=after)

    found = store.run(find)
    if as_json:
        print_json(found)
        return
    print_table(
        ("ID", "WORKFLOW", "STATUS", "QUEUE", "STARTED", "DETAIL"),
        [
            (
                one.id,
                one.workflow,
                one.status,
                one.queue,
                time_of(one.created_at),
                detail_of(one),
            )
            for one in found
        ],
    )
    if len(found) == limit:
        click.echo(f"There may be more: --after {shown(found[-1].id)}", err=True)


@click.command(cls=StoreCommand)
@filters
@click.option(
    "--by",
    metavar="WHAT",
    help="Count by `status`, `workflow`, `queue`, or by an attribute: `attribute:customer`.",
)
@store_options
@as_json_option("a number, or an object")
def count(*, store: Store, by: str | None, as_json: bool, **options: Any) -> None:
    """Count instances, all of them or by what they have in common."""
    chosen = chosen_of(options)
    group: Any = by
    if by is not None and by.startswith("attribute:"):
        group = attribute(by.removeprefix("attribute:"))
    elif by not in (None, *_MEANS_COUNT):
        raise click.UsageError(f"--by {by}: write {', '.join(_MEANS_COUNT)} or attribute:NAME")

    async def find(client: Client) -> Any:
        by_anything: Any = client.count
        return await by_anything(group_by=group, **chosen)

    found = store.run(find)
    if by is None:
        click.echo(found)
        return
    groups = sorted(found.items(), key=lambda each: (-each[1], str(each[0])))
    if as_json:
        print_json({str(value): number for value, number in groups})
    else:
        print_table((by.upper(), "COUNT"), [(str(value), str(number)) for value, number in groups])


@click.command(cls=StoreCommand)
@click.option(
    "--trouble-after",
    type=SPAN,
    default=TROUBLE_AFTER,
    help="How long something waits before it is overdue, or held: 30s, 5m.  [default: 60s]",
)
@store_options
@as_json_option("an object")
def troubles(*, store: Store, trouble_after: float, as_json: bool) -> None:
    """Count the instances that are in some trouble; `trioflow list --trouble` shows which.

    retrying: an activity is tried again, or waits for that. unserved: it waits in a queue that no
    living worker serves. overdue: no worker has taken it. suspended: it waits for a person. held:
    its worker is dead, or does nothing with it.
    """
    found = store.run(lambda client: client.troubles(trouble_after=trouble_after))
    if as_json:
        print_json(found)
        return
    rows = [(kind, f"{number}{'+' * (number >= _MANY)}") for kind, number in found.items()]
    print_table(("TROUBLE", "INSTANCES"), rows)


@click.command(cls=StoreCommand)
@store_options
@as_json_option("an array of objects")
def stats(*, store: Store, as_json: bool) -> None:
    """Show each queue that has unfinished work: its backlog, and the workers that serve it."""
    queues = store.run(lambda client: client.stats())
    if as_json:
        print_json(queues)
        return
    rows: list[Sequence[str]] = [
        [str(getattr(queue, column)) for column in _QUEUE_COLUMNS] for queue in queues
    ]
    print_table([column.replace("_", " ").upper() for column in _QUEUE_COLUMNS], rows)


@click.command(cls=StoreCommand)
@store_options
@as_json_option("an array of objects")
def workers(*, store: Store, as_json: bool) -> None:
    """Show the workers: what they serve and hold, and whether they live."""
    found = store.run(lambda client: client.workers())
    if as_json:
        print_json(found)
        return
    print_table(
        ("NAME", "ID", "STATE", "QUEUES", "HOLDS", "HEARTBEAT", "LEASE", "SINCE", "VERSION"),
        [
            (
                one.name,
                one.id,
                "alive" if one.alive else "dead",
                _queues_of(one),
                f"{_counted(one.instances)} + {_counted(one.activities)}",
                time_of(one.heartbeat_at),
                "" if one.lease is None else f"{one.lease:g} s",
                time_of(one.started_at),
                one.version,
            )
            for one in found
        ],
    )


@click.command(cls=StoreCommand)
@store_options
@as_json_option("an array of objects")
def limits(*, store: Store, as_json: bool) -> None:
    """Show the limits that hold across all workers.

    They are set in Python, with `client.set_limit()`.
    """
    found = store.run(lambda client: client.limits())
    if as_json:
        print_json(found)
        return
    print_table(
        ("OF", "NAME", "AT ONCE", "RATE", "BY ARGUMENT", "OF ONE VALUE"),
        [
            (
                one.kind,
                one.name,
                _if_any(one.concurrency),
                "" if one.rate is None else f"{one.rate} in {one.per:g} s",
                one.key or "",
                _if_any(one.key_concurrency),
            )
            for one in found
        ],
    )


def _if_any(number: int | None) -> str:
    return "" if number is None else str(number)


def _queues_of(worker: WorkerInfo) -> str:
    """Say which queues a worker serves; for activities only where they are others."""
    if worker.queues is None or worker.activity_queues is None:
        return "(not told)"
    instances, activities = ", ".join(worker.queues), ", ".join(worker.activity_queues)
    if instances == activities:
        return instances or "(none)"
    return f"{instances or '(none)'}; activities: {activities or '(none)'}"


def _counted(number: int) -> str:
    return f"{number}+" if number >= COUNTED else str(number)
