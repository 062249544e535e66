"""The commands put together."""

from __future__ import annotations

import click

from trioflow._cli.acting import (
    cancel,
    fork,
    pause,
    remove,
    reset,
    resume,
    retry_now,
    terminate,
)
from trioflow._cli.check import check
from trioflow._cli.completion import completion
from trioflow._cli.lint import lint
from trioflow._cli.listing import count, limits, list_, stats, troubles, workers
from trioflow._cli.looking import describe, export, history, show
from trioflow._cli.migrate import migrate
from trioflow._cli.moving import move
from trioflow._cli.replay import replay
from trioflow._cli.schedules import schedules
from trioflow._cli.speaking import query, result, signal, start, update
from trioflow._cli.web import dev, web
from trioflow._cli.worker import worker

__all__ = ["app"]

_COMMANDS = {
    "Workers": (worker, dev),
    "Looking": (
        list_,
        count,
        troubles,
        stats,
        workers,
        limits,
        show,
        describe,
        history,
        result,
        query,
        export,
        web,
    ),
    "Acting": (
        start,
        signal,
        update,
        cancel,
        terminate,
        pause,
        resume,
        retry_now,
        reset,
        fork,
        remove,
        schedules,
    ),
    "Code": (lint, check, replay),
    "Stores": (migrate, move),
    "Shells": (completion,),
}


class _Group(click.Group):
    """Names its commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them into the help."""
        for heading, commands in _COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(each.name or "", each.get_short_help_str(100)) for each in commands]
                )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trioflow", message="%(prog)s %(version)s")
def app() -> None:
    """Durable workflows as plain trio code.

    Exit codes: 0 if all is well, 1 if it could not be done or what was checked is not well, 2 for
    wrong usage, 3 if the store cannot be reached, 4 if there is no such instance.
    """


for _commands in _COMMANDS.values():
    for _command in _commands:
        app.add_command(_command)
