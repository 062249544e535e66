"""Detection of locks, events and channels that a workflow shares with another run.

What other instances and the service around it do is not recorded in a workflow's history, and
trio's primitives belong to one run. No object says which; one is taken to be another run's if

- a module, something that a module holds, or what the workflow was defined in refers to it;
- another execution has used it before (as this one itself has, before it was evicted);
- a task of another run waits in it or holds it;
- anyio made it outside of any event loop.

What is reached in another way is not noticed before a second execution uses it. A call that is not
awaited (``event.set()``, ``send_nowait()``) is not noticed before it wakes another run's task.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# This folder exists to use trio's internals.

from __future__ import annotations

import contextlib
import gc
import inspect
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

import anyio
import trio
from anyio._backends import _trio as _anyio_on_trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from outcome import Error, Outcome
from trio._core import _traps

from trioflow._engine.guard.files import is_user_file
from trioflow.errors import DeterminismError

if TYPE_CHECKING:
    from trioflow._engine.loop.nested import NestedLoop

__all__ = [
    "WAIT_MODULES",
    "Use",
    "caller_of_primitive",
    "find_use",
    "is_of_another",
    "raising",
    "refusal",
    "refuse_use",
    "throw_refusal",
]

_PRIMITIVES: tuple[Any, ...] = (
    *(trio.Event, trio.Lock, trio.StrictFIFOLock, trio.Semaphore, trio.CapacityLimiter),
    *(trio.Condition, trio.lowlevel.ParkingLot, trio.MemorySendChannel, trio.MemoryReceiveChannel),
    *(anyio.Event, anyio.Lock, anyio.Condition, anyio.Semaphore, anyio.CapacityLimiter),
    *(MemoryObjectSendStream, MemoryObjectReceiveStream),
)
_MODULES = frozenset(
    {
        *("trio._sync", "trio._channel", "trio._core._parking_lot"),
        *("anyio._core._synchronization", "anyio.streams.memory", _anyio_on_trio.__name__),
    }
)
_FILES = frozenset(
    module.__file__ for name, module in sys.modules.items() if name in _MODULES and module.__file__
)
_MOST_MEMBERS = 1000  # of one container that a module holds

#: Modules whose abort functions belong to a wait in a primitive.
WAIT_MODULES = frozenset({"trio._sync", "trio._channel", "trio._core._parking_lot"})


class Use(NamedTuple):
    """A primitive that a task is in while it lets others run.

    Attributes:
        thing: What the user's code called.
        inner: What that calls, or the same.
        frame: Of the inner one's method.
        callers: What runs outside of it, from the task's function on.
    """

    thing: Any
    inner: Any
    frame: types.FrameType
    callers: list[types.FrameType]


def find_use(coro: Any) -> Use | None:
    """Find the primitive that a suspended coroutine is in, if it is in one."""
    if not _passes_primitive(coro):
        return None
    thing = inner = place = None
    callers: list[types.FrameType] = []
    while coro is not None:
        frame, coro = _frame_and_next(coro)
        if frame is None:
            continue
        if frame.f_globals.get("__name__") in _MODULES:
            owner = frame.f_locals.get("self")
            if isinstance(owner, _PRIMITIVES):
                thing = owner if thing is None else thing
                inner, place = owner, frame
        elif thing is None:
            callers.append(frame)
    return None if place is None else Use(thing, inner, place, callers)


def _passes_primitive(coro: Any) -> bool:
    """Check quickly whether a primitive is on the stack. This runs at every checkpoint."""
    while type(coro) is types.CoroutineType:
        if coro.cr_code.co_filename in _FILES:
            return True
        coro = coro.cr_await
    return coro is not None and type(coro) is not types.GeneratorType


def _frame_and_next(coro: Any) -> tuple[types.FrameType | None, Any]:
    if isinstance(coro, types.CoroutineType):
        return coro.cr_frame, coro.cr_await
    if isinstance(coro, types.GeneratorType):
        return coro.gi_frame, coro.gi_yieldfrom  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # anything
    if type(coro).__name__ in ("async_generator_asend", "async_generator_athrow"):
        for each in gc.get_referents(coro):  # the only way to the generator that it drives
            if isinstance(each, types.AsyncGeneratorType):
                return each.ag_frame, each.ag_await
    return None, None


# --- whose it is --------------------------------------------------------------------------

_owners: dict[int, tuple[weakref.ref[Any], object]] = {}


def is_of_another(
    use: Use, run: object, fn: Callable[..., Any] | None, other: Callable[[Any], bool]
) -> bool:
    """Return whether a primitive belongs to another run; a new one belongs to this from now on.

    Args:
        use: How it is used.
        run: Stands for this run.
        fn: The workflow's function.
        other: Whether a task is of another run.
    """
    key = _identity_of(use.thing)
    known = _owners.get(id(key))
    if known is not None and known[0]() is key:
        return known[1] is not run
    if _is_adapter(use.thing) or any(other(task) for task in _tasks_in(use.inner)):
        return True
    if any(_is_in_module(frame.f_globals, key) for frame in use.callers):
        return True
    if fn is not None and any(each is key for each in _closed_over(fn, 2)):
        return True
    with contextlib.suppress(TypeError):  # it does not support weak references
        number = id(key)
        _owners[number] = (weakref.ref(key, lambda _: _owners.pop(number, None)), run)
    return False


def _identity_of(thing: Any) -> Any:
    """Return the object that both ends of a channel, and their clones, share."""
    return getattr(thing, "_state", thing)


def _is_adapter(thing: object) -> bool:
    return type(thing).__module__ == "anyio._core._synchronization" and type(
        thing
    ).__name__.endswith("Adapter")


def _tasks_in(thing: Any) -> Iterator[Any]:
    for name in ("_tasks", "_parked", "_borrowers", "send_tasks", "receive_tasks"):
        found = getattr(_identity_of(thing), name, None)
        if isinstance(found, (set, dict)):
            yield from (each for each in found if isinstance(each, trio.lowlevel.Task))  # pyright: ignore[reportUnknownVariableType]  # trio's
    lot = getattr(thing, "_lot", None)
    if lot is not None:
        yield from _tasks_in(lot)
    owner = getattr(thing, "_owner", None)
    if isinstance(owner, trio.lowlevel.Task):
        yield owner


_in_modules: dict[int, tuple[dict[str, Any], int, frozenset[int]]] = {}


def _is_in_module(namespace: dict[str, Any], key: object) -> bool:
    known = _in_modules.get(id(namespace))
    if known is None or known[1] != len(namespace):
        ids = frozenset(id(each) for each in _held_by(namespace))
        known = _in_modules[id(namespace)] = (namespace, len(namespace), ids)
    # The address may have been reused since.
    return id(key) in known[2] and any(each is key for each in _held_by(namespace))


def _held_by(namespace: dict[str, Any]) -> Iterator[object]:
    for value in list(namespace.values()):
        yield from _primitives_in(value)


def _primitives_in(value: object) -> Iterator[object]:
    """Yield a primitive itself, or those that a module, class, object or container holds."""
    if isinstance(value, _PRIMITIVES):
        yield _identity_of(value)
        return
    members: Any = ()
    if isinstance(value, (list, tuple, set, frozenset)):
        members = cast("Any", value)
    elif isinstance(value, dict):
        members = list(value.values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # anything
    elif not isinstance(value, types.ModuleType) or is_user_file(
        value.__dict__.get("__file__") or "<frozen"
    ):
        with contextlib.suppress(AttributeError, TypeError):
            members = list(object.__getattribute__(value, "__dict__").values())
    if len(members) <= _MOST_MEMBERS:
        yield from (_identity_of(each) for each in members if isinstance(each, _PRIMITIVES))


def _closed_over(fn: Callable[..., Any], depth: int) -> Iterator[object]:
    """Yield primitives in a function's closure, and in the closures of functions in it."""
    for cell in getattr(inspect.unwrap(fn), "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # it is not set yet
            continue
        yield from _primitives_in(content)
        if depth and isinstance(content, types.FunctionType):
            yield from _closed_over(content, depth - 1)


# --- what is done about it ----------------------------------------------------------------


def refuse_use(
    loop: NestedLoop, task: trio.lowlevel.Task, abort: Callable[[Any], Any] | None
) -> bool:
    """Throw an error into a task that uses what belongs to another run; return whether it does.

    Args:
        loop: Whose task it is.
        task: One that has just come to a checkpoint, or that waits.
        abort: Ends its wait; ``None`` for a checkpoint.
    """
    runner = loop._runner
    if not runner.in_order or loop.fenced:
        return False
    use = find_use(task.coro)
    if use is None or not is_of_another(
        use, runner.mark, loop._fn, lambda each: each._runner is not runner
    ):
        return False
    if abort is None:
        _take_back(use)
    else:
        abort(_never)
    runner.wake(task, Error(refusal(use.thing, _line_of_use(use))))
    return True


def throw_refusal(
    loop: NestedLoop, task: trio.lowlevel.Task, message: Any, final: Outcome[Any] | None
) -> bool:
    """Throw the error for waking another run's task; return whether it was this task's.

    Args:
        loop: Whose task it is.
        task: The task that has just run.
        message: What it waits for.
        final: How it ended, if it has.
    """
    runner = loop._runner
    assert runner.refused is not None
    culprit, error = runner.refused
    if culprit is not None and culprit is not task:
        return False
    runner.refused = None
    if loop.fenced:
        return False
    if type(message) is _traps.PermanentlyDetachCoroutineObject:
        final = message.final_outcome
    if final is not None:
        if isinstance(final, Error):
            error.__context__ = final.error
        loop._task_ended(task, Error(error))
        return True
    task._schedule_points += 1
    if type(message) is _traps.WaitTaskRescheduled:
        aborted = message.abort_func(raising(error))
        if aborted is not trio.lowlevel.Abort.SUCCEEDED:
            runner.refused = task, error  # its wait cannot be aborted: throw at the next one
            return True
    runner.wake(task, Error(error))
    return True


def raising(error: BaseException) -> Callable[[], NoReturn]:
    """Return a function that raises the error: what trio gives to abort functions."""

    def raise_error() -> NoReturn:
        raise error

    return raise_error


def _never() -> NoReturn:
    raise AssertionError("a wait that is only aborted must not raise Cancelled")


def _take_back(use: Use) -> None:
    """Release a primitive that was acquired without waiting."""
    method = use.frame.f_code.co_name
    with contextlib.suppress(Exception):
        if method == "acquire_on_behalf_of":
            use.inner.release_on_behalf_of(use.frame.f_locals["borrower"])
        elif method == "acquire":
            use.inner.release()


def refusal(thing: object, where: types.FrameType | None) -> DeterminismError:
    """Return the error for the use of another's primitive (or task, or nursery) at a line."""
    name = type(thing).__name__.removesuffix("Adapter")
    place = ""
    if where is not None:
        place = f"{where.f_code.co_filename}:{where.f_lineno}, in {where.f_code.co_qualname}: "
    return DeterminismError(
        f"{place}this {name} does not belong to this execution of the workflow: other instances or "
        "the service around it use it too, and what they do is not recorded in this instance's "
        "history; after a restart it is a new one. Make it inside of the workflow. To wait for "
        "another instance use a Signal, or a sub-workflow with an id of its own; to limit what "
        "runs at the same time give the activities a queue of their own, served by a worker with "
        "max_activities."
    )


def _line_of_use(use: Use) -> types.FrameType | None:
    """Return the frame of the user's code that uses a primitive."""
    users = [frame for frame in use.callers if is_user_file(frame.f_code.co_filename)]
    frames = users or use.callers
    return frames[-1] if frames else None


def caller_of_primitive(frame: types.FrameType | None) -> tuple[object, types.FrameType | None]:
    """Walk out of a running primitive; return the outermost one and the frame that calls it."""
    thing: object = None
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, (*_PRIMITIVES, trio.CancelScope)):
            thing = owner
        elif thing is not None and is_user_file(frame.f_code.co_filename):
            break
        frame = frame.f_back
    return thing, frame
