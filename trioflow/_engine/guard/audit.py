"""The audit hook: refuses what reaches the operating system from a step, on every Python."""

from __future__ import annotations

import sys
import threading

from trioflow._engine.guard.checks import Check
from trioflow._engine.guard.step import make_error, place_of_caller, stepping
from trioflow._engine.guard.table import TABLE, Hit

__all__ = ["install"]

_NAMES = {
    "_thread.start_new_thread": "threading.Thread.start",
    "_thread.start_joinable_thread": "threading.Thread.start",
    "socket.__new__": "socket.socket",
    "builtins.input": "input",
}

_lock = threading.Lock()
_installed = False


def install() -> None:
    """Install the audit hook in this process, once; further calls do nothing.

    Python cannot remove an audit hook. In a thread that is not inside a step it reads one
    thread-local flag and returns.
    """
    global _installed  # noqa: PLW0603 - as the hook, it is there once per process
    with _lock:
        if _installed:
            return
        _installed = True
        state = stepping
        # most events are of no interest, and a few of those are very frequent
        ignored: set[str] = set()

        # a closure: at interpreter exit the hook outlives the globals of its module
        def hook(event: str, args: tuple[object, ...]) -> None:
            if state.active and event not in ignored:
                check = TABLE.find_event(event)
                if check is None:
                    ignored.add(event)
                elif event != "open" or not _is_time_zone(args):
                    _judge(event, check)

        sys.addaudithook(hook)


def _is_time_zone(args: tuple[object, ...]) -> bool:
    # ZoneInfo is written in C: no frame on the stack says that it is the one who opens the file
    zoneinfo = sys.modules.get("zoneinfo")
    path = args[0]
    return zoneinfo is not None and isinstance(path, str) and path.startswith(zoneinfo.TZPATH)


def _judge(event: str, check: Check) -> None:
    place = place_of_caller()
    if place is not None:
        raise make_error(place.hit or Hit(check, _NAMES.get(event, event)), place)
