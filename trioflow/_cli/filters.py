"""The options that say which instances are meant, of all commands that mean many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

import click

from trioflow._cli.values import CONDITION, MOMENT, SPAN
from trioflow._client.arguments import Filters
from trioflow.backends.records import Status, Trouble

__all__ = ["chosen_of", "filters"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--status",
        multiple=True,
        type=click.Choice(get_args(Status)),
        help="Only those of this status; may be given several times.",
    ),
    click.option("--workflow", metavar="NAME", help="Only those of this workflow."),
    click.option("--queue", metavar="NAME", help="Only those of this queue."),
    click.option("--parent", metavar="ID", help="Only the sub-workflows of this one."),
    click.option("--root", is_flag=True, help="Only those that have no parent."),
    click.option("--id-prefix", metavar="TEXT", help="Only those whose id begins so."),
    click.option("--since", "created_after", type=MOMENT, help="Started after: 2h, 2026-11-26."),
    click.option("--until", "created_before", type=MOMENT, help="Started before that time."),
    click.option("--ended-since", "finished_after", type=MOMENT, help="Ended after that time."),
    click.option("--ended-until", "finished_before", type=MOMENT, help="Ended before that time."),
    click.option(
        "--where",
        multiple=True,
        type=CONDITION,
        help="With such an attribute: customer=c7, amount>=10; all must hold.",
    ),
    click.option(
        "--trouble",
        type=click.Choice(get_args(Trouble)),
        help="Only those in this trouble; see `trioflow troubles`.",
    ),
    click.option(
        "--trouble-after",
        type=SPAN,
        help="How long something waits before it is overdue, or held: 30s, 5m.  [default: 60s]",
    ),
)


def filters(command: F) -> F:
    """Give a command the options that say which instances are meant."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_of(options: dict[str, Any]) -> Filters:
    """Return what the options of `filters` mean to a client; those that are not given are left out.

    Raises:
        click.UsageError: They contradict each other.
    """
    chosen = {
        name: value
        for name, value in options.items()
        if not (value is None or value is False or value == ())
    }
    if chosen.pop("root", False):
        if "parent" in chosen:
            raise click.UsageError("--root and --parent: an instance has a parent or it has none")
        chosen["parent"] = ""
    if "trouble_after" in chosen and "trouble" not in chosen:
        raise click.UsageError("--trouble-after: give --trouble, too")
    if "where" in chosen:
        chosen["where"] = list(chosen["where"])
    return cast("Filters", chosen)
