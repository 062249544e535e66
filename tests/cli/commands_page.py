"""The reference of the commands in docs/commands.md, made from what ``--help`` prints.

``python -m tests.cli.commands_page`` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from trioflow._cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
BELOW = "<!-- What follows is written by `python -m tests.cli.commands_page`. -->\n"


def whole_page() -> str:
    """Return the page with the reference as it should be."""
    by_hand, _, _ = PAGE.read_text("utf-8").partition(BELOW)
    return f"{by_hand}{BELOW}\n{_help()}\n" + "".join(
        f"\n### trioflow {' '.join(name)}\n\n{_help(*name)}\n" for name in _names(app)
    )


def _names(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from _names(command, *before, name)


def _help(*command: str) -> str:
    # How wide it is follows the terminal, which is the environment's.
    environment = {**os.environ, "COLUMNS": "80", "TRIOFLOW_STORE": None, "TRIOFLOW_CODEC": None}
    said = CliRunner().invoke(app, [*command, "--help"], prog_name="trioflow", env=environment)
    assert said.exit_code == 0
    return f"```text\n{said.output.rstrip()}\n```"


if __name__ == "__main__":
    PAGE.write_text(whole_page(), "utf-8")
