"""``trioflow start``, ``result``, ``signal``, ``update`` and ``query``: values in and out."""

from __future__ import annotations

import math
import shlex
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
import trio
from click.core import ParameterSource

from trioflow import Client, Handle, InstanceSuspended, Signal, TrioflowError, Update
from trioflow._cli.definitions import find_workflow, import_modules, modules_option
from trioflow._cli.filters import chosen_of, filters
from trioflow._cli.many import DONE_AS_JSON, OPEN, Act, do_to_all, done_to_one
from trioflow._cli.output import console, print_id, print_json, shown
from trioflow._cli.store import (
    InstanceId,
    Store,
    StoreCommand,
    as_json_option,
    json_anyway,
    store_options,
)
from trioflow._cli.values import MOMENT_AHEAD, arguments, json_or_text
from trioflow._client.known_signals import signals_among, value_of

__all__ = ["query", "result", "signal", "start", "update"]

_traceback = click.option("--traceback", "trace", is_flag=True, help="Show where it was raised.")
_value = click.argument("value", required=False)


async def _print_answer(answer: Callable[[], Awaitable[Any]], *, trace: bool) -> None:
    """Print what an instance gives as JSON, or what its code has raised as an error."""
    try:
        value = await answer()
    except TrioflowError:
        raise
    except Exception as error:
        if trace:
            console(stderr=True).print("".join(traceback.format_exception(error)).rstrip())
        said = f"{type(error).__name__}: {error}"
        raise click.ClickException(shown(said)) from error
    print_json(value)


