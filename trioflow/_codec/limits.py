"""What every store takes: one table of limits, checked where something is given.

The numbers are those of the narrowest store, so that a program does not work on one store and
fail on another. Only the numbers and their checks live here.
"""

from __future__ import annotations

from typing import Final

from trioflow.errors import ArgumentError, PayloadTooLarge

__all__ = [
    "COMMAND_LENGTH",
    "ID_LENGTH",
    "MAX_METADATA",
    "MAX_PAYLOAD",
    "MAX_TURN",
    "NAME_LENGTH",
    "REASON_LENGTH",
    "REQUEST_LENGTH",
    "TABLE",
    "TASK_LEVELS",
    "VALUE_LEVELS",
    "check_characters",
    "check_given",
    "check_id",
    "check_levels",
    "check_name",
    "check_reason",
    "check_request",
    "storable_reason",
]

ID_LENGTH: Final = 500
"""Characters of an instance's id; what every server's index takes beside other columns of a key."""

NAME_LENGTH: Final = 255
"""Characters of the name of a workflow, an activity, a signal or a queue."""

COMMAND_LENGTH: Final = 250
"""Characters of the id of a command: the path of its task and a number, two for each level.

With that of an instance it fills what InnoDB takes for a key, 3072 bytes at four a character.
"""

REQUEST_LENGTH: Final = 200
"""Characters of the id of an update."""

TASK_LEVELS: Final = 124
"""Levels of the path of a task, the main one included: as many as have room in a command's id.

Deeper ones would meet Python's limit of recursion, in places that are not the workflow's.
"""

REASON_LENGTH: Final = 4_000
"""Characters of the reason of a cancel or a terminate."""

MAX_PAYLOAD: Final = 2 * 1024 * 1024
"""The default limit of one encoded value, in bytes: 2 MiB."""

MAX_METADATA: Final = 16 * 1024
"""Bytes of the metadata of one call, encoded: they travel with each call that follows."""

VALUE_LEVELS: Final = 100
"""Levels of lists, dicts and objects in each other, in one value.

Reading and comparing a value takes some of Python's stack for each level, and the workflow that
reads it may be deep in calls itself: so this is far below Python's own limit of recursion.
"""

MAX_TURN: Final = 4 * 1024 * 1024
"""Bytes of all the values that a workflow gives between two waits: 4 MiB.

MariaDB takes statements of 16 MiB unless it is told otherwise, where bytes may take twice their
room, and a value is written twice: in the turn, and in the row of what it is for.
"""

TABLE: Final = {
    "id of an instance": f"{ID_LENGTH} characters",
    "name of a workflow, an activity, a signal or a queue": f"{NAME_LENGTH} characters",
    "reason of a cancel or a terminate": f"{REASON_LENGTH:,} characters",
    "id of an update": f"{REQUEST_LENGTH} characters",
    "nesting of tasks, each started by the one before": f"{TASK_LEVELS} levels",
    "path of a task that calls anything: its number on each level": f"{COMMAND_LENGTH} characters",
    "one value: the arguments of a call, a result, a signal, a status, a heartbeat": (
        f"{MAX_PAYLOAD // 2**20} MiB encoded"
    ),
    "nesting of one value: lists, dicts and objects in each other": f"{VALUE_LEVELS} levels",
    "metadata of a start or a call": f"{MAX_METADATA // 2**10} KiB encoded",
    "all values that a workflow passes between two waits": f"{MAX_TURN // 2**20} MiB encoded",
    "attributes of an instance": "32, with names of 64 characters and values of 2 KiB",
}
"""What is limited, and how: the table in the operations manual."""


def check_characters(text: object, what: str) -> str:
    """Return ``text`` if it is a string of characters that every store takes.

    Raises:
        ArgumentError: It is no string, or has a NUL or half a surrogate pair in it.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"{what} is a string, not {text!r}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ArgumentError(
                f"{what}, {_short(text)}, holds half a surrogate pair (character {error.start}), "
                "which UTF-8 cannot express"
            ) from None
    if "\0" in text:
        raise ArgumentError(f"{what}, {_short(text)}, holds a NUL (character {text.index(chr(0))})")
    return text


def check_id(id: object) -> str:
    """Return an instance's id if every store takes it.

    Raises:
        ArgumentError: It is no string, empty, too long, or holds a NUL or half a surrogate pair.
    """
    return _check(id, "an instance's id", ID_LENGTH)


def check_name(name: object, what: str) -> str:
    """Return the name of ``what``, ``"a queue"``, if every store takes it.

    Raises:
        ArgumentError: As for `check_id`.
    """
    return _check(name, f"the name of {what}", NAME_LENGTH)


def check_reason(reason: str | None) -> str | None:
    """Return a reason if every store takes it.

    Raises:
        ArgumentError: As for `check_id`; an empty one is taken.
    """
    return reason if reason is None else _check(reason, "a reason", REASON_LENGTH, least=0)


def storable_reason(reason: object) -> str | None:
    """Return the reason of a scope's cancel as every store takes it; ``None`` if it is no text.

    Who cancels a scope cannot be told that a store does not take the reason: it is cut, and
    characters that no store takes are written out.
    """
    if not isinstance(reason, str):
        return None
    text = reason if "\0" not in reason else reason.replace("\0", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode()[:REASON_LENGTH]


def check_request(id: object, what: str = "an update's id", *, prefix: str = "") -> str:
    """Return the id of an update, or ``what`` it is of, if every store takes it after a prefix.

    Raises:
        ArgumentError: As for `check_id`.
    """
    return prefix + _check(id, what, REQUEST_LENGTH - len(prefix))


def check_levels(levels: int, name: object) -> None:
    """Check on how many levels a task would be that is to be started.

    Raises:
        ArgumentError: It would be nested too deeply.
    """
    if levels > TASK_LEVELS:
        raise ArgumentError(
            f"{name!r} cannot be started as a task: it would be nested too deeply, on level "
            f"{levels:,} of tasks that each were started by the one before, and {TASK_LEVELS} is "
            "the limit; start them from fewer tasks, or call a sub-workflow"
        )


def check_given(size: int, what: str) -> None:
    """Check the number of bytes that a workflow has given since its last wait, ``what`` included.

    Raises:
        PayloadTooLarge: They are too many.
    """
    if size > MAX_TURN:
        raise PayloadTooLarge(
            f"{what}: with it the workflow has given {size:,} bytes since it last waited, the "
            f"limit is {MAX_TURN:,}; wait between the calls, or store the data elsewhere and pass "
            "references"
        )


def _check(text: object, what: str, most: int, *, least: int = 1) -> str:
    good = check_characters(text, what)
    if len(good) < least:
        raise ArgumentError(f"{what} cannot be empty")
    if len(good) > most:
        raise ArgumentError(
            f"{what}, {_short(good)}, has {len(good):,} characters, at most {most:,}"
        )
    return good


def _short(text: str) -> str:
    return ascii(text if len(text) <= 40 else f"{text[:40]}…")  # noqa: PLR2004 - as much as one reads
