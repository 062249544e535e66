"""Switching the thread's event loop for a step, and restoring it."""

# pyright: reportPrivateUsage=false, reportUnknownArgumentType=false

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from sniffio import thread_local as _sniffio
from trio._core import _run

from trioflow._engine.loop.standins import FORBIDDEN_LOOP

__all__ = ["Host", "enter_host", "leave_host"]

_RUN: Any = _run.GLOBAL_RUN_CONTEXT

Host = tuple[Any, Any, Any, Any, Any, Any]


def enter_host(
    runner: object, began: Callable[[Any], None], dropped: Callable[[Any], None]
) -> Host:
    """Make a runner the thread's trio loop and hide the host's; return what to restore.

    Args:
        runner: Whose step is made.
        began: Called with each async generator that begins.
        dropped: Called with each of them that nothing refers to any more.
    """
    asyncio_events: Any = sys.modules.get("asyncio.events")
    host = (
        getattr(_RUN, "runner", None),
        getattr(_RUN, "task", None),
        _sniffio.name,
        sys.get_asyncgen_hooks(),
        asyncio_events,
        None if asyncio_events is None else asyncio_events._get_running_loop(),
    )
    if asyncio_events is not None:
        asyncio_events._set_running_loop(FORBIDDEN_LOOP)
    sys.set_asyncgen_hooks(began, dropped)
    _RUN.runner = runner
    if host[1] is not None:
        del _RUN.task
    _sniffio.name = "trio"
    return host


def leave_host(host: Host) -> None:
    """Put back what `enter_host` returned, and wake the hosts' tasks that were woken since."""
    runner, task, library, hooks, asyncio_events, asyncio_loop = host
    left: Any = _RUN.runner
    _sniffio.name = library
    if runner is None:
        del _RUN.runner
    else:
        _RUN.runner = runner
    if task is not None:
        _RUN.task = task
    sys.set_asyncgen_hooks(*hooks)
    if asyncio_events is not None:
        asyncio_events._set_running_loop(asyncio_loop)
    if left.owed:
        left.wake_owed()
