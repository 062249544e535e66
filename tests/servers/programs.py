"""What the servers share: where their programs are, and that they are stopped at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["chosen", "end", "found", "running"]

# Debian keeps servers where only root looks for programs.
_MORE = "/usr/sbin:/usr/local/sbin"
_END_TIMEOUT = 30.0


def chosen(kind: str) -> Path | None:
    """Return what ``TRIOFLOW_TEST_<KIND>`` names, or ``None`` if it is not set.

    Raises:
        RuntimeError: There is no such file or folder.
    """
    variable = f"TRIOFLOW_TEST_{kind.upper()}"
    named = os.environ.get(variable)
    if not named:
        return None
    path = Path(named).absolute()
    if not path.exists():
        raise RuntimeError(f"{variable} names {named}, which is not there")
    return path


def found(*names: str, beside: str = "") -> str | None:
    """Return the path of the first of some programs that is installed, or ``None``.

    Args:
        names: Of the programs.
        beside: Folders to look in first, separated by colons.
    """
    for name in names:
        program = shutil.which(name, path=beside) if beside else None
        program = program or shutil.which(name) or shutil.which(name, path=_MORE)
        if program:
            return program
    return None


@contextlib.contextmanager
def running(server):
    """Start a server; yield its URL; stop it at the end, also if it did not start."""
    try:
        server.start()
        yield server.url
    finally:
        server.close()


def end(process: subprocess.Popen[bytes] | None) -> None:
    """Kill a server as a power failure would, if it runs."""
    if process is not None:
        process.kill()
        process.wait(_END_TIMEOUT)
