"""Cleanup of async generators that are left before their end, as in trio.

trio closes them in a task of their own, in a scope that is cancelled: what the cleanup awaits is
cancelled at once, unless it is shielded. Errors are logged, and a warning says what to do instead.

A generator that the garbage collector finds is kept and closed at the end of the run: nothing that
a workflow does may depend on when the collector runs.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownArgumentType=false
# This folder exists to use trio's internals.

from __future__ import annotations

import gc
import itertools
import logging
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import trio
from trio._core import _run

from trioflow._engine.loop.hosting import leave_host
from trioflow._engine.loop.runner import TaskState, current_task_state
from trioflow.errors import Evicted

if TYPE_CHECKING:
    from trioflow._engine.loop.nested import NestedLoop

__all__ = ["Begun", "clean_up_dropped", "finish_at_once", "spawn_cleaner", "spawn_root"]

_logger = logging.getLogger("trio.async_generator_errors")  # trio's own name for it
_CLOSING = "disallow async work when closing async generators during trio shutdown"  # as trio says
_MOST_ROUNDS = 100  # how often a cleanup may swallow the error that ends it
_FEW = 100  # with fewer entries, those of freed generators are not removed
_RUN: Any = _run.GLOBAL_RUN_CONTEXT
_numbers = itertools.count()

_phases: dict[str, object] = {}  # of collections of garbage, the latest last
_phases_here = threading.local()  # those of this thread
# No Python functions: a Ctrl-C that comes during a collection is raised in the next Python code to
# run, and what is raised in a callback is only reported.
gc.callbacks += (_phases.pop, _phases.__setitem__, _phases_here.__setattr__)


def _somebody_collects() -> bool:
    """Return whether any thread is collecting garbage."""
    return [*_phases][-1:] == ["start"]


def _is_collecting() -> bool:
    """Return whether this thread is collecting garbage."""
    return _somebody_collects() and getattr(_phases_here, "start", None) is _phases["start"]


class Begun:
    """The async generators of one execution, in the order in which they began."""

    __slots__ = ("_kept", "_many", "_noted")

    def __init__(self) -> None:
        # Keyed by id(): the collector clears weak references before the finalizer hook is called.
        self._noted: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self._kept: dict[int, Any] = {}
        self._many = _FEW

    def add(self, agen: Any) -> None:
        """Add a generator that begins."""
        if len(self._noted) >= self._many and not _somebody_collects():
            for key, (_, ref) in list(self._noted.items()):
                if ref() is None and key not in self._kept:
                    del self._noted[key]
            self._many = max(_FEW, 2 * len(self._noted))
        self._noted[id(agen)] = next(_numbers), weakref.ref(agen)

    def drop(self, agen: Any) -> None:
        """Remove a generator that is being cleaned up."""
        self._noted.pop(id(agen), None)

    def keep(self, agen: Any) -> None:
        """Keep a generator that the garbage collector found, until the rest is closed."""
        self._kept[id(agen)] = agen

    def left(self) -> list[Any]:
        """Return the generators that have not ended, oldest first."""
        found = [
            (number, self._kept.get(key) or ref()) for key, (number, ref) in self._noted.items()
        ]
        found.sort(key=lambda each: each[0])
        return [agen for _, agen in found if agen is not None and agen.ag_frame is not None]


def clean_up_dropped(loop: NestedLoop, agen: Any) -> None:
    """Clean up an async generator that was dropped before its end."""
    runner, begun = loop._runner, loop._agens
    if runner.in_order and loop.outcome is None and not loop.fenced:
        if _is_collecting():
            if begun is not None:
                begun.keep(agen)
                return
        elif runner.late_last and loop._final is not None and begun is not None:
            begun.keep(agen)
            return
        elif getattr(_RUN, "runner", None) is runner:
            if begun is not None:
                begun.drop(agen)
            spawn_cleaner(loop, [agen], f"close asyncgen {_name_of(agen)} (abandoned)")
            if not loop.quiet:
                _warn_of(agen)
            return
    # The garbage collector may run anywhere, also in another execution or in an activity: this
    # cleanup may not have effects.
    fenced, loop.fenced = loop.fenced, True
    host = loop._enter()
    try:
        loop._context.copy().run(finish_at_once, agen)
    finally:
        leave_host(host)
        loop.fenced = fenced


def spawn_cleaner(loop: NestedLoop, agens: list[Any], name: str = "<init>") -> None:
    """Close async generators in a task of their own, as trio does in a system task.

    Args:
        loop: Where they began.
        agens: They are removed from this list.
        name: Of the task. At the end of a run trio's own first task closes what is left.
    """

    async def clean() -> None:
        while agens:
            await _close_left(agens.pop(0), loop)

    loop._cleaned += 1
    spawn_root(loop, clean, name, TaskState(None, loop._cleaned))


def spawn_root(
    loop: NestedLoop, fn: Callable[[], Coroutine[Any, Any, object]], name: str, ids: TaskState
) -> _run.Task:
    """Start a task that has no nursery, for which the end of the run waits.

    Args:
        loop: The loop, which is the thread's now.
        fn: What it runs.
        name: The task's name.
        ids: Its ids; whoever runs now does not count it as a task that it has spawned.
    """
    runner, state = loop._runner, current_task_state()
    spawned = 0 if state is None else state.spawned
    # Without it trio takes this one for the first of all tasks.
    first, runner.init_task = runner.init_task, None
    try:
        task = loop._context.copy().run(runner.spawn_impl, fn, (), None, name)
    finally:
        runner.init_task = first
    if state is not None:
        state.spawned = spawned  # the task's next spawn keeps its index
    runner.states[task] = ids
    loop._others |= {task}
    return task


async def _close_left(agen: Any, loop: NestedLoop) -> None:
    """Close an async generator; what it raises is logged, once."""
    name = agen.__qualname__
    try:
        with trio.CancelScope(shield=True) as scope:
            scope.cancel(reason=_CLOSING)
            await agen.aclose()
    except Evicted:
        raise
    except BaseException:
        if not loop.fenced and not loop.quiet:
            _logger.exception(
                "Exception ignored during finalization of async generator %r -- surround your use "
                "of the generator in 'async with aclosing(...):' to raise exceptions like this in "
                "the context where they're generated",
                name,
            )


def finish_at_once(agen: Any) -> None:
    """Run an async generator's cleanup up to its first wait, and end it there."""
    closer = agen.aclose()
    try:
        closer.send(None)
        for _ in range(_MOST_ROUNDS):  # it waits, so it ends here, also if it swallows the error
            closer.throw(Evicted())  # not GeneratorExit, which would close what it awaits
    except BaseException:  # noqa: BLE001  # it has ended, or nobody is left to be told
        return


def _name_of(agen: Any) -> str:
    return f"{agen.ag_frame.f_globals.get('__name__', '?')}.{agen.__qualname__}"


def _warn_of(agen: Any) -> None:
    """Warn of an async generator that was dropped before its end."""
    warnings.warn(
        f"Async generator {_name_of(agen)!r} was garbage collected before it had been exhausted. "
        "Surround its use in 'async with aclosing(...):' to ensure that it gets cleaned up as "
        "soon as you're done using it.",
        ResourceWarning,
        stacklevel=4,  # the code that let go of it
        source=agen,
    )
