"""trio's runner without I/O, threads, system tasks and instruments, and with ids of tasks.

Here is what belongs to one private runner: its deadlines, the state of each task, and the refusals.
`nested` steps it.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownArgumentType=false
# pyright: reportIncompatibleVariableOverride=false
# This folder exists to use trio's internals.

from __future__ import annotations

import contextlib
import contextvars
import itertools
import random
import sys
from collections.abc import Callable
from heapq import heappush
from math import inf
from operator import attrgetter
from types import FrameType
from typing import Any, cast

import trio
from outcome import Error, Outcome, Value
from trio._core import _run
from trio._core._ki import KIManager

from trioflow._codec.limits import TASK_LEVELS, check_levels
from trioflow._engine import guard
from trioflow._engine.loop import sharing
from trioflow._engine.loop.standins import NoIO, NoQueue, TurnClock
from trioflow._engine.loop.versions import check_trio
from trioflow._model.activities import Activity
from trioflow._model.ids import TaskIds
from trioflow._model.workflows import Workflow
from trioflow.errors import DeterminismError

__all__ = [
    "AgedStatus",
    "Deadlines",
    "Runner",
    "TaskState",
    "age_of",
    "current_task_state",
    "effective_deadline",
    "in_cancelled_scope",
    "make_runner",
]

check_trio()

_RUN: Any = _run.GLOBAL_RUN_CONTEXT
_BREAKERS: Any = _run.GLOBAL_PARKING_LOT_BREAKER  # type: ignore[attr-defined]  # trio does not export it
_registrations = itertools.count()

age_of: Callable[[_run.Task], int] = attrgetter("_counter")
"""Returns the number of a task's spawn; what is older has a smaller one."""


class Deadlines(_run.Deadlines):
    """trio's heap of deadlines; equal deadlines expire in the order of their registration.

    Attributes:
        present: The turn's time where deadlines are expired one after the other, else ``-inf``.
        past: Deadlines that were set in this turn and had passed when they were; ``None`` for none,
            as nearly always (an empty list for each execution costs the garbage collector).
    """

    __slots__ = ("past", "present")

    present: float
    past: list[tuple[float, trio.CancelScope]] | None

    def add(self, deadline: float, cancel_scope: trio.CancelScope) -> None:
        heappush(self._heap, (deadline, next(_registrations), cancel_scope))
        self._active += 1
        if deadline <= self.present:
            if self.past is None:
                self.past = []
            self.past.append((deadline, cancel_scope))

    def expire_past(self, reached: float) -> None:
        """Cancel scopes whose deadline is at or before ``reached``, or equals the turn's time.

        The rest expire in deadline order. So a scope whose deadline is moved into the past, or to
        the present, ends at once, as in trio. One that is moved by some seconds, and is overdue all
        the same, does not overtake an earlier deadline.
        """
        past, self.past = self.past, None
        for deadline, scope in past or ():
            due = deadline <= reached or deadline == self.present
            if due and deadline == scope._registered_deadline:
                scope._cancel(_run.CancelReason(source="deadline"))


class AgedStatus(_run.CancelStatus):
    """trio's cancel status, which delivers a cancel to its tasks in spawn order.

    trio iterates over sets, that is, by address. Every status around a nursery becomes one of
    these; the others have no more than one task.
    """

    __slots__ = ()

    def recalculate(self) -> None:
        todo: list[_run.CancelStatus] = [self]
        concerned: list[_run.Task] = []
        while todo:
            current = todo.pop()
            seen = current.parent_cancellation_is_visible_to_us
            new_state = current._scope.cancel_called or seen
            if new_state != current.effectively_cancelled:
                if current._scope._cancel_reason is None and seen:
                    assert current._parent is not None
                    current._scope._cancel_reason = current._parent._scope._cancel_reason
                current.effectively_cancelled = new_state
                if new_state:
                    concerned.extend(current._tasks)
                todo.extend(current._children)
        concerned.sort(key=age_of)
        for task in concerned:
            task._attempt_delivery_of_any_pending_cancel()


def _let_age(status: _run.CancelStatus | None) -> None:
    while status is not None and type(status) is _run.CancelStatus:
        status.__class__ = AgedStatus
        status = status._parent


class TaskState(TaskIds):
    """The state that we keep for a task: its ids, its random generator, and what it sleeps for.

    Attributes:
        generator: The task's random generator, once it has asked for one.
        timer: The name of the sleep that it is in, if that has one.
        waits_since: The time of the turn in which it ran last, epoch seconds.
    """

    __slots__ = ("generator", "timer", "waits_since")

    generator: random.Random
    timer: str
    waits_since: float


def _no_threads() -> DeterminismError:
    return DeterminismError(
        "a workflow cannot use threads (trio.to_thread, anyio.to_thread, trio.from_thread, "
        "files, signals): their outcome cannot be replayed. Do this in an activity; a plain "
        "function decorated with @activity already runs in a worker thread."
    )


