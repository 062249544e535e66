"""Limits as clients give them, in the form that stores keep."""

from __future__ import annotations

from typing import Any

from trioflow._model.activities import Activity
from trioflow._model.limits import Limit, LimitKind, check_limit
from trioflow._model.workflows import Workflow
from trioflow.errors import ArgumentError

__all__ = ["limit_of", "limited"]


def limited(
    queue: str | None,
    activity: str | Activity[..., Any] | None,
    workflow: str | Workflow[..., Any] | None,
) -> tuple[LimitKind, str]:
    """Return what is limited: its kind and its name.

    Raises:
        ArgumentError: Not one of the three is given.
    """
    named: list[tuple[LimitKind, str]] = []
    if queue is not None:
        named.append(("queue", queue))
    if activity is not None:
        named.append(("activity", activity.name if isinstance(activity, Activity) else activity))
    if workflow is not None:
        named.append(("workflow", workflow.name if isinstance(workflow, Workflow) else workflow))
    if len(named) != 1:
        raise ArgumentError("a limit is for one thing: give queue=, activity= or workflow=")
    return named[0]


def limit_of(
    queue: str | None,
    activity: str | Activity[..., Any] | None,
    workflow: str | Workflow[..., Any] | None,
    *,
    concurrency: int | None,
    rate: int | None,
    per: float,
    key: str | None,
    key_concurrency: int | None,
) -> Limit:
    """Return a limit.

    Raises:
        ArgumentError: Not one of the three is given, or a number or a name is none that can be.
    """
    kind, name = limited(queue, activity, workflow)
    limit = check_limit(
        Limit(
            kind=kind,
            name=name,
            concurrency=concurrency,
            rate=rate,
            per=per,
            key=key,
            key_concurrency=key_concurrency,
        )
    )
    known = activity.signature if isinstance(activity, Activity) else None
    if known is not None and key is not None and not known.has_parameter(key):
        raise ArgumentError(
            f"set_limit(activity={name!r}): it has no argument {key!r} to take turns by"
        )
    return limit
