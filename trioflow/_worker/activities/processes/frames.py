"""Frames: what a worker and the processes of its activities send each other through two pipes.

Each is a MessagePack document behind its length. To a process go one `Setup`, and then a `Call`
when it has nothing to do. From a process come `Ready`, any number of `Beat` and `Log`, and one
answer for each call. Values are as the worker's codec stores them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from trioflow._model.info import ActivityInfo

__all__ = [
    "HEADER",
    "Answer",
    "Beat",
    "Call",
    "Failed",
    "FromProcess",
    "Log",
    "Ready",
    "Returned",
    "Setup",
    "ToProcess",
    "Unreadable",
    "decode_from_process",
    "decode_to_process",
    "packed",
]


class Setup(msgspec.Struct, frozen=True, tag=True):
    """What makes a new process like the worker's.

    Attributes:
        preparation: What `multiprocessing.spawn.prepare` takes.
        codec: The worker's, pickled.
        levels: The levels of the loggers that have one, by name; the root's is ``""``.
        modules: Those that calls will need.
    """

    preparation: dict[str, Any]
    codec: bytes
    levels: dict[str, int]
    modules: list[str]


class Call(msgspec.Struct, frozen=True, tag=True):
    """A call of an activity.

    Attributes:
        module: Where its function is,
        path: and under which name there, with dots.
        info: What `activity_info` gives there.
        input: The stored arguments.
        interval: Seconds between two `Beat` at least.
    """

    module: str
    path: str
    info: ActivityInfo
    input: bytes
    interval: float


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The process waits for its first call."""


class Beat(msgspec.Struct, frozen=True, tag=True):
    """The details of a heartbeat."""

    details: bytes


class Log(msgspec.Struct, frozen=True, tag=True):
    """A log record: its attributes, with the message formatted."""

    record: dict[str, Any]


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The function has returned."""

    result: bytes


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The function has raised something, or cannot be called: the stored form of the failure."""

    failure: bytes


class Unreadable(msgspec.Struct, frozen=True, tag=True):
    """The arguments cannot be read by the code as it is: the stored form of the failure."""

    failure: bytes


Answer = Returned | Failed | Unreadable
ToProcess = Setup | Call
FromProcess = Ready | Beat | Log | Returned | Failed | Unreadable

HEADER: Final = 4
"""The length of a frame's length."""

_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode
decode_to_process: Callable[[bytes], ToProcess] = msgspec.msgpack.Decoder(ToProcess).decode
decode_from_process: Callable[[bytes], FromProcess] = msgspec.msgpack.Decoder(FromProcess).decode


def packed(frame: ToProcess | FromProcess) -> bytes:
    """Return a frame as it is sent."""
    data = _encode(frame)
    return len(data).to_bytes(HEADER, "big") + data