class RunToken:
    """The trio token of one execution, the key of what is kept by run (`anyio.lowlevel.RunVar`)."""

    __slots__ = ("__weakref__",)

    def run_sync_soon(self, *_: object, **__: object) -> None:
        """Refuse: a call from another thread is not recorded in a workflow's history."""
        raise _no_threads()


_PASSES_TOKEN_ON = ("current_trio_token", "current_token")
_USES_THREADS = (
    *("trio._threads", "trio._signals", "trio._dtls", "trio._repl"),
    *("anyio._backends._trio", "anyio.from_thread"),
)


class Runner(_run.Runner):
    """trio's runner without what a workflow must not use, and with the state of each task.

    Attributes:
        late_last: Whether async generators that begin at the end of the run are closed last.
        limited: Whether the nesting of tasks is; without `late_last` that of tasks that have no
            nursery as well.
        owed: Tasks of hosts that are to be woken once this run has been left, and with what;
            ``None`` for none.
        refused: The task that woke one of another run (``None`` if no task was running), and the
            error that it is to get for that.
    """

    __slots__ = ("in_order", "late_last", "limited", "mark", "owed", "refused", "states")

    deadlines: Deadlines
    in_order: bool
    late_last: bool
    limited: bool
    mark: object
    owed: list[tuple[_run.Task, Outcome[Any]]] | None
    refused: tuple[_run.Task | None, DeterminismError] | None
    states: dict[_run.Task, TaskState]

    def spawn_impl(
        self,
        async_fn: Callable[..., Any],
        args: tuple[Any, ...],
        nursery: trio.Nursery | None,
        name: object,
        *,
        system_task: bool = False,
        context: contextvars.Context | None = None,
    ) -> _run.Task:
        kind = type(async_fn)
        if kind is not Activity and kind is not Workflow:  # these are in no rule
            guard.judge(async_fn)
        if nursery is not None:
            if nursery._parent_task._runner is not self:
                raise sharing.refusal(nursery, sys._getframe(2))
            if self.in_order:
                _let_age(nursery._cancel_status)
        spawner = self.states.get(getattr(_RUN, "task", _NO_TASK))
        if (
            spawner is not None
            and spawner.levels >= TASK_LEVELS
            and self.limited
            and (nursery is not None or not self.late_last)
        ):
            check_levels(spawner.levels + 1, name or getattr(async_fn, "__qualname__", async_fn))
        task = super().spawn_impl(async_fn, args, nursery, name, context=context)
        # Control-C belongs to the host: it is never delivered inside of workflow code.
        task._ki_protected = True
        if spawner is None:
            self.states[task] = TaskState(None, 0)
        else:
            self.states[task] = TaskState(spawner, spawner.spawned)
            spawner.spawned += 1
        return task

    def reschedule(self, task: _run.Task, next_send: Any = _run._NO_SEND) -> None:
        if task._runner is not self or getattr(_RUN, "runner", None) is not self:
            self._wake_and_refuse(task, Value(None) if next_send is _run._NO_SEND else next_send)
            return
        # As in `wake`, without the call.
        assert task._next_send_fn is None
        task._next_send_fn = task.coro.send
        task._next_send = Value(None) if next_send is _run._NO_SEND else next_send
        task._abort_func = None
        task.custom_sleep_data = None
        self.runq.append(task)

    def wake(self, task: _run.Task, next_send: Any) -> None:
        """Reschedule a task of this runner, also from outside of its run."""
        assert task._next_send_fn is None
        task._next_send_fn = task.coro.send
        task._next_send = next_send
        task._abort_func = None
        task.custom_sleep_data = None
        self.runq.append(task)

    def _wake_and_refuse(self, task: _run.Task, next_send: Outcome[Any]) -> None:
        """Wake another run's task, and remember the error for the task at fault.

        A primitive calls this when it has changed already: an error here would lose the wake-up,
        and often a value with it. The task at fault gets the error where it next waits or ends.
        """
        running = getattr(_RUN, "runner", None)
        thing, where = sharing.caller_of_primitive(sys._getframe(2))
        error = sharing.refusal(task if thing is None else thing, where)
        if isinstance(running, Runner):
            if running.refused is None:
                running.refused = getattr(_RUN, "task", None), error
            running.wake_elsewhere(task, next_send)
        else:  # the host cancels a scope of a workflow: it is the workflow that has let it do so
            self.wake(task, Error(error))

    def wake_elsewhere(self, task: _run.Task, next_send: Outcome[Any]) -> None:
        """Wake a task of another run; one of the host's is woken once this run is left."""
        runner = task._runner
        if isinstance(runner, Runner):
            runner.wake(task, next_send)
        else:
            task._abort_func = None  # it has been removed from what it waited in
            if self.owed is None:
                self.owed = []
            self.owed.append((task, next_send))

    def wake_owed(self) -> None:
        """Wake the hosts' tasks that `wake_elsewhere` noted, once this run is left."""
        owed, self.owed = self.owed, None
        for task, next_send in owed or ():
            runner = task._runner
            if runner is getattr(_RUN, "runner", None):
                runner.reschedule(task, next_send)
            else:  # it runs in another thread
                with contextlib.suppress(trio.RunFinishedError):
                    runner.entry_queue.run_sync_soon(runner.reschedule, task, next_send)

    def break_lots(self, task: _run.Task) -> None:
        """Break the parking lots that a task held when it ended."""
        for lot in _BREAKERS.pop(task, ()):
            others = [each for each in lot._parked if each._runner is not self]
            for each in others:
                del lot._parked[each]
            lot.break_lot(task)
            for each in others:
                broken = trio.BrokenResourceError(f"{task.name} ended and held it")
                self.wake_elsewhere(each, Error(broken))

    def task_exited(self, task: _run.Task, outcome: Outcome[object]) -> None:
        if task in _BREAKERS:
            self.break_lots(task)
        try:
            super().task_exited(task, outcome)
        except KeyboardInterrupt:
            raise
        except BaseException:
            nursery = task._parent_nursery
            if task in self.tasks or nursery is None or not isinstance(outcome, Error):
                raise
            if any(error is outcome.error for error in nursery._pending_excs):
                raise
            # It is the repr of the error, which trio asks for: the reason of the cancel that it
            # causes. That is code of its class, and of groups in groups in groups a recursion.
            reason = _run.CancelReason(source="nursery", reason="a child task raised an exception")
            nursery._add_exc(outcome.error, reason)
            nursery._check_nursery_closed()
        self.states.pop(task, None)

    def spawn_system_task(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]  # never called
        raise DeterminismError(
            "a workflow cannot start a system task: it would outlive the workflow's nurseries. "
            "Use trio.open_nursery()."
        )

    def current_trio_token(self) -> Any:
        # Libraries that keep values by run ask for it, which is harmless; code that starts threads
        # asks for it too, and is refused.
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_name in _PASSES_TOKEN_ON:
            frame = frame.f_back
        if frame is not None and frame.f_globals.get("__name__") in _USES_THREADS:
            raise _no_threads()
        if self.trio_token is None:
            self.trio_token = cast("Any", RunToken())
        return self.trio_token

    async def wait_all_tasks_blocked(self, cushion: float = 0.0) -> None:
        raise DeterminismError(
            "a workflow cannot wait for all its tasks to block: that is how its turns end. "
            "Wait for an event instead."
        )


