"""Whose a file of code is: the user's, a library's, or trioflow's."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import anyio
import trio

__all__ = ["add_user_root", "in_user_root", "is_library_file", "is_trioflow_file", "is_user_file"]


def _folder(file: str | None) -> str:
    return os.path.normcase(Path(file or "").absolute().parent) + os.sep


_TRIOFLOW = os.path.normcase(Path(__file__).absolute().parents[2]) + os.sep
_LIBRARIES = (
    *{
        os.path.normcase(path) + os.sep
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
        if (path := sysconfig.get_path(name))
    },
    _folder(os.__file__),
    _folder(trio.__file__),
    _folder(anyio.__file__),
)
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

_user_roots: tuple[str, ...] = ()
# Only of code that this process runs, so they are not many.
_user_files: dict[str, bool] = {}


def is_trioflow_file(filename: str) -> bool:
    """Return whether a file is trioflow's own."""
    return os.path.normcase(filename).startswith(_TRIOFLOW)


def is_library_file(filename: str) -> bool:
    """Return whether a file is of Python, trioflow or another package that is installed."""
    path = os.path.normcase(filename)
    return path.startswith(("<frozen", _TRIOFLOW, *_LIBRARIES)) or any(
        part in path for part in _INSTALLED
    )


def in_user_root(filename: str) -> bool:
    """Return whether a file is in an installed package that is treated as user code."""
    path = os.path.normcase(filename)
    return path.startswith(_user_roots) and not path.startswith(_TRIOFLOW)


def is_user_file(filename: str) -> bool:
    """Return whether a file of running code is the user's: neither a library's nor trioflow's."""
    known = _user_files.get(filename)
    if known is None:
        known = in_user_root(filename) or not is_library_file(filename)
        _user_files[filename] = known
    return known


def add_user_root(filename: str) -> bool:
    """Treat the installed package of a workflow as user code; return whether that is new."""
    global _user_roots  # noqa: PLW0603 - `str.startswith` takes a tuple
    path = os.path.normcase(filename)
    for part in _INSTALLED:
        before, found, after = path.rpartition(part)
        if found and not path.startswith(_TRIOFLOW):
            top, separator, _ = after.partition(os.sep)
            root = before + found + top + separator
            if root not in _user_roots:
                _user_roots = (*_user_roots, root)
                _user_files.clear()
                return True
            break
    return False
