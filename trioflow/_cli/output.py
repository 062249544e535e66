"""How commands print: for people, in colour where that is wanted, or as JSON."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from rich.console import Console

__all__ = ["console", "print_json"]


def console(*, stderr: bool = False) -> Console:
    """Return what to print on.

    It is made anew, so that it prints where the process prints now. There are colours on a
    terminal, unless ``NO_COLOR`` is set; ``FORCE_COLOR`` gives them elsewhere, too.
    """
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, as readable as can be, and nothing else."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    sys.stdout.write(text + "\n")