class _NoInstruments(dict[str, Any]):
    """An empty replacement of trio's instruments, shared by all executions.

    Theirs is a `UserDict`, which is asked at every step of a task, and slower.
    """

    __slots__ = ()

    def add_instrument(self, instrument: object) -> None:
        raise DeterminismError(
            "a workflow cannot add a trio instrument: it would see the steps of others. Add it to "
            "the host's loop."
        )

    def remove_instrument(self, instrument: object) -> None:
        raise KeyError(instrument)  # as trio's: it was never added


_NO_IO: Any = NoIO()
_NO_QUEUE: Any = NoQueue()
_NO_ASYNCGENS: Any = object()
_NEVER_IDLE: Any = None  # only `wait_all_tasks_blocked` would use it
_NO_INSTRUMENTS: Any = _NoInstruments()
_NO_KI = KIManager()
_NO_TASK: Any = None
_EMPTY_CONTEXT = contextvars.Context()


def current_task_state() -> TaskState | None:
    """Return the state of the running task, ``None`` where no nested loop is running one."""
    try:
        task = _RUN.task
        state: TaskState = task._runner.states[task]
    except (AttributeError, KeyError):
        return None
    return state


def in_cancelled_scope() -> bool:
    """Return whether the running task's next checkpoint would raise `trio.Cancelled`."""
    cancelled: bool = _RUN.task._cancel_status.effectively_cancelled
    return cancelled


def effective_deadline(task: _run.Task) -> float:
    """Return the earliest deadline that a task's wait is under, ``inf`` for none."""
    deadline = inf
    status: _run.CancelStatus | None = task._cancel_status
    while status is not None:
        scope = status._scope
        deadline = min(deadline, scope.deadline)
        if scope.shield:
            break
        status = status._parent
    return deadline


def make_runner(clock: TurnClock) -> Runner:
    """Return a bare runner that uses the clock and has neither I/O nor threads."""
    deadlines = Deadlines()
    deadlines.present = -inf
    deadlines.past = None
    runner = Runner(
        clock=clock,
        instruments=_NO_INSTRUMENTS,
        io_manager=_NO_IO,
        ki_manager=_NO_KI,
        strict_exception_groups=True,
        system_context=_EMPTY_CONTEXT,
        entry_queue=_NO_QUEUE,
        asyncgens=_NO_ASYNCGENS,
        deadlines=deadlines,
        waiting_for_idle=_NEVER_IDLE,
    )
    runner.in_order = runner.late_last = runner.limited = False
    runner.mark = object()
    runner.owed = None
    runner.refused = None
    runner.states = {}
    return runner
