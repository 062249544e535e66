"""Listing and counting instances without those of trioflow itself, which are the schedules.

A schedule that is in trouble is shown. Stores know nothing of that. So where there are no schedules
a list costs nothing more, and a count one look into an index.
"""

from __future__ import annotations

from typing import Final

import msgspec

from trioflow._model.attributes import conditions_of
from trioflow._model.schedules import SCHEDULE_ATTRIBUTE, SCHEDULE_WORKFLOW
from trioflow.backends.abc import Backend
from trioflow.backends.filters import Group, InstanceFilter
from trioflow.backends.records import InstanceRecord

__all__ = ["SCHEDULES", "count", "count_by", "list_records"]

SCHEDULES: Final = InstanceFilter(
    workflow=SCHEDULE_WORKFLOW,
    status=("running", "suspended"),
    attributes=conditions_of({SCHEDULE_ATTRIBUTE: True}),
)
"""Which instances are schedules that have not ended."""

_MOST_AT_ONCE: Final = 1000


async def list_records(
    backend: Backend, wanted: InstanceFilter, limit: int, after: str | None
) -> list[InstanceRecord]:
    """Return the rows of instances, newest first, as `Backend.list` does."""
    if _shows_all(wanted):
        return await backend.list(wanted, limit=limit, after=after)
    found: list[InstanceRecord] = []
    size = limit
    while True:
        page = await backend.list(wanted, limit=size, after=after)
        found += [record for record in page if record.workflow != SCHEDULE_WORKFLOW]
        if len(page) < size or len(found) >= limit:
            return found[:limit]
        after = page[-1].id
        size = min(max(size, 2 * len(page)), _MOST_AT_ONCE)


async def count(backend: Backend, wanted: InstanceFilter, most: int | None = None) -> int:
    """Return how many instances there are; with ``most`` up to so many."""
    if _shows_all(wanted):
        return await backend.count(wanted, most=most)
    hidden = await backend.count(_schedules_of(wanted))
    number = await backend.count(wanted, most=None if most is None else most + hidden)
    return max(0, number - hidden)


def _shows_all(wanted: InstanceFilter) -> bool:
    return wanted.workflow is not None or wanted.trouble is not None


async def count_by(
    backend: Backend, wanted: InstanceFilter, by: str, *, attribute: bool = False
) -> list[Group]:
    """Return how many instances there are, by a column or an attribute."""
    groups = await backend.count_by(wanted, by, attribute=attribute)
    if not groups or _shows_all(wanted):
        return groups
    hidden = await backend.count_by(_schedules_of(wanted), by, attribute=attribute)
    numbers = {(one.name, one.value): one.number for one in hidden}
    if not numbers:
        return groups
    shown = [
        one._replace(number=one.number - numbers.get((one.name, one.value), 0)) for one in groups
    ]
    return [one for one in shown if one.number > 0]


def _schedules_of(wanted: InstanceFilter) -> InstanceFilter:
    """Return which schedules a filter means."""
    conditions = (*wanted.attributes, *SCHEDULES.attributes)
    return msgspec.structs.replace(wanted, workflow=SCHEDULE_WORKFLOW, attributes=conditions)
