"""What is said of a failure: what it is, the line that raised it, its traceback."""

from __future__ import annotations

import re

from trioflow._codec.failures.failures import Failure
from trioflow._codec.failures.lines import failure_line
from trioflow._engine.guard.files import in_user_root, is_library_file

__all__ = ["describe", "full_traceback", "raised_at"]

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.*)', re.MULTILINE)
# Of another machine, or another Python.
_INSTALLED = re.compile(r"[/\\](?:(?:site|dist)-packages|lib[/\\]python3[\d.]*)[/\\]")
_NOBODYS = re.compile(
    r"<frozen |.*[/\\](?:trioflow|trio|anyio|outcome)[/\\]"
    r"|.*[/\\]lib[/\\]python3[\d.]*[/\\](?!(?:site|dist)-packages)"
)
_CAUSED = "\n\nThe above exception was the direct cause of the following exception:\n\n"


def describe(failure: Failure) -> str:
    """Return what a failure is, and at which line of the user's own code it was raised."""
    if failure.members or not failure.message:
        text = failure_line(failure, qualified=True)
    else:
        text = f"{failure.type}: {failure.message}"
    places = raised_at(failure)
    return f"{text} (at {places[0][0]})" if places else text


def full_traceback(failure: Failure) -> str:
    """Return a failure's traceback with those of its causes and members; ``""`` without frames."""
    text = _joined(failure)
    return text if _FRAME.search(text) else ""


def _joined(failure: Failure) -> str:
    own = failure.traceback.rstrip()
    before = "" if failure.cause is None else _joined(failure.cause)
    parts = [_CAUSED.join(filter(None, (before, own)))]
    for number, member in enumerate(failure.members, 1):
        parts.append(f"\n\nMember {number} of the group:\n\n{_joined(member)}")
    return "".join(parts)


def raised_at(failure: Failure) -> list[tuple[str, str]]:
    """Return at which line of the user's own code something was raised, and in which function.

    Of what was raised elsewhere first, as in an activity, it is the line that awaited that.

    Returns:
        One ``file:line`` and function; of a group those of its members; none if the stored
        traceback has no line of the user's. Code that is installed as a library is taken for the
        user's if this process has a workflow of it, or if there is no other.
    """
    members = dict.fromkeys(place for member in failure.members for place in raised_at(member))
    if members:
        return list(members)
    frames: list[tuple[str, str, str]] = _FRAME.findall(failure.traceback)
    own = [frame for frame in frames if _is_users(frame[0])]
    own = own or [frame for frame in frames if not _NOBODYS.match(frame[0])]
    return [(f"{file}:{line}", function) for file, line, function in own[-1:]]


def _is_users(file: str) -> bool:
    return in_user_root(file) or not (is_library_file(file) or _INSTALLED.search(file))
