"""A private trio scheduler that its owner steps.

trio's own run loop owns the process' I/O, threads and signals. A workflow needs none of these, but
all of the rest: tasks, nurseries, cancel scopes, deadlines. So each execution owns a bare
`trio._core._run.Runner`, and `NestedLoop.step` does what trio's loop does between two waits for
I/O, in a fixed order: tasks by age, deadlines by time and age.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownArgumentType=false
# This folder exists to use trio's internals.

from __future__ import annotations

import contextlib
import contextvars
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from math import inf
from typing import Any, TypeVar

import trio
from outcome import Error, Outcome, Value
from trio._core import _run, _traps

from trioflow._codec.failures.groups import continuation
from trioflow._engine.loop.generators import Begun, clean_up_dropped, spawn_cleaner, spawn_root
from trioflow._engine.loop.hosting import Host, enter_host, leave_host
from trioflow._engine.loop.runner import TaskState, age_of, make_runner
from trioflow._engine.loop.sharing import WAIT_MODULES, refuse_use, throw_refusal
from trioflow._engine.loop.standins import TurnClock
from trioflow._engine.loop.steps import StepLimit
from trioflow.errors import DeterminismError

__all__ = ["NestedLoop", "is_expired"]

T = TypeVar("T")

_RUN: Any = _run.GLOBAL_RUN_CONTEXT
_Shielded = _traps.CancelShieldedCheckpoint
_Wait = _traps.WaitTaskRescheduled
_Detach = _traps.PermanentlyDetachCoroutineObject
_EMPTY_CONTEXT = contextvars.Context()
_BREAKERS: Any = _run.GLOBAL_PARKING_LOT_BREAKER  # type: ignore[attr-defined]  # trio does not export it


class NestedLoop:
    """One private scheduler: started once, then stepped until its main task ends.

    Attributes:
        outcome: How the main task ended, ``None`` before.
        root: The cancel scope around the main task.
        steps: How many task steps may be made from now on.
        fenced: True while code runs only to be unwound: nothing it asks for may have an effect.
        quiet: Whether warnings and logs are held back, because they were given before.
    """

    __slots__ = (
        "_agens",
        "_cleaned",
        "_clock",
        "_context",
        "_final",
        "_first",
        "_fn",
        "_host",
        "_main",
        "_others",
        "_runner",
        "_scopes",
        "fenced",
        "outcome",
        "quiet",
        "root",
        "steps",
    )

    def __init__(self, context: contextvars.Context) -> None:
        self._clock = TurnClock()
        self._runner = make_runner(self._clock)
        self._context = context
        self._main: _run.Task | None = None
        self._fn: Callable[..., Any] | None = None
        self._first: tuple[Callable[[], Coroutine[Any, Any, Any]], str] | None = None
        self._agens: Begun | None = None
        self._cleaned = 0  # how many tasks were spawned to clean up
        # Tasks without a nursery besides the main one; the end of the run waits for them.
        self._others: frozenset[_run.Task] = frozenset()
        self._scopes: dict[_run.Task, trio.CancelScope] | None = None  # of those that `spawn` began
        self._final: Outcome[Any] | None = None  # how the main task ended, while others clean up
        self._host: Host | None = None  # what is to be restored after several steps
        self.quiet = False
        self.fenced = False
        self.steps = StepLimit()
        self.outcome: Outcome[Any] | None = None
        self.root = trio.CancelScope()

    # --- what the host calls ------------------------------------------------------------

    def start(
        self,
        main: Callable[[], Coroutine[Any, Any, Any]],
        name: str,
        fn: Callable[..., Any] | None = None,
    ) -> None:
        """Set the main task, and the workflow's function; the first `step` runs it."""
        self._fn = fn

        async def enter() -> Any:
            with self.root:
                return await main()

        self._first = enter, name

    def reschedule(self, task: trio.lowlevel.Task, outcome: Outcome[Any]) -> None:
        """Wake a task that waits in `trio.lowlevel.wait_task_rescheduled`."""
        self._runner.wake(task, outcome)

    def cancel_root(self, reason: str | None) -> None:
        """Cancel the scope around the main task, and then those of what `spawn` began."""
        host = self._enter()
        try:
            why = _run.CancelReason(source="explicit", reason=reason)
            self.root._cancel(why)
            self._cancel_spawned(why)
        finally:
            leave_host(host)

    @property
    def ending(self) -> bool:
        """Whether the main task has ended, or the scope around it is cancelled."""
        return self._final is not None or self.outcome is not None or self.root._cancel_called

    def spawn(
        self,
        fn: Callable[[trio.CancelScope], Coroutine[Any, Any, object]],
        name: str,
        kind: str,
        number: int,
        *,
        deadline: float = inf,
    ) -> None:
        """Start a task beside the main one, whose path is ``kind`` and ``number``.

        The end of the run waits for it. Its scope is cancelled with the scope around the main task,
        and when that raises something else than `ContinueAsNew`.

        Args:
            fn: Given its scope, which it has to enter. It raises nothing.
            name: Of the task.
            kind: See `TaskPath.kind`.
            number: See there.
            deadline: Of its scope.
        """
        runner = self._runner
        scope = trio.CancelScope(deadline=deadline)
        host = None if getattr(_RUN, "runner", None) is runner else self._enter()
        try:
            task = spawn_root(self, lambda: fn(scope), name, TaskState(None, number, kind))
        finally:
            if host is not None:
                leave_host(host)
        if self._scopes is None:
            self._scopes = {}
        self._scopes[task] = scope

    def adopt_context(self) -> None:
        """Let what is called or begins outside of all tasks see the context of the running one."""
        self._context = contextvars.copy_context()

    def call_in_context(self, fn: Callable[[], T]) -> T:
        """Call a function with context variables as at the beginning; what it sets is dropped."""
        return self._context.copy().run(fn)

    def set_rules(self, *, in_order: bool, limited: bool, late_last: bool) -> None:
        """Set by which rules it runs; to be called before the loop is started.

        Args:
            in_order: Cancellation is delivered to tasks in spawn order.
            limited: Tasks are nested only so deep.
            late_last: Async generators that begin in cleanups at the end are cleaned up after the
                others, as by trio.
        """
        runner = self._runner
        runner.in_order, runner.limited, runner.late_last = in_order, limited, late_last

    def halt(self) -> None:
        """Make the present step raise `StepsUsedUp` before another task runs."""
        self.steps.exhaust()

    @contextlib.contextmanager
    def entered(self) -> Generator[None]:
        """Make this the thread's loop for several steps, instead of for each of them."""
        self._host = host = self._enter()
        try:
            yield
        finally:
            self._host = None
            leave_host(host)

    def step(self, now: float) -> None:
        """Set the clock, expire what is due, and run tasks until every task is blocked.

        Raises:
            KeyboardInterrupt: It was raised inside workflow code; the loop must be thrown away.
            StepsUsedUp: The tasks never block; likewise.
        """
        self._clock.now = now
        deadlines = self._runner.deadlines
        runq = self._runner.runq
        host = self._host or enter_host(self._runner, self._agen_began, self._agen_dropped)
        try:
            if self._first is not None:
                self._spawn_main(*self._first)
            deadlines.expire(now)
            while runq:
                self._run_batch()
                deadlines.expire(now)
        finally:
            if host is not self._host:
                leave_host(host)

    @property
    def agenda(self) -> tuple[int, float]:
        """How many tasks are to run, and the earliest deadline."""
        return len(self._runner.runq), self._runner.deadlines.next_deadline()

    def generators(self) -> list[random.Random]:
        """The random generators of the living tasks."""
        states = self._runner.states.values()
        return [state.generator for state in states if hasattr(state, "generator")]

    @property
    def next_deadline(self) -> float:
        """The earliest deadline, ``inf`` if there is none."""
        return self._runner.deadlines.next_deadline()

    @property
    def alive(self) -> int:
        """How many tasks there are."""
        return len(self._runner.tasks)

    def tasks(self) -> list[tuple[trio.lowlevel.Task, TaskState]]:
        """The living tasks with their states, oldest first."""
        return sorted(self._runner.states.items(), key=lambda item: item[0]._counter)

    def forget(self) -> None:
        """Drop references to the owner of this loop, so that no cycle is left."""
        self._context = _EMPTY_CONTEXT
        self.outcome = self._final = None  # the frames of an exception's traceback lead here
        self._main = self._runner.main_task = self._runner.init_task = None

    # --- inside -------------------------------------------------------------------------

    def _spawn_main(self, main: Callable[[], Coroutine[Any, Any, Any]], name: str) -> None:
        self._first = None
        task = self._context.run(self._runner.spawn_impl, main, (), None, name)
        self._main = self._runner.main_task = self._runner.init_task = task

    def _run_batch(self) -> None:
        runq = self._runner.runq
        count = len(runq)
        steps = self.steps
        steps.left -= count
        if steps.left < 0:
            steps.take_tally(runq)
        if count == 1:
            self._run_task(runq.popleft())
            return
        batch = deque(sorted(runq, key=age_of))
        runq.clear()
        try:
            while batch:
                self._run_task(batch.popleft())
        finally:
            runq.extend(batch)  # after a KeyboardInterrupt they are still to be unwound

    def _run_task(self, task: _run.Task) -> None:  # noqa: C901, PLR0912  # one branch for each end
        _RUN.task = task
        send, value = task._next_send_fn, task._next_send
        task._next_send_fn = task._next_send = None
        final: Outcome[Any] | None = None
        message: Any = None
        try:
            message = task.context.run(send, value)  # type: ignore[arg-type]  # set for a scheduled task
        except StopIteration as stop:
            final = Value(stop.value)
        except KeyboardInterrupt:
            del _RUN.task
            raise
        except BaseException as exc:  # noqa: BLE001  # a task's outcome may be any exception
            # Not exc.with_traceback(), which its class may have replaced.
            # No local holds the traceback: it would be a reference cycle through this frame.
            final = Error(BaseException.with_traceback(exc, _without_top(sys.exc_info()[2])))
        finally:
            del send, value
        try:
            if self._runner.refused is not None and throw_refusal(self, task, message, final):
                return
            if final is not None:
                self._task_ended(task, final)
                return
            task._schedule_points += 1
            self._runner.states[task].waits_since = self._clock.now
            if message is _Shielded:
                if not refuse_use(self, task, None):
                    self._runner.wake(task, Value(None))
            elif type(message) is _Wait:
                task._cancel_points += 1
                abort = task._abort_func = message.abort_func
                if abort.__module__ not in WAIT_MODULES or not refuse_use(self, task, abort):
                    task._attempt_delivery_of_any_pending_cancel()
            elif type(message) is _Detach:
                self._task_ended(task, message.final_outcome)
            else:
                self._refuse(task, message)
        finally:
            # The frames of an exception's traceback refer to this one (`f_back`), from 3.12 on also
            # after it has ended: a local that is left would be part of a reference cycle.
            del _RUN.task, task, final, message

    def _refuse(self, task: _run.Task, message: object) -> None:
        error = DeterminismError(
            "a workflow awaited something that is not trio's or anyio's (it yielded "
            f"{message!r}), for example an asyncio future. Use trio's or anyio's primitives "
            "here, and asyncio in activities."
        )
        thrown: Any = error  # not an Outcome: it is passed to coro.throw
        self._runner.reschedule(task, thrown)
        task._next_send_fn = task.coro.throw

    def _task_ended(self, task: _run.Task, final: Outcome[Any]) -> None:
        if task is not self._main and task not in self._others:
            self._runner.task_exited(task, final)
            return
        # In trio the exit of a task without a nursery ends the run; the rest is as there.
        if task._child_nurseries:
            for nursery in task._child_nurseries:
                nursery.cancel_scope._cancel(None)
                nursery._closed = True
            left = RuntimeError(
                f"Nursery stack corrupted: a nursery of {task.name} was left without being closed"
            )
            if isinstance(final, Error):
                left.__context__ = final.error
            final = Error(left)
        if task in _BREAKERS:
            self._runner.break_lots(task)
        task._activate_cancel_status(None)  # as trio itself does at a task's end
        self._runner.tasks.remove(task)
        self._runner.states.pop(task, None)
        if task is self._main:
            self._final = final
            if self._scopes and isinstance(final, Error) and continuation(final.error) is None:
                self._cancel_spawned(
                    _run.CancelReason(source="nursery", reason="the workflow has failed")
                )
        else:
            self._others -= {task}
            if self._scopes:
                self._scopes.pop(task, None)
        self._end_when_clean()

    def _cancel_spawned(self, why: _run.CancelReason) -> None:
        for scope in list(self._scopes.values()) if self._scopes else ():
            scope._cancel(why)

    def _end_when_clean(self) -> None:
        """End the run once the main task and the others have ended, and generators are closed."""
        if self._final is None or self._others:
            return
        if self._runner.in_order and not self.fenced:
            left = self._take_agens()
            if left:
                spawn_cleaner(self, left)
                return
        self.outcome, self._final = self._final, None

    def _enter(self) -> Host:
        return enter_host(self._runner, self._agen_began, self._agen_dropped)

    def _agen_began(self, agen: Any) -> None:
        if self._agens is None:
            self._agens = Begun()
        self._agens.add(agen)

    def _take_agens(self) -> list[Any]:
        begun, self._agens = self._agens, None
        return [] if begun is None else begun.left()

    def _agen_dropped(self, agen: Any) -> None:
        clean_up_dropped(self, agen)


def is_expired(scope: trio.CancelScope) -> bool:
    """Whether a scope is cancelled because its deadline has passed."""
    reason = scope._cancel_reason
    return reason is not None and reason.source == "deadline"


def _without_top(tb: types.TracebackType | None) -> types.TracebackType | None:
    """Drop our own frame, and those of ``Context.run``, from the top of a task's traceback."""
    for _ in range(1 + _run.CONTEXT_RUN_TB_FRAMES):
        if tb is not None:
            tb = tb.tb_next
    return tb
