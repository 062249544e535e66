"""Where the file of an open store is, and whether it is still the one that was opened.

A program that removes a file, or puts another one in its place, does not disturb those who have it
open: they go on with what nobody else sees, and what they store is lost when they end. It is the
same with the log beside it, ``-wal``, which is there for as long as anybody has the file open.
"""

from __future__ import annotations

import os
from pathlib import Path

from trioflow.errors import BackendUnavailable

__all__ = ["OpenFile"]


class OpenFile:
    """The file of a store that is open.

    Args:
        file: Its path, from the root; ``""`` for none, as in memory.
        given: What the store was told to open: a path, or a URI that begins with ``file:``.

    Attributes:
        path: What to open to get to the same file, whatever the working directory is by now. It
            makes no file where there is none any more.
    """

    def __init__(self, file: str, given: str) -> None:
        options = given.partition("?")[2] if given.startswith("file:") else ""
        if "mode=" not in options:
            options = f"{options}&mode=rw" if options else "mode=rw"
        self.path = f"{Path(file).as_uri()}?{options}" if file else given
        self._seen = [(path, _identity(path)) for path in (file, f"{file}-wal") if file]

    def demand(self) -> None:
        """Demand that it is the one that was opened.

        Raises:
            BackendUnavailable: It is not.
        """
        for path, seen in self._seen:
            if seen is not None and _identity(path) != seen:
                raise BackendUnavailable(
                    f"{path} was removed or replaced while it was open, and what is stored in the "
                    "old one would be lost: put that back, or end this process and start it again"
                )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - it is asked for before each call
    except OSError:
        return None
    return found.st_dev, found.st_ino
