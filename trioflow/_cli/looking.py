"""``trioflow show``, ``describe``, ``history`` and ``export``: one instance."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.text import Text

from trioflow import (
    Client,
    Description,
    InstanceSuspended,
    NoWorkerAnswered,
    Registry,
    TaskInfo,
    Undecodable,
    Workflow,
)
from trioflow._cli.definitions import find_workflow, import_modules, modules_option
from trioflow._cli.facts import failure_line, turn_lines
from trioflow._cli.output import (
    STATUS_STYLES,
    as_json,
    console,
    place,
    print_json,
    print_json_line,
    print_table,
    shown,
    time_of,
)
from trioflow._cli.store import InstanceId, Store, StoreCommand, as_json_option, store_options
from trioflow._cli.tasks import draw
from trioflow._cli.wording import in_shell
from trioflow._client.texts import attempt_line
from trioflow._codec.failures.failures import Failure
from trioflow._model.info import SuspendReport
from trioflow._model.turns import Turn
from trioflow._worker.failures import full_traceback, raised_at
from trioflow.backends.records import ENDED
from trioflow.testing import ReplayError, export_bundle, export_history, save_bundle
from trioflow.testing.tasks import replayed_tasks

__all__ = ["describe", "export", "history", "show"]

_PLACES = 3  # of what is in a group
_WIDE = 100_000  # where there is no terminal, no line is broken


# --- the tree of tasks -----------------------------------------------------------------------


class _Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What ``show`` knows of an instance; ``tasks`` is ``None`` if nobody could say."""

    instance: Description
    children: list[Description]
    tasks: list[TaskInfo] | None
    trouble: str


