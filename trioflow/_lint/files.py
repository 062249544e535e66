"""Which files are looked at, and how they are read and written."""

from __future__ import annotations

import io
import os
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SourceFile", "find_files", "read"]

_LEFT_OUT = frozenset(
    {
        *("__pycache__", "__pypackages__", "node_modules", "site-packages", "dist-packages"),
        *("build", "dist", "venv"),
    }
)


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the Python files that paths stand for, each once, in order.

    A file that is named is taken whatever its name. In a folder, hidden folders, environments and
    built packages are left out.
    """
    seen: set[Path] = set()
    for path in paths:
        for file in [path] if path.is_file() else _in_folder(path):
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _in_folder(path: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(path):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _LEFT_OUT
            and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(files) if name.endswith((".py", ".pyi")))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A source file as it was read.

    Attributes:
        path: Where it is.
        text: Its text, with lines that end in a line feed.
        encoding: How it is encoded.
        line_end: How its lines end, ``None`` if not all do in one way.
    """

    path: Path
    text: str
    encoding: str
    line_end: str | None

    def write(self, text: str) -> None:
        """Write another text in its place, encoded and with line ends as before.

        Raises:
            ValueError: Its lines do not all end in one way.
        """
        if self.line_end is None:
            raise ValueError(f"the lines of {self.path} do not all end in one way")
        self.path.write_bytes(text.replace("\n", self.line_end).encode(self.encoding))


def read(path: Path) -> SourceFile:
    """Read a source file by the rules of Python: a byte order mark or a coding comment counts.

    Raises:
        OSError: It cannot be read.
        SyntaxError: It is not encoded as it says.
    """
    data = path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SyntaxError(str(error)) from None
    ends = set(re.findall("\r\n|\r|\n", text))
    line_end = None if len(ends) > 1 else min(ends, default="\n")
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return SourceFile(path, plain, encoding, line_end)
