"""Activities and workflows that are defined elsewhere, known here by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypedDict, TypeVar, Unpack, overload

from trioflow._codec.signatures.special import SignatureByName
from trioflow._model.activities import Activity
from trioflow._model.definitions import OnCancel
from trioflow._model.retry import RetryPolicy
from trioflow._model.workflows import Workflow
from trioflow.errors import ArgumentError

__all__ = ["activity_by_name", "workflow_by_name"]

P = ParamSpec("P")
R = TypeVar("R")


class _ActivityOptions(TypedDict, total=False):
    queue: str
    priority: int
    retry: RetryPolicy
    timeout: float
    schedule_timeout: float
    heartbeat_timeout: float
    on_cancel: OnCancel


class _WorkflowOptions(TypedDict, total=False):
    queue: str
    priority: int
    retry: RetryPolicy
    timeout: float
    max_events: int


@overload
def activity_by_name(name: str, **options: Unpack[_ActivityOptions]) -> Activity[..., Any]: ...


@overload
def activity_by_name(
    name: str, result: type[R], **options: Unpack[_ActivityOptions]
) -> Activity[..., R]: ...


def activity_by_name(
    name: str, result: object = None, **options: Unpack[_ActivityOptions]
) -> Activity[..., Any]:
    """Return an activity that is defined elsewhere, to be called with keyword arguments.

    Args:
        name: Its name there.
        result: The type of its result; by default plain JSON data.
        **options: As for ``options()`` of an activity: what is not given is as declared there.
    """
    declared: Activity[..., Any] = Activity(_declare(name, result), name=name)
    declared.signature = SignatureByName.of(declared.fn)
    return declared.options(**options)


@overload
def workflow_by_name(name: str, **options: Unpack[_WorkflowOptions]) -> Workflow[..., Any]: ...


@overload
def workflow_by_name(
    name: str, result: type[R], **options: Unpack[_WorkflowOptions]
) -> Workflow[..., R]: ...


def workflow_by_name(
    name: str, result: object = None, **options: Unpack[_WorkflowOptions]
) -> Workflow[..., Any]:
    """Return a workflow that is defined elsewhere, to be called or started with keyword arguments.

    Args:
        name: Its name there.
        result: The type of its result; by default plain JSON data.
        **options: ``queue``, ``priority``, ``retry``, ``timeout`` and ``max_events``, as for
            ``options()`` of a workflow: what is not given is as declared there.
    """
    declared: Workflow[..., Any] = Workflow(_declare(name, result), name=name)
    declared.signature = SignatureByName.of(declared.fn)
    return declared.options(**options)


def _declare(name: str, result: object) -> Callable[..., Any]:
    async def declared(**arguments: Any) -> Any:  # noqa: ARG001  # its annotation is what counts
        raise ArgumentError(f"{name!r} is defined elsewhere; here it is only known by its name")

    declared.__name__ = declared.__qualname__ = name
    declared.__annotations__ = {"arguments": Any, "return": Any if result is None else result}
    return declared
