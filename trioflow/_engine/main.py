"""The main task of an execution: decodes the input and runs the function within its deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from trioflow._engine.ending import over
from trioflow._engine.intercepting import intercepted
from trioflow._model.events import Started
from trioflow._model.ids import MAIN_TASK
from trioflow._model.rules import LATE_GENERATORS

if TYPE_CHECKING:
    from trioflow._engine.execution import Execution

__all__ = ["run_main"]


async def run_main(execution: Execution, started: Started) -> Any:
    """Call the workflow's function as the first event says, and return what it returns."""
    definition, name = execution.definition, execution.definition.name
    try:
        args, kwargs = definition.signature.decode(execution.codec, bytes(started.input), name)
    except Exception as exc:  # noqa: BLE001  # whatever a codec or a type says
        what = f"its input ({definition.where})"
        raise execution.cannot_read(what, exc, MAIN_TASK) from None
    if execution.propagators:
        for propagator in execution.propagators:
            propagator.extract(started.metadata)
        execution.loop.adopt_context()  # handlers see the same
    fn = definition.fn
    if execution.interceptors:
        fn = intercepted(execution.interceptors, definition, execution.acting.id)
    deadline = started.deadline_at
    if deadline is not None:
        return await _until(deadline, name, fn, *args, **kwargs)
    # Newer ones have recorded that there is none, whatever the definition says by now.
    if definition.timeout is None or execution.rules >= LATE_GENERATORS:
        return await fn(*args, **kwargs)
    with trio.move_on_after(definition.timeout) as scope:
        return await fn(*args, **kwargs)
    assert scope.cancelled_caught
    raise TimeoutError(f"workflow {name!r} took longer than its timeout of {definition.timeout} s")


async def _until(
    deadline: float, name: str, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any
) -> Any:
    """Call the function of a workflow of that name with the instance's deadline around it.

    Raises:
        TimeoutError: The deadline has passed, perhaps before the workflow could begin.
    """
    if deadline > trio.current_time():
        with trio.CancelScope(deadline=deadline) as scope:
            return await fn(*args, **kwargs)
        assert scope.cancelled_caught
    raise over(deadline, name)
