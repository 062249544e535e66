"""Load the Lua scripts: join the files of each, and hash it as the server does."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

__all__ = ["Script", "script"]

_INCLUDE = "-- include: "


class Script:
    """One script as the server gets it.

    Attributes:
        text: What is to be loaded.
        sha: The name under which the server then knows it.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@cache
def script(name: str) -> Script:
    """Return the script of ``lua/<name>.lua``, preceded by the files that its first line names."""
    body = _read(name)
    first, _, _ = body.partition("\n")
    if not first.startswith(_INCLUDE):
        raise AssertionError(f"{name}.lua does not begin with {_INCLUDE!r}")
    parts = [_read(part) for part in first.removeprefix(_INCLUDE).split()]
    return Script("\n".join([*parts, body]))


@cache
def _read(name: str) -> str:
    return (files("trioflow.backends.redis") / "lua" / f"{name}.lua").read_text("utf-8")
