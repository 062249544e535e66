"""Fakes: functions that stand in for activities and sub-workflows in a test."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, TypeVar

from trioflow._model.activities import Activity
from trioflow._model.info import current_activity
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry
from trioflow.authoring import is_replaying

__all__ = [
    "Fake",
    "FakeCall",
    "FakingRegistry",
    "check_function",
    "check_parameters",
    "warn_of_similar",
]

P = ParamSpec("P")
R = TypeVar("R")


class FakeCall:
    """One call of a fake.

    Attributes:
        args: The positional arguments, decoded as the real function would get them.
        kwargs: The keyword arguments.
        at: When, in seconds since the test began, on the virtual clock.
        attempt: Which attempt of the activity, from 1; 1 for a sub-workflow.
        instance: The id of the instance that called the activity; ``""`` for a sub-workflow.
        command: In a simulation, what tells the call from others; the same for each attempt.
        error: What it raised, ``None`` if it returned.
    """

    __slots__ = ("args", "at", "attempt", "command", "error", "instance", "kwargs")

    def __init__(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        at: float,
        attempt: int,
        instance: str,
        command: str = "",
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self.at = at
        self.attempt = attempt
        self.instance = instance
        self.command = command
        self.error: BaseException | None = None

    def __repr__(self) -> str:
        given = [*map(repr, self.args), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        return f"<call ({', '.join(given)}) at {self.at:g} s, attempt {self.attempt}>"


class Fake(Generic[P, R]):
    """What stands in for an activity or a sub-workflow; see `Tester.fake`.

    Attributes:
        name: Of what it stands in for.
        calls: The calls so far, in order. Attempts are calls; replays are not.
        times: How many calls are expected, ``None`` for any number.
    """

    def __init__(
        self,
        name: str,
        fn: Callable[P, R] | Callable[P, Awaitable[R]],
        times: int | None,
        elapsed: Callable[[], float],
    ) -> None:
        self.name = name
        self.calls: list[FakeCall] = []
        self.times = times
        self._fn: Callable[..., Any] = fn
        self._elapsed = elapsed

    def __repr__(self) -> str:
        return f"<fake of {self.name!r}, {len(self.calls)} calls>"

    async def call_activity(self, *args: Any, **kwargs: Any) -> Any:
        """Note an attempt of the activity, and give what the function gives."""
        info = current_activity.get()
        attempt, instance = (1, "") if info is None else (info.attempt, info.instance)
        return await self._call(args, kwargs, attempt, instance)

    async def call_workflow(self, *args: Any, **kwargs: Any) -> Any:
        """Note a run of the sub-workflow, and give what the function gives."""
        if not is_replaying():
            return await self._call(args, kwargs, 1, "")
        result = self._fn(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], attempt: int, instance: str
    ) -> Any:
        at = self._elapsed()
        call = FakeCall(args, kwargs, at=at, attempt=attempt, instance=instance)
        self.calls.append(call)
        try:
            result = self._fn(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        except BaseException as exc:
            call.error = exc
            raise

    def check(self) -> str:
        """Return what is wrong with the number of calls, ``""`` for nothing."""
        if self.times is None or self.times == len(self.calls):
            return ""
        called, times = len(self.calls), self.times
        said = f"{self.name!r} was called {called} time{'' if called == 1 else 's'}"
        return f"{said}, {times} {'was' if times == 1 else 'were'} expected"


class FakingRegistry(Registry):
    """A copy of a registry in which definitions can be replaced, also while a worker uses it."""

    def __init__(self, original: Registry) -> None:
        super().__init__()
        self._workflows.update(original.workflows)
        self._activities.update(original.activities)

    def replace_activity(self, definition: Activity[..., Any]) -> None:
        """Have calls of the activity of that name run another function."""
        self._activities[definition.name] = definition

    def replace_workflow(self, definition: Workflow[..., Any]) -> None:
        """Have instances of the workflow of that name run another function."""
        self._workflows[definition.name] = definition


def check_function(fn: object, what: str) -> None:
    """Raise `TypeError` if ``fn`` cannot be called; of a coroutine say what to write instead."""
    if inspect.iscoroutine(fn):
        fn.close()
        raise TypeError(
            f"{what} takes a function, not a coroutine: leave out the call's brackets, as in "
            "functools.partial(handle.signal, approved, True)"
        )
    if not callable(fn):
        raise TypeError(f"{what} takes a function, not {fn!r}")


def check_parameters(
    definition: Activity[..., Any] | Workflow[..., Any], fn: Callable[..., Any]
) -> None:
    """Raise `TypeError` if a function cannot be called with as many arguments as what it fakes."""
    try:
        takes = inspect.signature(fn)
        original = list(inspect.signature(definition.fn).parameters.values())
    except (TypeError, ValueError):  # of a builtin, perhaps
        return
    if original and original[0].name == "self":
        original = original[1:]
    if any(one.kind not in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in original):
        return
    required = [one for one in original if one.default is one.empty]
    for number in (len(original), len(required)):
        try:
            takes.bind(*[None] * number)
        except TypeError:
            continue
        return
    raise TypeError(
        f"the fake of {definition.name!r} takes {takes}, and is called with the arguments "
        f"({', '.join(one.name for one in original)})"
    )


def warn_of_similar(name: str, registry: Registry) -> None:
    """Warn of a name that nothing has which is registered, if something has a similar one."""
    near = difflib.get_close_matches(name, [*registry.activities, *registry.workflows], n=1)
    if near:
        warnings.warn(
            f"the fake of {name!r} stands in for nothing that is registered here, so the real "
            f"{near[0]!r} runs; did you mean {near[0]!r}?",
            UserWarning,
            stacklevel=3,
        )
