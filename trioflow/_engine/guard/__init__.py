"""The determinism guard: stops, or warns of, calls that a workflow cannot repeat on replay.

Its parts are

- ``codes``: the codes ``TF101`` and so on, and what they mean;
- ``checks``: the table of calls that they stand for;
- ``table``: the lookup of callables, code and audit events in it;
- ``source``: the checks applied to source text (all versions);
- ``monitor``: the checks applied to calls as they happen (Python 3.12+);
- ``audit``: the checks applied to what reaches the operating system (all versions);
- ``files``: whose a file of code is;
- ``step``: whether this thread is in a step, and which line of user code is at fault.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

from trioflow._codec.values import outside_of_workflows
from trioflow._engine.guard import monitor as guard_monitor
from trioflow._engine.guard.audit import install
from trioflow._engine.guard.checks import CHECKS, Check
from trioflow._engine.guard.source import Finding, check_source
from trioflow._engine.guard.step import (
    enter_step,
    leave_step,
    make_error,
    permitted,
    place_of_caller,
    stepping,
)
from trioflow._engine.guard.table import TABLE
from trioflow._model.workflows import checks_of_source

__all__ = [
    "CHECKS",
    "Check",
    "DeterminismWarning",
    "Finding",
    "check_source",
    "enter_step",
    "install",
    "judge",
    "leave_step",
    "permitted",
    "stepping",
    "warn_source",
    "watch",
]


class DeterminismWarning(UserWarning):
    """A workflow's source calls something whose outcome cannot be repeated on replay."""


def watch(fn: Callable[..., object]) -> None:
    """Watch the calls of a workflow function, and of the user's functions that it calls.

    Calls are judged only while a step runs in the calling thread. Idempotent. On Python 3.11 this
    does nothing; where no monitoring tool is free it warns of what the source shows instead.

    Args:
        fn: The function that was decorated; wrappers and partials are looked behind.
    """
    if not guard_monitor.watch(fn) and guard_monitor.AVAILABLE:
        warn_source(fn)


def judge(fn: Callable[..., object]) -> None:
    """Check and watch a function that a nursery is about to run as a task of a workflow.

    No watched code calls it, so neither the call nor what it calls would be seen otherwise.

    Raises:
        DeterminismError: While a step runs, when a check names the function itself.
    """
    if not stepping.active:
        return
    hit = TABLE.find(fn)
    if hit is not None and not hit.check.fine_with:
        place = place_of_caller()
        if place is not None:
            raise make_error(hit, place)
    guard_monitor.follow(fn)


def warn_source(fn: Callable[..., object]) -> None:
    """Issue one :class:`DeterminismWarning` per finding of :func:`check_source`, at its line."""
    namespace: dict[str, Any] = getattr(fn, "__globals__", {})
    registry = namespace.setdefault("__warningregistry__", {})
    for finding in check_source(fn):
        why = "cannot be repeated on replay"
        if finding.code == "TF111":
            why = "has no loop of asyncio to run on"
        warnings.warn_explicit(
            f"{finding.call}() in a workflow {why} [{finding.code}]; {finding.hint}",
            DeterminismWarning,
            finding.file,
            finding.line,
            module=getattr(fn, "__module__", None),
            registry=registry,
        )


outside_of_workflows.block = permitted

if sys.version_info < (3, 12):  # from 3.12 on the calls themselves are watched
    checks_of_source.append(warn_source)
