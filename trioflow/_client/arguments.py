"""Checks of what a client's callers give: each error names the argument and says what is allowed.

Without them a mistake reads as "there are none", or as an error of one store's driver.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypedDict, cast, get_args

from trioflow._codec.limits import check_characters
from trioflow._model.activities import Activity
from trioflow._model.attributes import Where, conditions_of
from trioflow._model.options import check_seconds, check_time
from trioflow._model.workflows import Workflow
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ENDED, Status, Trouble
from trioflow.errors import ArgumentError

__all__ = [
    "TROUBLE_AFTER",
    "Filters",
    "activity_name",
    "check_group",
    "check_id",
    "check_statuses",
    "check_trouble",
    "check_trouble_after",
    "check_workflow",
    "finished_statuses",
    "instance_filter",
]

_GROUPS: Final = ("status", "workflow", "queue")
_STATUSES: Final[tuple[str, ...]] = get_args(Status)
_TROUBLES: Final[tuple[str, ...]] = get_args(Trouble)
TROUBLE_AFTER: Final = 60.0
"""Seconds, unless somebody says otherwise."""


class Filters(TypedDict, total=False):
    """The filters of `Client.list`, as keywords of other calls."""

    status: Status | Sequence[Status]
    workflow: Workflow[..., Any] | str | None
    queue: str | None
    parent: str | None
    id_prefix: str | None
    created_after: float | None
    created_before: float | None
    finished_after: float | None
    finished_before: float | None
    trouble: Trouble | None
    trouble_after: float
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
    finished_after: float | None = None,
    finished_before: float | None = None,
    trouble: Trouble | None = None,
    trouble_after: float = TROUBLE_AFTER,
    where: Where | None = None,
) -> InstanceFilter:
    """Return the filter that the keywords of ``list()``, ``count()`` and ``remove()`` mean."""
    after = check_trouble_after(trouble_after)
    return InstanceFilter(
        trouble=check_trouble(trouble),
        trouble_after=TROUBLE_AFTER if trouble is None else after,
        finished_after=_time_or_none(finished_after, "finished_after"),
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


def check_trouble(trouble: object) -> Trouble | None:
    """Return a kind of trouble.

    Raises:
        TypeError, ValueError: There is no such kind.
    """
    known = ", ".join(map(repr, _TROUBLES))
    if trouble is None:
        return None
    if not isinstance(trouble, str):
        raise TypeError(f"trouble: one of {known}, not {trouble!r}")
    if trouble not in _TROUBLES:
        close = difflib.get_close_matches(trouble, _TROUBLES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"trouble: there is no {trouble!r}, only {known}{hint}")
    return cast("Trouble", trouble)


def check_trouble_after(after: object) -> float:
    """Return for how many seconds something waits before it is a trouble.

    Raises:
        TypeError, ValueError: It is no number, or less than 0.
    """
    check_seconds("trouble_after", after, zero=True)
    return float(cast("float", after))


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


def activity_name(activity: object) -> str | None:
    """Return the name of an activity that is given as such or by its name; ``None`` for any.

    Raises:
        ArgumentError: It is something else.
    """
    if activity is None or isinstance(activity, str):
        return _text_or_none(activity, "activity")
    if isinstance(activity, Activity):
        return cast("Activity[..., Any]", activity).name
    raise ArgumentError(f"activity: an activity or the name of one is needed, not {activity!r}")


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
