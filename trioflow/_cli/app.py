"""The commands put together."""

from __future__ import annotations

import click

from trioflow._cli.lint import lint
from trioflow._cli.replay import replay

__all__ = ["app"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trioflow", message="%(prog)s %(version)s")
def app() -> None:
    """Durable workflows as plain trio code.

    Exit codes: 0 if all is well, 1 if what was checked is not, 2 for wrong usage.
    """


app.add_command(lint)
app.add_command(replay)
