"""``trioflow completion``: what a shell needs to complete commands, options and ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, *, shell: str) -> None:
    """Print the completion for a shell.

    In ~/.bashrc or ~/.zshrc: `eval "$(trioflow completion bash)"` (or `zsh`). For fish, write it to
    ~/.config/fish/completions/trioflow.fish. Ids are completed if TRIOFLOW_STORE is set.
    """
    made = get_completion_class(shell)
    assert made is not None
    root = context.find_root().command
    click.echo(made(root, {}, "trioflow", "_TRIOFLOW_COMPLETE").source())
