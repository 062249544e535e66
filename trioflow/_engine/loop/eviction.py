"""Unwinding an execution's tasks out of memory.

Suspended coroutines must not be left to the garbage collector: it would run their ``finally``
blocks anywhere and at any time, also within another execution. So an error is thrown into every
task until all of them have ended. Meanwhile the loop is fenced: what the code asks for has no
effect.
"""

# pyright: reportPrivateUsage=false, reportUnknownArgumentType=false
# This folder exists to use trio's internals.

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio
from outcome import Error

from trioflow._codec.foreign import suppressed
from trioflow._engine.loop.generators import finish_at_once
from trioflow._engine.loop.hosting import leave_host
from trioflow._engine.loop.nested import NestedLoop
from trioflow._engine.loop.runner import age_of
from trioflow._engine.loop.sharing import raising

__all__ = ["keep_for_ever", "unwind"]

_MOST_ROUNDS = 100  # how often code may swallow the error
_MOST_BATCHES = 1000  # how many batches of tasks may run in one round

# Loops whose tasks swallowed their eviction: the garbage collector must not run their code.
_immortal: list[NestedLoop] = []


def unwind(
    loop: NestedLoop, error: Callable[[], BaseException], rounds: int = _MOST_ROUNDS
) -> bool:
    """Throw ``error()`` into every blocked task, again and again, until no task is left.

    A task in a nursery's exit is left to its children.

    Returns:
        False if some task survived all rounds, that is, swallowed everything.
    """
    loop.fenced = True
    loop.steps.set(inf)
    runner = loop._runner
    if not runner.tasks and not loop._agens:
        return True
    if loop._main is not None:
        with suppressed():  # here and below: abort functions are code of users, too
            loop.cancel_root(None)
    host = loop._enter()
    try:
        for _ in range(rounds):
            for _ in range(_MOST_BATCHES):
                if not runner.runq:
                    break
                with suppressed():
                    loop._run_batch()
            else:
                break  # a task swallows every error and never waits: more rounds are of no use
            if not runner.tasks:
                break
            for task in sorted(runner.tasks, key=age_of, reverse=True):
                in_exit = any(n._parent_waiting_in_aexit for n in task._child_nurseries)
                if task._next_send_fn is None and not in_exit:
                    _throw(loop, task, error())
        for agen in loop._take_agens():
            loop._context.copy().run(finish_at_once, agen)
    finally:
        leave_host(host)
    return not runner.tasks


def keep_for_ever(loop: NestedLoop) -> None:
    """Keep a loop that `unwind` could not empty, with its tasks, until the process is gone."""
    if not _immortal:
        # The end of the process clears modules, in an order that depends on who imports whom; the
        # code would run then, without its execution, perhaps without end.
        from ctypes import py_object, pythonapi  # noqa: PLC0415  # hardly ever needed

        pythonapi.Py_IncRef(py_object(_immortal))
    _immortal.append(loop)


def _throw(loop: NestedLoop, task: trio.lowlevel.Task, error: BaseException) -> None:
    """Wake a task with an error, after aborting its wait."""
    abort, task._abort_func = task._abort_func, None
    if abort is not None:
        with suppressed():
            abort(raising(error))
    loop._runner.reschedule(task, Error(error))
