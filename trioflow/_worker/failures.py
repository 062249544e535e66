"""What the log says of a failure: what it is, the line that raised it, its traceback."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

import trio

import trioflow
from trioflow._codec.failures.failures import Failure
from trioflow._codec.failures.lines import failure_line

__all__ = ["describe", "full_traceback"]

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in ', re.MULTILINE)
_LIBRARIES = (
    str(Path(trioflow.__file__).parent),
    str(Path(trio.__file__).parent.parent),  # with all that is installed
    sysconfig.get_path("stdlib"),
    "<frozen ",
)
_CAUSED = "\n\nThe above exception was the direct cause of the following exception:\n\n"


def describe(failure: Failure) -> str:
    """Return what a failure is, and at which line of the user's own code it was raised."""
    text = (
        failure_line(failure, qualified=True)
        if failure.members
        else f"{failure.type}: {failure.message}"
    )
    place = _last_line(failure)
    return f"{text} (at {place})" if place else text


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


def _last_line(failure: Failure) -> str:
    """Return ``file:line`` of the last frame that is no library's; of a group, its first member."""
    for member in failure.members:
        place = _last_line(member)
        if place:
            return place
    frames = [m for m in _FRAME.findall(failure.traceback) if not m[0].startswith(_LIBRARIES)]
    return ":".join(frames[-1]) if frames else ""
