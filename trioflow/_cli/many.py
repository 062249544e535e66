"""What a command does to all instances that its filters mean, and how it asks before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from trioflow import BulkReport, Client
from trioflow._cli.filters import chosen_of, filters
from trioflow._cli.store import InstanceId, Store
from trioflow._client.arguments import Filters
from trioflow.backends.records import ENDED, Status

__all__ = ["OPEN", "Act", "by_filters", "by_method", "chosen_or_ids", "do_to_all"]

F = TypeVar("F", bound=Callable[..., Any])

OPEN: tuple[Status, ...] = ("running", "suspended")


class Act(NamedTuple):
    """What is done to many.

    Attributes:
        verb: What is asked, with a capital letter: "Cancel".
        done: What is said of those that it was done to.
        statuses: Of which instances it can be done.
        call: Does it to all that filters mean.
    """

    verb: str
    done: str
    statuses: tuple[Status, ...]
    call: Callable[[Client, dict[str, Any]], Awaitable[BulkReport]]


def by_method(
    name: str, *args: Any, **options: Any
) -> Callable[[Client, dict[str, Any]], Awaitable[BulkReport]]:
    """Return what calls a method of a client that reaches all that filters mean."""

    async def call(client: Client, those: dict[str, Any]) -> BulkReport:
        method: Any = getattr(client, name)
        report: BulkReport = await method(*args, **options, **those)
        return report

    return call


def by_filters(command: F) -> F:
    """Give a command ids, or the options of filters in their place."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Only say how many the filters mean."),
        filters,
        click.argument("ids", type=InstanceId(), nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


def chosen_or_ids(ids: Sequence[str], options: dict[str, Any], *, dry_run: bool) -> Filters | None:
    """Return the filters; ``None`` if ids are given in their place.

    Raises:
        click.UsageError: Both are given, or neither.
    """
    chosen = chosen_of(options)
    if ids and (chosen or dry_run):
        raise click.UsageError("give ids, or filters such as --status and --where; not both")
    if not ids and not chosen:
        raise click.UsageError(
            "which instances? Give ids, or filters: --workflow checkout, --trouble retrying"
        )
    return None if ids else chosen


def do_to_all(store: Store, act: Act, chosen: Filters, *, yes: bool, dry_run: bool) -> None:
    """Do something to all that filters mean, after asking; say to how many."""
    given = chosen.get("status", ())
    statuses = (given,) if isinstance(given, str) else tuple(given)
    for status in statuses:
        if status not in act.statuses:
            what = "that have ended" if status in ENDED else f"that are {status}"
            raise click.UsageError(f"--status {status}: nothing is done to instances {what}")
    narrowed: Filters = {**chosen, "status": statuses or act.statuses}
    number = store.run(lambda client: client.count(**narrowed))
    if dry_run or not number:
        click.echo(f"{number} {_instances(number)}; nothing was done")
        return
    if not yes:
        click.confirm(f"{act.verb} {number} {_instances(number)}?", abort=True, err=True)
    report = store.run(lambda client: act.call(client, {**narrowed}))
    passed = f"; {report.passed} needed nothing" if report.passed else ""
    click.echo(f"{report.done} {_instances(report.done)}: {act.done}{passed}")


def _instances(number: int) -> str:
    return "instance" if number == 1 else "instances"
