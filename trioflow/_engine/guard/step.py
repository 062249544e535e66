"""The state of the guard in this thread, and the search for the line of user code at fault."""

from __future__ import annotations

import sys
import threading
from types import FrameType, TracebackType
from typing import NamedTuple

from trioflow._engine.guard.files import is_user_file
from trioflow._engine.guard.table import TABLE, Hit
from trioflow._model.rules import CURRENT_RULES
from trioflow.errors import DeterminismError

__all__ = [
    "Place",
    "enter_step",
    "examine",
    "leave_step",
    "make_error",
    "permitted",
    "place_of_caller",
    "stepping",
]


class _Stepping(threading.local):
    active: bool = False
    rules: int = 0


#: ``stepping.active`` is true while this thread steps a workflow and the guard is on;
#: ``stepping.rules`` is then the number of the execution's rules.
stepping = _Stepping()


def enter_step(rules: int = CURRENT_RULES) -> tuple[bool, int]:
    """Turn the guard on in this thread.

    The function that calls this should stay on the stack during the step: the search for the
    line at fault ends there.

    Args:
        rules: By which the execution runs; checks of the guard that are newer are left out.

    Returns:
        A token for :func:`leave_step`. Steps may be nested.
    """
    token = stepping.active, stepping.rules
    stepping.active = True
    stepping.rules = rules
    return token


def leave_step(token: tuple[bool, int]) -> None:
    """Restore the guard to its state before the :func:`enter_step` that returned the token."""
    stepping.active, stepping.rules = token


class permitted:  # noqa: N801 - a context manager, named like a function
    """Turn the guard off for a block of synchronous code: ``with permitted(): ...``.

    The block must not await: the guard belongs to the thread, not to the task.
    """

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token = False

    def __enter__(self) -> None:
        self._token = stepping.active
        stepping.active = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stepping.active = self._token


# Whatever these do on behalf of a workflow does not change what the workflow does: imports read
# files, a traceback or a warning reads sources, a log may go to a file, a time zone has a table,
# and a finalizer runs wherever the garbage collector happens to.
_HARMLESS = tuple(
    name + "."
    for name in (
        *("importlib", "_frozen_importlib", "_frozen_importlib_external", "zipimport", "pkgutil"),
        *("linecache", "traceback", "tokenize", "warnings", "inspect", "logging", "structlog"),
        *("zoneinfo", "pytz", "dateutil.tz", "gettext", "locale", "mimetypes", "encodings"),
        *("weakref", "pdb", "bdb", "pydevd", "_pydevd_bundle", "debugpy", "coverage"),
    )
)


class Place(NamedTuple):
    """The line of user code at fault.

    Attributes:
        file: The file of the user's line, or of the workflow's outermost frame when no line of
            the user's is on the stack (a library's function that was started as a task).
        line: Its line number.
        function: The qualified name of the function it is in.
        hit: The call that this line made on its way to what was stopped, when a check names it.
    """

    file: str
    line: int
    function: str
    hit: Hit | None


def examine(frame: FrameType) -> Place | None:
    """Find the user's line, outwards from a frame up to the step that is running.

    Returns:
        The place, or ``None`` when what happens is harmless (an import, a log record, …).
    """
    user: FrameType | None = None
    nameless: FrameType | None = None
    last = frame
    hit: Hit | None = None
    current: FrameType | None = frame
    while current is not None:
        code = current.f_code
        module = current.f_globals.get("__name__")
        if isinstance(module, str) and (module + ".").startswith(_HARMLESS):
            return None
        if code.co_name == "__del__":
            return None
        if user is None:
            if not is_user_file(code.co_filename):
                hit = TABLE.find_code(code) or hit
            elif not code.co_filename.startswith("<"):
                user = current
            else:
                nameless = nameless or current
        if "enter_step" in code.co_names:
            break
        last = current
        current = current.f_back
    found = user or nameless or last
    return Place(found.f_code.co_filename, found.f_lineno, found.f_code.co_qualname, hit)


def place_of_caller() -> Place | None:
    """Return :func:`examine` of the function that called the caller of this one."""
    return examine(sys._getframe(2))  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no public way


def make_error(hit: Hit, place: Place) -> DeterminismError:
    """Return the error that says what was called, where, and what to do instead."""
    # The one thing in the table that is no function.
    what, use = ("os.environ", "read") if hit.call == "os.environ" else (f"{hit.call}()", "call")
    return DeterminismError(
        f"{place.file}:{place.line}, in {place.function}: {what} cannot be repeated on "
        f"replay, so a workflow must not {use} it [{hit.check.code}]; {hit.check.hint}"
    )
