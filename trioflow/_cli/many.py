"""What a command does to instances: to those of its ids, or to all that its filters mean.

It asks before it does something to all of a filter, and before what cannot be taken back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import click

from trioflow import BulkReport, Client, InstanceError
from trioflow._cli.filters import chosen_of, filters
from trioflow._cli.output import print_json, shown
from trioflow._cli.store import InstanceId, Store, StoreCommand, as_json_option, store_options
from trioflow._cli.wording import in_shell
from trioflow._client.arguments import Filters
from trioflow.backends.records import ENDED, Status

__all__ = ["DONE_AS_JSON", "MENDED", "OPEN", "Act", "acting", "do_to_all", "done_to_one"]

F = TypeVar("F", bound=Callable[..., Any])

OPEN: Final[tuple[Status, ...]] = ("running", "suspended")
MENDED: Final[tuple[Status, ...]] = ("failed", "suspended", "terminated")
"""Those that mended code may bring to life again."""


DONE_AS_JSON: Final = "an object for each id, or one with numbers for filters,"


class Act(NamedTuple):
    """What is done to instances.

    Attributes:
        name: The method of a handle that does it to one, and of a client that does it to many.
        verb: What is asked, with a capital letter: "Cancel".
        done: What is said of those that it was done to.
        statuses: To which instances of a filter it is done.
        options: What both methods are given.
        args: What the client's is given before the filters.
        of_one: What the handle's alone is given, by the names of options; ``None`` for what is not.
        call: Does it to all that filters mean, if that is not the client's method.
        destroys: Whether it asks before also where ids are given.
        unchanged: What is said of one that the handle's method has left as it was.
    """

    name: str
    verb: str
    done: str
    statuses: tuple[Status, ...]
    options: Mapping[str, Any] = {}
    args: Sequence[Any] = ()
    of_one: Mapping[str, Any] = {}
    call: Callable[[Client, dict[str, Any]], Awaitable[BulkReport]] | None = None
    destroys: bool = False
    unchanged: str = ""


def acting(name: str | None = None) -> Callable[[Callable[..., Act]], click.Command]:
    """Make a command of a function that takes its own options, and returns what they mean."""

    def make(function: Callable[..., Act]) -> click.Command:
        # click keeps a function's options there, the last first, until it is made a command.
        params: list[click.Parameter] = getattr(function, "__click_params__", [])
        own = [str(each.name) for each in params]

        def run(
            *,
            store: Store,
            ids: tuple[str, ...],
            yes: bool,
            dry_run: bool,
            as_json: bool,
            **given: Any,
        ) -> None:
            act = function(**{each: given.pop(each) for each in own})
            chosen = _chosen_or_ids(ids, given, dry_run=dry_run)
            if chosen is None:
                _do_to_each(store, act, ids, yes=yes, as_json=as_json)
                return
            for option, value in act.of_one.items():
                if value is not None:
                    raise click.UsageError(f"--{option}: give the ids of the instances")
            if act.statuses == ENDED and "trouble" in chosen:
                raise click.UsageError("--trouble: what has ended is in no trouble")
            do_to_all(store, act, chosen, yes=yes, dry_run=dry_run, as_json=as_json)

        run.__doc__ = function.__doc__
        command: Any = store_options(as_json_option(DONE_AS_JSON)(run))
        command = click.option("--yes", is_flag=True, help="Do not ask.")(command)
        command.__click_params__ += params
        return click.command(name or function.__name__, cls=StoreCommand)(_by_filters(command))

    return make


def _by_filters(command: F) -> F:
    """Give a command ids, or the options of filters in their place."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Only say how many the filters mean."),
        filters,
        click.argument("ids", type=InstanceId(), nargs=-1, metavar="[ID]..."),
    ):
        command = option(command)
    return command


def _chosen_or_ids(ids: Sequence[str], options: dict[str, Any], *, dry_run: bool) -> Filters | None:
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


def done_to_one(id: str, *, done: bool = True, error: str | None = None) -> dict[str, Any]:
    """Return what ``--json`` says of an instance: whether something was done, or what kept it."""
    return {"id": id, "done": done, "error": error}


def _do_to_each(store: Store, act: Act, ids: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Do something with each instance; one that refuses it does not keep it from the others."""

    async def main(client: Client) -> None:
        for id in ids:
            method: Any = getattr(client.handle(id), act.name)
            try:
                changed = await method(**act.options, **act.of_one)
            except InstanceError as error:
                if len(ids) == 1:
                    raise
                refused.append(id)
                said = in_shell(str(error), id)
                told.append(done_to_one(id, done=False, error=said))
                click.echo(f"Error: {shown(said)}", err=True)
            else:
                told.append(done_to_one(id, done=changed is not False))
                if not as_json:
                    said = act.unchanged if changed is False else act.done
                    click.echo(f"{shown(id)}: {said}")

    if act.destroys and not yes:
        named = shown(ids[0]) if len(ids) == 1 else f"{len(ids)} instances"
        click.confirm(f"{act.verb} {named}?", abort=True, err=True)
    refused: list[str] = []
    told: list[dict[str, Any]] = []
    store.run(main)
    if as_json:
        print_json(told)
    if refused:
        raise click.ClickException(f"{len(refused)} of {len(ids)} instances were left as they are")


def do_to_all(
    store: Store, act: Act, chosen: Filters, *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Do something to all that filters mean, after asking; say to how many."""
    given = chosen.get("status", ())
    statuses = (given,) if isinstance(given, str) else tuple(given)
    for status in statuses:
        if status not in act.statuses:
            all_ended = status in ENDED and not {*act.statuses} & {*ENDED}
            what = "that have ended" if all_ended else f"that are {status}"
            raise click.UsageError(f"--status {status}: nothing is done to instances {what}")
    narrowed: Filters = {**chosen, "status": statuses or act.statuses}
    number = store.run(lambda client: client.count(**narrowed))
    if dry_run or not number:
        if as_json:
            _print_numbers(number, BulkReport(0, 0, None))
        else:
            click.echo(f"{number} {_instances(number)}; nothing was done")
        return
    if not yes:
        click.confirm(f"{act.verb} {number} {_instances(number)}?", abort=True, err=True)

    async def main(client: Client) -> BulkReport:
        if act.call is not None:
            return await act.call(client, {**narrowed})
        method: Any = getattr(client, act.name)
        report: BulkReport = await method(*act.args, **act.options, **narrowed)
        return report

    _tell(act, number, store.run(main), as_json=as_json)


def _tell(act: Act, number: int, report: BulkReport, *, as_json: bool) -> None:
    """Say what became of all that filters meant.

    Raises:
        click.ClickException: Some refused it.
    """
    passed = f"; {report.passed} needed nothing" if report.passed else ""
    if as_json:
        _print_numbers(number, report)
    else:
        click.echo(f"{report.done} {_instances(report.done)}: {act.done}{passed}")
    for id, why in report.refused.items():
        click.echo(f"Error: {shown(id)}: {shown(in_shell(why, id))}", err=True)
    if refused := len(report.refused):
        left = "instance was left as it is" if refused == 1 else "instances were left as they are"
        raise click.ClickException(f"{refused} {left}")


def _print_numbers(number: int, report: BulkReport) -> None:
    """Print how many filters meant, and what became of them, as JSON."""
    refused = {id: in_shell(why, id) for id, why in report.refused.items()}
    done = {"done": report.done, "passed": report.passed, "refused": refused}
    print_json({"meant": number, **done})


def _instances(number: int) -> str:
    return "instance" if number == 1 else "instances"