def _patient(id: str, ask: Callable[..., Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """Make a call wait also for a suspended instance, after saying that it is one."""

    async def answer() -> Any:
        try:
            return await ask(wait_suspended=False)
        except InstanceSuspended:
            why = f"`trioflow show {shlex.quote(id)}` says why"
            told = f"{id} is suspended, so this waits until it is resumed or ended; {why}"
            click.echo(shown(told), err=True)
        return await ask()

    return answer


def _given(value: str | None) -> tuple[Any, ...]:
    return () if value is None else (json_or_text(value),)


@click.command(cls=StoreCommand)
@click.argument("workflow")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]...")
@modules_option("What is imported to define the workflow.", required=True)
@click.option("--id", "id_", type=InstanceId(), metavar="ID", help="Its id; made up by default.")
@click.option("--queue", metavar="NAME", help="Where it runs.")
@click.option(
    "--if-exists",
    type=click.Choice(["raise", "return", "replace"]),
    help="What to do if an unfinished instance has the id.",
)
@click.option("--at", "start_at", type=MOMENT_AHEAD, help="Begin then: 2h, 2026-11-26T09:30.")
@click.option("--wait", is_flag=True, help="Wait for the end, and print the result.")
@_traceback
@store_options
@as_json_option("an object with the id")
def start(
    *,
    store: Store,
    workflow: str,
    arguments: tuple[str, ...],
    modules: tuple[str, ...],
    id_: str | None,
    wait: bool,
    trace: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Start an instance of a workflow.

    An ARGUMENT is JSON, or a text that is no JSON; `name=value` names its parameter.
    """
    registries = import_modules(modules)
    definition = find_workflow(workflow, registries)
    given = {name: value for name, value in options.items() if value is not None}
    if id_ is not None:
        given["id"] = id_
    if given:
        definition = definition.options(**given)
    args, kwargs = _arguments(definition, arguments)

    async def main(client: Client) -> None:
        handle: Handle[Any] = await client.start(definition, *args, **kwargs)
        if wait:
            await _print_answer(_patient(handle.id, handle.result), trace=trace)
        else:
            print_id(handle.id, as_json=as_json)

    store.run(main, create=True)


_arguments = arguments  # `start` has a parameter of that name


@click.command(cls=StoreCommand)
@click.argument("id", type=InstanceId())
@_traceback
@store_options
@json_anyway
def result(*, store: Store, id: str, trace: bool) -> None:
    """Wait until an instance has ended, and print its result as JSON.

    If it failed, or was cancelled or terminated, the exit code is 1.
    """

    async def main(client: Client) -> None:
        await _print_answer(_patient(id, client.handle(id).result), trace=trace)

    store.run(main)


@click.command(cls=StoreCommand)
@click.argument("words", nargs=-1, required=True, metavar="[ID] NAME [VALUE]")
@modules_option("What is imported to find the signal, whose type the value is checked by.")
@filters
@click.option("--dry-run", is_flag=True, help="Only say how many the filters mean.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@as_json_option(DONE_AS_JSON)
def signal(
    *,
    store: Store,
    words: tuple[str, ...],
    modules: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Send an instance a signal; or, without ID, all that the filters mean.

    VALUE is JSON, or a text that is no JSON; without it null is sent. Without `-m` nobody checks
    that it is of the signal's type: one that is not suspends the instance that receives it.
    """
    chosen = chosen_of(options)
    least = 1 if chosen else 2
    if not least <= len(words) <= least + 1:
        raise click.UsageError(
            "with filters give NAME and VALUE alone: all that they mean get the signal"
            if chosen
            else "give ID, NAME and VALUE; or filters, such as --workflow, in place of the ID"
        )
    name, *value = words[least - 1 :]
    sent = json_or_text(value[0]) if value else None
    found = _signals_in(modules, name)
    which: Any = name
    if found:
        which, sent = value_of(found, sent)
    if chosen:
        act = Act("signal", "Send the signal to", "signal sent", OPEN, args=(which, sent))
        do_to_all(store, act, chosen, yes=yes, dry_run=dry_run, as_json=as_json)
        return
    if dry_run:
        raise click.UsageError("--dry-run: give filters, such as --workflow, in place of the ID")
    id = words[0]
    store.run(lambda client: client.handle(id).signal(which, sent))
    if as_json:
        print_json([done_to_one(id)])
    else:
        click.echo(f"{shown(id)}: signal sent")


def _signals_in(modules: tuple[str, ...], name: str) -> Sequence[Signal[Any]]:
    """Import modules; return the signals of that name at their top level.

    Raises:
        click.UsageError: There is none, and the modules were given on the command line.
    """
    import_modules(modules)
    found = signals_among(vars(sys.modules[module]) for module in modules)
    source = click.get_current_context().get_parameter_source("modules")
    if name not in found and source is ParameterSource.COMMANDLINE:
        known = ", ".join(sorted(found)) or "none"
        raise click.UsageError(
            f"there is no signal {name!r} in these modules; there are {known}. Without -m it is "
            "sent unchecked"
        )
    return found.get(name, ())


@click.command(cls=StoreCommand)
@click.argument("id", type=InstanceId())
@click.argument("name")
@_value
@click.option(
    "--request", metavar="ID", help="The request's id: asked again with it, nothing is done twice."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long to wait for the answer.  [default: for ever]",
)
@_traceback
@store_options
@json_anyway
def update(
    *,
    store: Store,
    id: str,
    name: str,
    value: str | None,
    request: str | None,
    timeout: float | None,
    trace: bool,
) -> None:
    """Ask an instance for something, and print its answer as JSON.

    The request is stored, and answered when the instance has a handler of that name.
    """
    given = _given(value)

    async def main(client: Client) -> None:
        asked: Any = name
        if request is not None:
            anything: Any = Any
            plain: Any = Update(name, argument=anything) if given else Update(name)
            asked = plain.options(id=request)
        begun = await client.handle(id).start_update(asked, *given)
        with trio.move_on_after(math.inf if timeout is None else timeout):
            await _print_answer(_patient(id, begun.result), trace=trace)
            return
        raise click.ClickException(
            f"{shown(id)} has not answered {shown(name)!r} in {timeout:g} s. The request is stored "
            f"as {shown(begun.id)!r}: ask again with --request {shown(begun.id)} to wait for its "
            "answer. Is there an update of that name?"
        )

    store.run(main)


@click.command(cls=StoreCommand)
@click.argument("id", type=InstanceId())
@click.argument("name")
@_value
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    metavar="SECONDS",
    help="How long to wait for a worker.  [default: 10]",
)
@_traceback
@store_options
@json_anyway
def query(
    *, store: Store, id: str, name: str, value: str | None, timeout: float, trace: bool
) -> None:
    """Ask an instance what it knows, and print the answer as JSON.

    Nothing is changed by that. A worker that knows the workflow answers.
    """
    given = _given(value)

    async def main(client: Client) -> None:
        handle = client.handle(id)
        await _print_answer(lambda: handle.query(name, *given, timeout=timeout), trace=trace)

    store.run(main)
