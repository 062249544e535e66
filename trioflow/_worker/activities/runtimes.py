"""How activities of each runtime are run: a table, from which capacity and lanes are made.

A runtime says how a function is called and which lane it waits in. Activities of one lane share a
limit: those of the loop are limited for what they hold, those of threads by the number of threads.
A new runtime is a function here, a line of the table, and if it has a limit of its own a lane.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import msgspec
import outcome

from trioflow._engine.hints import add_asyncio_hint
from trioflow._model.definitions import Activity
from trioflow._worker.activities.lanes import Lane, Run, ThreadLane
from trioflow._worker.host import Host, Scope

__all__ = ["RUNTIMES", "Call", "LaneName", "Runtime", "make_lanes"]

LaneName = Literal["loop", "thread"]


class Call(msgspec.Struct):
    """What an attempt calls, and the scope around it."""

    definition: Activity[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    scope: Scope


class Runtime(NamedTuple):
    """How one kind of activity is run.

    Attributes:
        lane: Where it waits.
        invoke: Calls the function, and waits for it.
        boxed: Whether that gives an `outcome.Outcome`. A function beside the loop may raise what
            cannot pass through a coroutine as it is: StopIteration.
        explain: Adds what may help to an error that the function has raised.
    """

    lane: LaneName
    invoke: Callable[[Host, Call, Run], Awaitable[Any]]
    boxed: bool = False
    explain: Callable[[BaseException, str], None] | None = None


def _in_loop(_host: Host, call: Call, _run: Run) -> Awaitable[Any]:
    result: Awaitable[Any] = call.definition.fn(*call.args, **call.kwargs)
    return result


def _in_asyncio(host: Host, call: Call, _run: Run) -> Awaitable[Any]:
    return host.run_asyncio(call.definition.fn, call.args, call.kwargs)


def _in_thread(host: Host, call: Call, run: Run) -> Awaitable[outcome.Outcome[object]]:
    thread = run.thread = host.thread_call(
        lambda: call.definition.call_plain(call.args, call.kwargs)
    )
    return thread.run(call.scope)


def _explain_in_loop(error: BaseException, activity: str) -> None:
    if type(error) in {RuntimeError, TypeError}:
        add_asyncio_hint(error, activity)


RUNTIMES: Final[Mapping[str, Runtime]] = {
    "async": Runtime("loop", _in_loop, explain=_explain_in_loop),
    "asyncio": Runtime("loop", _in_asyncio),
    "thread": Runtime("thread", _in_thread, boxed=True),
}
"""By what `Activity.runtime` says."""


def make_lanes(limit: int, threads: int) -> dict[LaneName, Lane]:
    """Return the lanes of a worker.

    Args:
        limit: How many activities may run at once.
        threads: How many of them may be plain functions.
    """
    return {"loop": Lane(limit), "thread": ThreadLane(min(limit, threads))}
