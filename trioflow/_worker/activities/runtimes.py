"""How activities of each runtime are run: a table, from which capacity and lanes are made.

A runtime says how a function is called and which lane it waits in. Activities of one lane share a
limit: those of the loop are limited for what they hold, those of threads and of processes by the
number of these.
A new runtime is a function here, a line of the table, and if it has a limit of its own a lane.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import outcome
import trio

from trioflow._engine.hints import add_asyncio_hint, trio_on_asyncio
from trioflow._model.activities import Activity
from trioflow._model.commands import ActivityOptions, decode_options
from trioflow._model.info import ActivityInfo, current_activity
from trioflow._worker.activities.lanes import Lane, Run, ThreadLane
from trioflow._worker.activities.processes import frames
from trioflow._worker.activities.processes.frames import Answer
from trioflow._worker.activities.processes.pool import ProcessPool, place_of
from trioflow._worker.activities.pulse import INTERVAL
from trioflow._worker.activities.transactions import Begin, call_in_transaction
from trioflow._worker.host import Host, Scope
from trioflow.backends.records import ActivityTask

__all__ = [
    "RUNTIMES",
    "Call",
    "LaneName",
    "Resources",
    "Runtime",
    "info_of",
    "make_lanes",
    "silence_of",
]

LaneName = Literal["loop", "thread", "process"]


class Call(msgspec.Struct):
    """What an attempt calls, the scope around it, and what hears its heartbeats.

    ``begin`` has its limits watched from now on; it is there if the runtime is to say when.
    ``encode`` encodes what a transactional function returns.
    """

    definition: Activity[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    scope: Scope
    beat: Callable[[object], None]
    begin: Callable[[], None] | None = None
    encode: Callable[[object], bytes] | None = None


class Resources(NamedTuple):
    """What the runtimes of one worker need."""

    host: Host
    processes: ProcessPool
    begin_transaction: Begin


class Runtime(NamedTuple):
    """How one kind of activity is run.

    Attributes:
        lane: Where it waits.
        invoke: Calls the function, and waits for it.
        boxed: Whether that gives an `outcome.Outcome`. A function beside the loop may raise what
            cannot pass through a coroutine as it is: StopIteration.
        explain: Gives the error that an attempt fails with for one that the function has raised:
            the same with what may help, or one that says what is wrong.
        coded: Whether it decodes the arguments and encodes the result itself; then ``invoke`` gives
            an `Answer`, heartbeats come encoded, and it says when the call begins.
    """

    lane: LaneName
    invoke: Callable[[Resources, Call, Run], Awaitable[Any]]
    boxed: bool = False
    explain: Callable[[BaseException, str], BaseException] | None = None
    coded: bool = False


def _in_loop(_resources: Resources, call: Call, _run: Run) -> Awaitable[Any]:
    result: Awaitable[Any] = call.definition.fn(*call.args, **call.kwargs)
    return result


def _in_asyncio(resources: Resources, call: Call, _run: Run) -> Awaitable[Any]:
    return resources.host.run_asyncio(call.definition.fn, call.args, call.kwargs)


def _in_thread(resources: Resources, call: Call, run: Run) -> Awaitable[outcome.Outcome[object]]:
    def called() -> object:
        if call.encode is None:
            return call.definition.call_plain(call.args, call.kwargs)
        return call_in_transaction(resources.begin_transaction, call, run)

    thread = run.thread = resources.host.thread_call(called)
    return thread.run(call.scope)


def _in_process(resources: Resources, call: Call, run: Run) -> Awaitable[Answer]:
    info = current_activity.get()
    assert info is not None
    assert call.begin is not None
    if not resources.processes.prepared:  # it was decorated when the worker ran already
        resources.processes.prepare([call.definition])
    silence = silence_of(call.definition, run.options)
    frame = frames.Call(
        *place_of(call.definition),
        info,
        run.task.input,
        INTERVAL if silence is None else min(INTERVAL, silence / 4),
    )
    return resources.processes.run(frame, call.begin, call.beat)


def _explain_in_loop(error: BaseException, activity: str) -> BaseException:
    if type(error) not in {RuntimeError, TypeError, AttributeError}:
        return error
    if trio.lowlevel.in_trio_task():
        add_asyncio_hint(error, activity)
        return error
    return _explain_in_asyncio(error, activity)


def _explain_in_asyncio(error: BaseException, activity: str) -> BaseException:
    instead = trio_on_asyncio(error, activity)
    if instead is None:
        return error
    instead.__cause__ = error
    return instead


RUNTIMES: Final[Mapping[str, Runtime]] = {
    "async": Runtime("loop", _in_loop, explain=_explain_in_loop),
    "asyncio": Runtime("loop", _in_asyncio, explain=_explain_in_asyncio),
    "thread": Runtime("thread", _in_thread, boxed=True),
    "process": Runtime("process", _in_process, coded=True),
}
"""By what `Activity.runtime` says."""


def make_lanes(limit: int, threads: int, processes: int) -> dict[LaneName, Lane]:
    """Return the lanes of a worker.

    Args:
        limit: How many activities may run at once.
        threads: How many of them may be plain functions.
        processes: How many of them may be in processes of their own.
    """
    return {
        "loop": Lane(limit),
        "thread": ThreadLane(min(limit, threads)),
        "process": Lane(min(limit, processes)),
    }


def silence_of(definition: Activity[..., Any], options: ActivityOptions | None) -> float | None:
    """Return the heartbeat_timeout of a call."""
    if options and options.heartbeat_timeout is not None:
        return options.heartbeat_timeout
    return definition.heartbeat_timeout


def _called_in(options: bytes) -> int | None:
    """Return which execution has called an activity, if the present one has taken that over."""
    if b'"execution":' not in options:
        return None
    try:
        found = decode_options(options)
    except msgspec.MsgspecError:  # the attempt fails because of it
        return None
    return None if found is None else found.execution


def info_of(task: ActivityTask, heartbeat: Any = None) -> ActivityInfo:
    """Return what an activity may know of its call."""
    key = task.key
    called_in = _called_in(task.options) if task.options else None
    return ActivityInfo(
        activity=task.activity,
        instance=key.instance,
        execution=key.execution if called_in is None else called_in,
        command=key.command,
        attempt=task.attempt,
        scheduled_at=task.scheduled_at,
        queue=task.queue,
        life=key.life,
        heartbeat=heartbeat,
    )
