"""The command line: ``trioflow`` and ``python -m trioflow``.

A command is a module here with a function of its name, which ``app`` puts together. All of them
print through ``output``.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_NEEDED = ("click", "rich")
_WRONG_USAGE = 2
_INTERRUPTED = 130  # as shells say it


def main() -> None:
    """Run the command line with the arguments of the process, and exit."""
    try:
        from trioflow._cli.app import app  # noqa: PLC0415 - what it needs is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write(
            f"trioflow's command line needs {' and '.join(_NEEDED)}: pip install 'trioflow[cli]'\n"
        )
        sys.exit(_WRONG_USAGE)
    except KeyboardInterrupt:  # while it was imported: `--reload` may begin anew at any moment
        sys.exit(_INTERRUPTED)
    app(prog_name="trioflow")
