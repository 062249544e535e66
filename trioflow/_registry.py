"""Registries: workflows and activities by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from trioflow._codec.values import Codec
from trioflow._model.activities import Activity, Runtime
from trioflow._model.definitions import OnCancel
from trioflow._model.options import refuse_unknown
from trioflow._model.retry import RetryPolicy
from trioflow._model.workflows import SuspendOn, Unread, Workflow, checks_of_source
from trioflow.errors import DefinitionError, UnknownDefinition

__all__ = ["Registry", "add_to_every_registry", "default_registry", "known_workflows"]

P = ParamSpec("P")
R = TypeVar("R")


class Registry:
    """A registry of workflows and activities by name.

    The decorators ``@workflow`` and ``@activity`` add to the process' default registry; those of a
    registry of your own add to that one: ``@registry.workflow``.

    Example:
        >>> registry = Registry()
        >>> @registry.activity
        ... async def greet(name: str) -> str:
        ...     return f"Hello {name}"
        >>> list(registry.activities)
        ['greet']
    """

    def __init__(self) -> None:
        self._workflows: dict[str, Workflow[..., Any]] = dict(_ours)
        self._activities: dict[str, Activity[..., Any]] = {}

    @property
    def workflows(self) -> Mapping[str, Workflow[..., Any]]:
        """The workflows by name."""
        return {name: each for name, each in self._workflows.items() if name not in _ours}

    @property
    def activities(self) -> Mapping[str, Activity[..., Any]]:
        """The activities by name."""
        return self._activities

    def add(self, *definitions: object) -> None:
        """Add definitions, or all activities that are methods of an object.

        A registry takes one object of a class: which of several runs an activity could not be
        told from its name.

        Raises:
            DefinitionError: Another definition, or another object of the class, has the name, or
                there is nothing to add.
        """
        for definition in definitions:
            match definition:
                case Workflow():
                    self._put(self._workflows, definition)
                case Activity():
                    self._put(self._activities, definition)
                case _:
                    methods = list(_activity_methods(definition))
                    if not methods:
                        raise DefinitionError(
                            f"{definition!r} is neither a workflow nor an activity, nor an object "
                            "with methods that are activities; decorate it with @workflow or "
                            "@activity"
                        )
                    for method in methods:
                        self._put_method(method)

    @overload
    def workflow(self, fn: Callable[P, Awaitable[R]], /) -> Workflow[P, R]: ...

    @overload
    def workflow(
        self,
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        max_events: int = 50_000,
        suspend_on: SuspendOn = (),
        unread: Unread = "warn",
    ) -> Callable[[Callable[P, Awaitable[R]]], Workflow[P, R]]: ...

    def workflow(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Decorate an async function as a workflow, and add it.

        Args:
            fn: The function, where the decorator is used without arguments.
            **options: ``name``, ``queue``, ``priority``, ``retry``, ``timeout``,
                ``max_events``, ``unread`` and ``suspend_on``: the attributes of `Workflow`.

        Raises:
            DefinitionError: It is not an async function, the name is taken, or there is no such
                option.
            ValueError: An option is out of its range.
        """
        _check_options("workflow", Workflow, fn, options)

        def decorate(fn: Callable[..., Any]) -> Workflow[..., Any]:
            definition: Workflow[..., Any] = Workflow(fn, **options)
            self._put(self._workflows, definition)
            for check in checks_of_source:
                check(fn)
            return definition

        return decorate if fn is None else decorate(fn)

    @overload
    def activity(self, fn: Callable[P, Awaitable[R]], /) -> Activity[P, R]: ...

    @overload
    def activity(self, fn: Callable[P, R], /) -> Activity[P, R]: ...

    @overload
    def activity(
        self,
        /,
        *,
        name: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        schedule_timeout: float | None = None,
        heartbeat_timeout: float | None = None,
        runtime: Runtime = "auto",
        on_cancel: OnCancel = "wait",
        transactional: bool = False,
    ) -> _ActivityDecorator: ...

    def activity(self, fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Decorate a function, async or not, as an activity, and add it.

        Args:
            fn: The function, where the decorator is used without arguments.
            **options: ``name``, ``queue``, ``priority``, ``retry``, ``timeout``,
                ``schedule_timeout``, ``heartbeat_timeout``, ``runtime``, ``on_cancel`` and
                ``transactional``: the attributes of `Activity`.

        Raises:
            DefinitionError: The name is taken, the function cannot be an activity, or there is no
                such option.
            ValueError: An option is out of its range.
        """
        _check_options("activity", Activity, fn, options)

        def decorate(fn: Callable[..., Any]) -> Activity[..., Any]:
            definition: Activity[..., Any] = Activity(fn, **options)
            self._put(self._activities, definition)
            return definition

        return decorate if fn is None else decorate(fn)

    def find_workflow(self, name: str) -> Workflow[..., Any]:
        """Return the workflow of that name.

        Raises:
            UnknownDefinition: There is none; the message names similar ones.
        """
        found = self._workflows.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self.workflows, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UnknownDefinition(
                f"no workflow {name!r} is registered in this process{hint or '.'} Import the "
                "module that defines it before the worker or the client starts."
            )
        return found

    def check(self, codec: Codec) -> None:
        """Resolve every annotation, so that a mistake is found when a worker starts.

        Raises:
            DefinitionError: An annotation cannot be resolved, or names a type that cannot be
                stored.
        """
        for definition in (*self.workflows.values(), *self._activities.values()):
            definition.signature.check(codec)

    def _put_method(self, method: Activity[..., Any]) -> None:
        if method.runtime == "process":
            raise DefinitionError(
                f"activity {method.name!r} ({method.where}) has runtime='process', and is a method "
                "of an object, which no other process has. Make it a function at the top of a "
                "module"
            )
        old = self._activities.get(method.name)
        function = method.fn.__func__  # type: ignore[attr-defined]  # it is a bound method
        if old is not None and old.fn is not function and old.fn != method.fn:
            owner = getattr(old.fn, "__self__", None)
            if owner is not None and getattr(old.fn, "__func__", None) is function:
                raise DefinitionError(
                    f"activity {method.name!r}: another object of its class was added, {owner!r}, "
                    "and a name stands for one. Pass as an argument what differs between them, or "
                    "give each object a registry and a worker of its own"
                )
            self._put(self._activities, method)
        self._activities[method.name] = method

    def _put(self, definitions: dict[str, Any], new: Any) -> None:
        old = definitions.get(new.name)
        if old is not None and _identity(old.fn) != _identity(new.fn):
            if old.where == new.where != "unknown place":
                raise DefinitionError(
                    f"{new.kind} {new.name!r} ({new.where}): its file runs twice in this process, "
                    f"as the modules {old.fn.__module__!r} and {new.fn.__module__!r}; put what is "
                    "started as a script into a file of its own"
                )
            raise DefinitionError(
                f"{new.kind} {new.name!r} ({new.where}): the name is taken by {old.where}. Give "
                f"one of them another: @{new.kind}(name=...)"
            )
        definitions[new.name] = new


_ours: dict[str, Workflow[..., Any]] = {}


def add_to_every_registry(workflow: Workflow[..., Any]) -> None:
    """Register a workflow of trioflow itself: every worker runs it, and no registry lists it."""
    _ours[workflow.name] = workflow
    default_registry.add(workflow)


def known_workflows(registry: Registry) -> Mapping[str, Workflow[..., Any]]:
    """Return the workflows by name, those of trioflow itself included, also as they change."""
    return registry._workflows  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # one of us


class _ActivityDecorator:
    """The type of ``@activity(...)``: it decorates async and plain functions."""

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Activity[P, R]: ...

    @overload
    def __call__(self, fn: Callable[P, R], /) -> Activity[P, R]: ...

    def __call__(self, fn: Any, /) -> Any:
        raise NotImplementedError


def _identity(fn: Callable[..., Any]) -> object:
    """Identify a function, so that a reloaded module or a cell run twice is no conflict."""
    if not inspect.isroutine(fn) or inspect.ismethod(fn):
        return fn  # two objects of one class are not the same
    return getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)


def _check_options(
    kind: str, definition: type[Any], fn: object, options: Mapping[str, Any]
) -> None:
    if isinstance(fn, str):
        raise DefinitionError(
            f"@{kind}({fn!r}): what stands there is the function; say name={fn!r}"
        )
    known = [*inspect.signature(definition).parameters][1:]
    if not options.keys() <= {*known}:
        refuse_unknown(f"@{kind}", options, known)


def _activity_methods(owner: object) -> Iterator[Activity[..., Any]]:
    for name, member in inspect.getmembers_static(type(owner)):
        if isinstance(member, Activity):
            yield getattr(owner, name)


default_registry = Registry()
"""What ``@workflow`` and ``@activity`` add to."""