@click.command(cls=StoreCommand)
@click.argument("id", type=InstanceId())
@modules_option(
    "Replay the history here, with the workflow that this module defines.", from_environment=False
)
@click.option("--follow", is_flag=True, help="Draw it again when it changes, until it has ended.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    metavar="SECONDS",
    help="How long to wait for a worker.  [default: 3]",
)
@store_options
@as_json_option("an object")
def show(
    *,
    store: Store,
    id: str,
    modules: tuple[str, ...],
    follow: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Draw the tree of an instance's tasks: where each one waits, and for what.

    A worker is asked for it; with `--module` no worker is needed. Of an instance that failed it
    says at which line that was raised.
    """
    registries = import_modules(modules) if modules else []

    async def look(client: Client) -> _Shown:
        return await _look(client, id, registries, timeout)

    async def main(client: Client) -> None:
        seen = client.backend.changes()
        found = await look(client)
        if not follow:
            _print(found, as_json=as_json)
            return
        out = console()
        if as_json or not out.is_terminal:
            _print(found, as_json=as_json, stream=True)
            while found.instance.status not in ENDED:
                before = _moment(found)
                await client.wait_change(seen)
                seen, found = client.backend.changes(), await look(client)
                if _moment(found) != before:
                    _print(found, as_json=as_json, stream=True)
            return
        with Live(_picture(found), console=out, auto_refresh=False) as live:
            while found.instance.status not in ENDED:
                await client.wait_change(seen)
                seen, found = client.backend.changes(), await look(client)
                live.update(_picture(found), refresh=True)

    store.run(main)


def _moment(found: _Shown) -> object:
    one = found.instance
    children = [(child.id, child.status) for child in found.children]
    return one.execution, one.turns, one.status, children, found.tasks


async def _look(client: Client, id: str, registries: Sequence[Registry], timeout: float) -> _Shown:
    one = await client.handle(id).describe()
    children = await client.list(parent=id)
    tasks: list[TaskInfo] | None = None
    trouble = ""
    if one.status in ENDED:
        tasks = []
    elif registries:
        workflow: Workflow[..., Any] = find_workflow(one.workflow, registries)
        try:
            tasks = await replayed_tasks(client, id, workflow)
        except ReplayError as error:
            trouble = error.report.message
    elif not one.turns and one.execution == 1:
        trouble = await _why_not_begun(client, one)
    else:
        try:
            tasks = await client.handle(id).tasks(timeout=timeout)
        except (NoWorkerAnswered, InstanceSuspended) as error:
            said = str(error)
            if one.suspension is not None and said.startswith(whole := str(InstanceSuspended(id))):
                said = whole  # what has happened stands under `suspended`
            trouble = (
                f"{said.removesuffix('.')}. With --module MODULE the history is replayed here."
            )
    return _Shown(instance=one, children=children, tasks=tasks, trouble=trouble)


async def _why_not_begun(client: Client, one: Description) -> str:
    limit = (await client.backend.limits()).of_workflow(one.workflow)
    if limit is None:
        return "It has not begun."
    return (
        f"It has not begun; it may wait for the limit of its workflow, {limit.concurrency} at once."
    )


def _print(found: _Shown, *, as_json: bool, stream: bool = False) -> None:
    if as_json:
        (print_json_line if stream else print_json)(found)
        return
    out = console()
    if not out.is_terminal:
        out.width = _WIDE
    out.print(_picture(found), soft_wrap=False)


def _picture(found: _Shown) -> Group:
    one = found.instance
    parts: list[Any] = [draw(_head(one), found.tasks or [])]
    told = one.suspension is not None and found.trouble == one.suspension.message
    if found.trouble and not told:  # it stands under `suspended`
        parts.append(Text(shown(in_shell(found.trouble, one.id)), "yellow"))
    parts += [Text.assemble((f"{label:<12}", "bold"), text) for label, text in _why(one)]
    for task in one.activities:
        attempt = attempt_line(task, time.time(), time_of)
        said = f"{task.activity} ({task.key.command}), on {task.queue}, {attempt}"
        if task.failure is not None:
            said += f"; last: {failure_line(task.failure)}"
        if task.heartbeat_at is not None:
            said += f"; heartbeat {time_of(task.heartbeat_at)} {as_json(task.heartbeat)}"
        parts.append(Text.assemble((f"{'activity':<12}", "bold"), shown(said)))
    for child in found.children:
        named = shown(f"{child.id} {child.workflow} ")
        line = Text.assemble((f"{'child':<12}", "bold"), named)
        parts.append(line.append(child.status, STATUS_STYLES[child.status]))
    return Group(*parts)


def _head(one: Description) -> Text:
    head = Text.assemble((shown(one.id), "bold"), f" {shown(one.workflow)} ")
    head.append(one.status, STATUS_STYLES.get(one.status, ""))
    if one.execution > 1:
        head.append(f", execution {one.execution}")
    return head.append(f", started {time_of(one.created_at)}", "dim")


def _why(one: Description) -> Iterator[tuple[str, str]]:
    """Give what there is to say of how it ended, or why it stands still."""
    if one.status == "completed":
        yield "result", as_json(one.result)
    if one.failure is not None:
        yield "failure", shown(failure_line(one.failure))
        for line, function in raised_at(one.failure)[:_PLACES]:
            yield "raised at", shown(f"{place(line)}, in {function}")
    if one.suspension is not None:
        first, *more = in_shell(one.suspension.message, one.id).splitlines()
        yield "suspended", shown(f"{one.suspension.kind}: {first}")
        for line in more:
            yield "", shown(line)
        if one.suspension.reason:
            yield "because", shown(one.suspension.reason)
    if one.reason:
        yield "because", shown(one.reason)
    if one.custom_status is not None:
        yield "says", as_json(one.custom_status)


# --- all that is known -------------------------------------------------------------------------


@click.command(cls=StoreCommand)
@click.argument("ids", type=InstanceId(), nargs=-1, required=True, metavar="ID...")
@store_options
@as_json_option("an array of objects")
def describe(*, store: Store, ids: tuple[str, ...], as_json: bool) -> None:
    """Say all that is known of instances."""

    async def find(client: Client) -> list[Description]:
        return [await client.handle(id).describe() for id in ids]

    found = store.run(find)
    if as_json:
        print_json(found)
        return
    for number, one in enumerate(found):
        if number:
            click.echo()
        _print_description(one)


def _print_description(one: Description) -> None:
    out = console()
    for name in Description.__struct_fields__:
        value: Any = getattr(one, name)
        if value in (None, [], {}, 0) and name not in ("input", "turns"):
            continue
        if name == "activities":
            continue
        label = name.replace("_", " ")
        style = STATUS_STYLES[one.status] if name == "status" else ""
        text = _readable(name, value)
        if isinstance(value, SuspendReport):
            text = in_shell(text, one.id)
        out.print(Text.assemble((f"{label:<14}", "bold"), (text, style)))
        if isinstance(value, Failure) and (traceback := full_traceback(value)):
            for line in traceback.splitlines():
                out.print(Text(f"  {shown(line)}".rstrip(), "dim"))
    if one.activities:
        print_table(
            ("ACTIVITY", "COMMAND", "ATTEMPT", "QUEUE", "SCHEDULED", "NEXT", "LAST FAILURE"),
            [
                (
                    task.activity,
                    task.key.command,
                    str(task.attempt),
                    task.queue,
                    time_of(task.scheduled_at),
                    "runs" if task.next_at is None else time_of(task.next_at),
                    "" if task.failure is None else failure_line(task.failure),
                )
                for task in one.activities
            ],
        )


def _readable(name: str, value: Any) -> str:
    if name.endswith("_at") and isinstance(value, int | float):
        return time_of(value)
    if isinstance(value, Undecodable):
        return shown(f"(cannot be decoded: {value.why})")
    if isinstance(value, Failure):
        return shown(failure_line(value))
    if isinstance(value, str) and name not in ("custom_status", "result"):
        return shown(value)
    return as_json(value)


# --- turns -------------------------------------------------------------------------------------


@click.command(cls=StoreCommand)
@click.argument("id", type=InstanceId())
@click.option("--execution", type=int, metavar="NUMBER", help="Take this execution only.")
@click.option("--grep", metavar="TEXT", help="Only the lines that have this text.")
@click.option("--follow", is_flag=True, help="Go on as turns are made, until it has ended.")
@store_options
@as_json_option("an object for each turn, one a line,")
def history(
    *,
    store: Store,
    id: str,
    execution: int | None,
    grep: str | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Show an instance's turns: what happened, and what it then asked for.

    Arguments, results and failures are decoded. Turns are counted from 0.
    """

    async def main(client: Client) -> None:
        handle = client.handle(id)
        told: dict[int, int] = {}
        last: object = None
        while True:
            seen = client.backend.changes()
            one = await handle.describe()  # before the turns, so that the last one is among them
            if last != (last := (one.execution, one.turns, one.status)):
                for each in await handle.history():
                    if execution in (None, each.number):
                        for number in range(told.get(each.number, 0), len(each.turns)):
                            turn = each.turns[number]
                            _print_turn(each.number, number, turn, grep, as_json=as_json)
                        told[each.number] = len(each.turns)
            if not follow or one.status in ENDED:
                return
            await client.wait_change(seen)

    store.run(main)


def _print_turn(
    execution: int, number: int, turn: Turn | Undecodable, grep: str | None, *, as_json: bool
) -> None:
    if isinstance(turn, Undecodable):
        lines = [("turn", f"(cannot be decoded: {turn.why})")]
    else:
        lines = list(turn_lines(turn, values=True))
    if grep is not None:
        lines = [each for each in lines if grep in each[1]]
        if not lines:
            return
    if as_json:
        print_json_line({"execution": execution, "turn": number, **msgspec.to_builtins(turn)})
        return
    out = console()
    head = Text.assemble((f"turn {number}", "bold cyan"))
    if execution > 1:
        head.append(f" of execution {execution}")
    if isinstance(turn, Turn):
        head.append(f"  {time_of(turn.now, 'milliseconds')}")
    out.print(head)
    for kind, line in lines:
        text = Text.assemble((f"  {kind:<8} ", "dim"), line)
        if out.is_terminal:
            text.truncate(out.width, overflow="ellipsis")
        out.print(text)


@click.command(cls=StoreCommand)
@click.argument("ids", type=InstanceId(), nargs=-1, metavar="[ID]")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--under-way", is_flag=True, help="Those of all that have not ended, without ID.")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Draw N of each workflow.")
@store_options
@as_json_option("an object with the file and the number of turns, or of histories")
def export(
    *,
    store: Store,
    ids: tuple[str, ...],
    file: Path,
    under_way: bool,
    sample: int | None,
    as_json: bool,
) -> None:
    """Write an instance's history into a file, or those of all that are under way.

    It is for `trioflow replay`, and for `check_replay()` in tests; that of many, of each its
    present execution, for `trioflow check --from` and `check_bundle()`.
    """
    if len(ids) != (0 if under_way else 1):
        raise click.UsageError("give either the ID of an instance, or --under-way for many")
    if sample is not None and not under_way:
        raise click.UsageError("--sample is for --under-way")

    async def read(client: Client) -> tuple[int, str]:
        if under_way:
            many = await export_bundle(client, sample=sample)
            _write(partial(save_bundle, many, file), file)
            return len(many), f"{len(many)} histor{'y' if len(many) == 1 else 'ies'}"
        (id,) = ids
        stored = await export_history(client.handle(id))
        _write(partial(stored.save, file), file)
        turns = sum(len(each.turns) for each in stored.executions)
        return turns, f"{turns} turns of {shown(id)}"

    number, what = store.run(read)
    if as_json:
        print_json({"file": str(file), "histories" if under_way else "turns": number})
    else:
        click.echo(f"Wrote {what} to {file}.")


def _write(save: Callable[[], None], file: Path) -> None:
    try:
        save()
    except OSError as error:
        raise click.FileError(str(file), error.strerror) from None
