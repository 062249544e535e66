"""``trioflow replay``: replays a history from a file with the present code."""

from __future__ import annotations

import bdb
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.text import Text

from trioflow import TrioflowError
from trioflow._cli.definitions import find_workflow, import_modules
from trioflow._cli.facts import fact_line, tag_of, turn_lines
from trioflow._cli.output import console, print_json, time_of
from trioflow._cli.store import codec_option, find_codec
from trioflow._model.info import TaskInfo
from trioflow._model.turns import Turn
from trioflow.testing import History, Replay, ReplayError, load_history

__all__ = ["replay"]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.option("--step", is_flag=True, help="Show each turn, and where each task waits after it.")
@click.option("--execution", type=int, help="Take this execution only.")
@click.option("--break-at", type=int, metavar="TURN", help="Stop in the debugger before this turn.")
@click.option(
    "--break-task", metavar="TASK", help="Stop in the code of this task, such as 0.1, instead."
)
@codec_option
@click.option("--json", "as_json", is_flag=True, help="Print an object instead.")
@click.pass_context
def replay(
    context: click.Context,
    *,
    file: Path,
    modules: tuple[str, ...],
    step: bool,
    execution: int | None,
    break_at: int | None,
    break_task: str | None,
    codec_name: str | None,
    as_json: bool,
) -> None:
    """Replay an exported history with the workflow that the modules define.

    FILE is what `History.save()` wrote, MODULE what is imported to define the workflow. Turns are
    counted from 0; `--break-at` belongs to the last execution, unless `--execution` says another.
    So does `--break-task`: it stops in that turn, or the first later one, in which the task runs.

    Exit codes: 0 if the code replays it, 1 if not, 2 for wrong usage.
    """
    try:
        history = load_history(file)
    except (TrioflowError, OSError) as error:
        raise click.UsageError(str(error)) from None
    numbers = [each.number for each in history.executions]
    if execution is not None and execution not in numbers:
        raise click.UsageError(f"there is no execution {execution}; there are {numbers}")
    workflow = find_workflow(history.workflow, import_modules(modules))
    codec = find_codec(codec_name)
    chosen = numbers if execution is None else [execution]
    out = None if as_json else console()
    made: list[dict[str, Any]] = []
    difference: ReplayError | None = None
    try:
        for number in chosen:
            stop = _Stop(break_at, break_task) if number == chosen[-1] else _Stop()
            with Replay(history, workflow, execution=number, codec=codec) as run:
                made += _replay(run, stop, out if step else None)
    except ReplayError as error:
        difference = error
    except bdb.BdbQuit:  # the debugger was left
        raise click.Abort from None
    _tell(history, chosen, made, difference, out)
    context.exit(0 if difference is None else 1)


class _Stop(NamedTuple):
    """Where the debugger is to stop: before a turn, or in a task from that turn on."""

    turn: int | None = None
    task: str | None = None


def _replay(run: Replay, stop: _Stop, out: Console | None) -> Iterator[dict[str, Any]]:
    if stop.turn is not None and not 0 <= stop.turn < len(run.turns):
        raise click.UsageError(f"there is no turn {stop.turn}; there are {len(run.turns)}, from 0")
    if out is not None:
        of = f"{run.history.id}, execution {run.number} of {run.history.workflow}"
        out.print(Text(of, "bold"))
    wanted = stop.task is not None
    while run.position < len(run.turns):
        if stop.task is None and run.position == stop.turn:
            breakpoint()  # noqa: T100 - asked for
        if wanted and run.position >= (stop.turn or 0):
            wanted = run.debug(task=stop.task, turns=1) is None
        else:
            run.step()
        turn, tasks = run.turns[run.position - 1], run.tasks()
        if out is not None:
            _show(out, run.position - 1, turn, tasks)
        yield {
            "execution": run.number,
            "turn": run.position - 1,
            "now": turn.now,
            "events": [fact_line(each) for each in turn.events],
            "commands": [fact_line(each) for each in turn.commands],
            "outcome": None if turn.outcome is None else tag_of(turn.outcome),
            "tasks": tasks,
        }


def _tell(
    history: History,
    chosen: list[int],
    made: list[dict[str, Any]],
    difference: ReplayError | None,
    out: Console | None,
) -> None:
    report = None if difference is None else difference.report
    if out is None:
        head = {"id": history.id, "workflow": history.workflow, "replays": report is None}
        print_json({**head, "report": report, "turns": made})
    elif report is None:
        count = f"{len(chosen)} execution{'' if len(chosen) == 1 else 's'}, {len(made)} turns"
        out.print(f"{history.id} replays: {count}.")
    else:
        out.print(Text(f"{history.id} does not replay", "bold red"))
        out.print(report.message)


# --- for people ------------------------------------------------------------------------------


def _show(out: Console, number: int, turn: Turn, tasks: list[TaskInfo]) -> None:
    out.print(
        Text.assemble((f"turn {number}", "bold cyan"), f"  {time_of(turn.now, 'milliseconds')}")
    )
    for kind, said in turn_lines(turn):
        out.print(f"  {kind:<8} {said}")
    for task in tasks:
        inside = "  " * task.path.count(".")
        line = Text.assemble(
            f"  task     {inside}", (task.name, "bold"), " waits for ", task.waits_for
        )
        if task.until is not None:
            line.append(f", until {time_of(task.until, 'milliseconds')}")
        if task.line:
            line.append(f"  {task.line}", "dim")
        out.print(line)
