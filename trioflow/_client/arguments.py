"""Checks of what a client's callers give: each error names the argument and says what is allowed.

Without them a mistake reads as "there are none", or as an error of one store's driver.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypedDict, cast, get_args

from trioflow._codec.limits import check_characters
from trioflow._model.attributes import Where, conditions_of
from trioflow._model.options import check_time
from trioflow._model.workflows import Workflow
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ENDED, Status
from trioflow.errors import ArgumentError

__all__ = [
    "Filters",
    "check_group",
    "check_id",
    "check_statuses",
    "check_workflow",
    "finished_statuses",
    "instance_filter",
]

_GROUPS: Final = ("status", "workflow", "queue")
_STATUSES: Final[tuple[str, ...]] = get_args(Status)


class Filters(TypedDict, total=False):
    """The filters of `Client.list`, as keywords of other calls."""

    status: Status | Sequence[Status]
    workflow: Workflow[..., Any] | str | None
    queue: str | None
    parent: str | None
    id_prefix: str | None
    created_after: float | None
    created_before: float | None
    where: Where | None


def instance_filter(
    *,
    status: Status | Sequence[Status] = (),
    workflow: Workflow[..., Any] | str | None = None,
    queue: str | None = None,
    id_prefix: str | None = None,
    parent: str | None = None,
    created_after: float | None = None,
    created_before: float | None = None,
    finished_before: float | None = None,
    where: Where | None = None,
) -> InstanceFilter:
    """Return the filter that the keywords of ``list()``, ``count()`` and ``remove()`` mean."""
    return InstanceFilter(
        status=check_statuses(status),
        workflow=_workflow_name(workflow),
        queue=_text_or_none(queue, "queue"),
        parent=_text_or_none(parent, "parent"),
        id_prefix=_text_or_none(id_prefix, "id_prefix"),
        created_after=_time_or_none(created_after, "created_after"),
        created_before=_time_or_none(created_before, "created_before"),
        finished_before=_time_or_none(finished_before, "finished_before"),
        attributes=conditions_of(where),
    )


def finished_statuses(status: Status | Sequence[Status]) -> tuple[Status, ...]:
    """Return the statuses of instances that are to be removed.

    Raises:
        TypeError, ValueError: There is no such status, or instances of it have not ended.
    """
    statuses = check_statuses(status)
    for one in statuses:
        if one not in ENDED:
            finished = ", ".join(map(repr, ENDED))
            raise ValueError(
                f"status: only finished instances are removed ({finished}), not {one!r}; cancel or "
                "terminate it first"
            )
    return statuses


def check_group(group_by: object) -> None:
    """Check what is counted by.

    Raises:
        ValueError: It is nothing that can be counted by.
    """
    if group_by not in _GROUPS:
        raise ValueError(
            f"group_by: one of {', '.join(map(repr, _GROUPS))}, or attribute('…'), not {group_by!r}"
        )


def check_id(id: object, name: str = "id") -> str:
    """Return an instance's id.

    Raises:
        ArgumentError: It is no string, or has characters that no store takes.
        ValueError: It is empty.
    """
    text = check_characters(id, name)
    if not text:
        raise ValueError(f"{name}: an instance's id is not empty")
    return text


def check_workflow(workflow: object) -> None:
    """Check what says of which type a result is.

    Raises:
        ArgumentError: It is neither a workflow nor ``None``.
    """
    if not isinstance(workflow, Workflow | None):
        raise ArgumentError(
            f"{workflow!r} is not a workflow; leave it out for a result of plain JSON data"
        )


def _time_or_none(value: object, name: str) -> float | None:
    return None if value is None else check_time(value, name)


def _text_or_none(value: object, name: str) -> str | None:
    return None if value is None else check_characters(value, name)


def check_statuses(given: object) -> tuple[Status, ...]:
    """Return statuses of instances.

    Raises:
        TypeError, ValueError: There is no such status.
    """
    known = ", ".join(map(repr, _STATUSES))
    if isinstance(given, str):
        given = (given,)
    if not isinstance(given, Iterable):
        raise TypeError(f"status: one of {known}, or several of them, not {given!r}")
    statuses = tuple(cast("Iterable[Status]", given))
    for status in cast("tuple[object, ...]", statuses):
        if not isinstance(status, str):
            raise TypeError(f"status: one of {known}, or several of them, not {status!r}")
        if status not in _STATUSES:
            close = difflib.get_close_matches(status, _STATUSES, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"status: there is no {status!r}, only {known}{hint}")
    return statuses


def _workflow_name(workflow: object) -> str | None:
    if isinstance(workflow, Workflow):
        return workflow.name
    if workflow is None or isinstance(workflow, str):
        return _text_or_none(workflow, "workflow")
    raise TypeError(f"workflow: a workflow or the name of one is needed, not {workflow!r}")
