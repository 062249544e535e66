"""``trioflow move``: all that a store holds, to another store."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
import trio

from trioflow import MoveReport, StoreMove
from trioflow._cli.output import print_json, shown
from trioflow._cli.store import Store, StoreCommand, as_json_option

__all__ = ["move"]


@click.command(cls=StoreCommand)
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.option("--dry-run", is_flag=True, help="Only count, and find out what is in the way.")
@click.option("--unfinished-only", is_flag=True, help="Leave finished instances behind.")
@click.option("--abort", is_flag=True, help="Give the move up: clear TO, and open FROM again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option("the numbers")
def move(
    *,
    source: str,
    destination: str,
    dry_run: bool,
    unfinished_only: bool,
    abort: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Move all that a store holds to another one, which is empty.

    FROM and TO are URLs, such as sqlite:///shop.db. FROM is closed first: its workers end, and from
    then on it refuses work and says where to look. TO opens when all is there. If the command is
    broken off, the same one goes on, and `--abort` gives the move up.
    """
    if dry_run and abort:
        raise click.UsageError("--dry-run and --abort exclude each other")
    if source == destination:
        raise click.UsageError(
            "FROM and TO are the same store; give TO another one, which is empty"
        )
    first, _ = Store.of(source, None).check_there(), Store.of(destination, None)
    plan = StoreMove(first, destination, unfinished_only=unfinished_only)
    ends = shown(plan.source), shown(plan.destination)
    if dry_run:
        _try(plan, as_json=as_json)
        return
    if not yes:
        asked = "Clear {1}, and open {0} again?" if abort else "Close {0}, and move all to {1}?"
        click.confirm(asked.format(*ends), abort=True, err=True)
    if abort:
        trio.run(plan.abort)
        click.echo(f"{ends[1]} is empty, and {ends[0]} is open again")
        return
    report = trio.run(lambda: plan.run(told=_progress()))
    if as_json:
        print_json(report)
        return
    click.echo(f"moved {_numbers(report)}")
    click.echo(f"{ends[0]} is closed; give workers and clients {ends[1]}")


def _try(plan: StoreMove, *, as_json: bool) -> None:
    report = trio.run(plan.check)
    if as_json:
        print_json(report)
    else:
        click.echo(f"would move {_numbers(report)}")
        for one in report.problems:
            named = "" if one.instance is None else f"{shown(one.instance)}: "
            click.echo(f"{named}{shown(one.why)}")
    if report.problems:
        raise click.ClickException("the move cannot be made like this")
    if not as_json:
        click.echo("nothing is in the way")


def _numbers(report: MoveReport) -> str:
    text = f"{report.unfinished} unfinished and {report.finished} finished instances"
    return f"{text}; {report.left} finished ones stay" if report.left else text


def _progress() -> Callable[[MoveReport], None] | None:
    """Return what shows on a terminal how far a move is."""
    stream = sys.stderr
    if not stream.isatty():
        return None

    def show(report: MoveReport) -> None:
        stream.write(f"\r{report.moved} of {report.unfinished + report.finished} instances ")
        stream.flush()

    return show
