"""Fakes: functions that stand in for activities and sub-workflows in a test."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, cast

from trioflow._codec.signatures.signatures import CallSignature
from trioflow._model.activities import Activity
from trioflow._model.info import current_activity
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry
from trioflow.authoring import is_replaying
from trioflow.errors import DefinitionError

__all__ = [
    "Fake",
    "FakeCall",
    "FakingRegistry",
    "check_fake",
    "check_function",
    "definition_of",
    "refuse_name",
]

P = ParamSpec("P")
R = TypeVar("R")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def definition_of(
    given: object, registry: Registry, called: str
) -> Activity[..., Any] | Workflow[..., Any]:
    """Return what a fake stands in for, which may be given by its name.

    Args:
        given: An activity, a workflow, or a name.
        registry: Where names are looked up.
        called: What it was given to, for messages: ``"fake()"``.

    Raises:
        DefinitionError: It is nothing of the kind, or there is none of that name.
    """
    if isinstance(given, Activity | Workflow):
        return cast("Activity[..., Any] | Workflow[..., Any]", given)
    if not isinstance(given, str):
        raise DefinitionError(
            f"{called} takes an activity, a workflow, or the name of one, not {given!r}"
        )
    found = registry.activities.get(given) or registry.workflows.get(given)
    if found is None:
        refuse_name(given, [*registry.activities, *registry.workflows], called)
    return found


def refuse_name(name: str, names: Sequence[str], called: str) -> NoReturn:
    """Say that nothing has a name, and what there is.

    Raises:
        DefinitionError: Always.
    """
    if near := difflib.get_close_matches(name, names, n=1):
        hint = f"did you mean {near[0]!r}?"
    elif names:
        hint = f"there are {', '.join(map(repr, sorted(names)))}"
    else:
        hint = "there is none at all: give registry=, or import the module that defines it"
    raise DefinitionError(
        f"{called} does not know the name {name!r}; {hint} (What is only known by its name is "
        "given as what it is called with: activity_by_name(…) or workflow_by_name(…).)"
    )


def check_fake(definition: Activity[..., Any] | Workflow[..., Any], fn: object) -> None:
    """Check that a function can be called in place of another one.

    Raises:
        DefinitionError: It cannot take all arguments that the other takes, or needs more, or is no
            function.
    """
    name = definition.name
    if not callable(fn):
        raise DefinitionError(
            f"what stands in for {name!r} is a function, which is called in its place, not {fn!r}; "
            f"for that as the result give lambda *args, **kwargs: {fn!r}"
        )
    signature = definition.signature
    if type(signature) is not CallSignature:
        return  # its parameters are not known here
    try:
        takes = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # nor are those of the function
    kinds = inspect.Parameter
    args: list[str] = []
    needed: list[str] = []
    kwargs: dict[str, str] = {}
    for each in signature.parameters:
        if each.kind is kinds.KEYWORD_ONLY:
            kwargs[each.name] = each.name
        elif each.kind is kinds.VAR_KEYWORD:
            kwargs["other_name"] = each.name
        else:
            args.append(each.name)
        if each.default is kinds.empty and each.kind in _POSITIONAL:
            needed.append(each.name)
    required = {
        each.name: each.name
        for each in signature.parameters
        if each.kind is kinds.KEYWORD_ONLY and each.default is kinds.empty
    }
    try:
        takes.bind(*args, **kwargs)
        takes.bind(*needed, **required)
    except TypeError as exc:
        raise DefinitionError(
            f"what stands in for {name!r} is called with the same arguments and cannot take them: "
            f"{exc}. The original is {signature}, what stands in for it takes {takes}"
        ) from None


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
