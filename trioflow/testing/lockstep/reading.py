"""Compare what clients read: counts, lists and pages, with filters by each store's own times."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trioflow.backends.filters import InstanceFilter
from trioflow.testing.lockstep.comparing import comparable
from trioflow.testing.lockstep.drafting import Draft
from trioflow.testing.lockstep.facts import Facts
from trioflow.testing.lockstep.plans import IDS, FilterPlan
from trioflow.testing.lockstep.sides import MANY, Each, Shape, Sides

__all__ = ["Reader"]

# Which times of a filter are times of what.
_TIMES = {
    "created_before": "created_at",
    "created_after": "created_at",
    "finished_before": "finished_at",
    "finished_after": "finished_at",
}


class Reader:
    """Asks all stores what changes nothing."""

    def __init__(self, sides: Sides, facts: Facts, draft: Draft) -> None:
        self._sides = sides
        self._facts = facts
        self._draft = draft

    async def read(self, where: FilterPlan, limit: int, by: str, *, attribute: bool) -> None:
        """Demand the same answers to all that can be asked without changing anything."""
        filters = await self.filters(where)
        call = self._sides.call
        await call("count", filters)
        await call("count", filters, most=limit)
        ordered: Shape = lambda found, _: sorted(found)  # noqa: E731
        await call("count_by", filters, by, attribute=attribute, shape=ordered)
        listed = await call(
            "list",
            filters,
            limit=MANY,
            shape=lambda found, _: sorted(record.id for record in found),
        )
        await self._pages(filters, [[record.id for record in found] for found in listed], limit)
        ids = [self._draft.id(name) for name in (*IDS, "nobody")]
        await call("not_running", ids, shape=lambda found, _: sorted(found))
        known = {id: record.life for id, record in self._facts.records.items()}
        lives = [known.get(id, "") for id in ids]
        for asked in (lives, [*lives[1:], *lives[:1]]):
            await call("not_running", ids, lives=asked, shape=lambda found, _: sorted(found))
        await call("troubles", where.trouble_after)
        await call("tried_again", ids, shape=lambda found, _: sorted(map(repr, comparable(found))))
        for id in ids:
            await call("history", id)
            await call("executions", id)
            await call("turns_from", id, 1, 1, limit=2)
            await call("get", id)

    async def _pages(self, filters: Each, listed: Sequence[Sequence[str]], limit: int) -> None:
        """Demand that the pages of a list are the list; each store has an order of its own."""
        rest = {side.name: list(ids) for side, ids in zip(self._sides.sides, listed, strict=True)}
        after: dict[str, str | None] = dict.fromkeys(rest)
        while rest[self._sides.model.name]:
            found = await self._sides.call(
                "list",
                filters,
                limit=limit,
                after=Each(lambda side: after[side.name]),
                shape=lambda found, _: len(found),
            )
            for side, page in zip(self._sides.sides, found, strict=True):
                ids = [record.id for record in page]
                expected, rest[side.name] = rest[side.name][:limit], rest[side.name][limit:]
                assert ids == expected, f"{side.name}: {ids}, not {expected}\n{self._sides.story()}"
                after[side.name] = ids[-1]

    async def filters(self, plan: FilterPlan) -> Each:
        """Return the filter, for each store with its own times."""
        planned = dict(vars(plan))
        times = {name: planned.pop(name) for name in _TIMES}
        if plan.parent:
            planned["parent"] = self._draft.id(plan.parent)
        if plan.id_prefix is not None:
            planned["id_prefix"] = self._draft.id(plan.id_prefix)
        where = InstanceFilter(**planned)
        own = {side.name: where for side in self._sides.sides}
        for name, of in _TIMES.items():
            known = [getattr(record, of) for record in self._facts.records.values()]
            found = await self._sides.call("get", self._draft.id(times[name]))
            # Of those that are equal in the model, another store may have put one before the other.
            if found[0] is None or known.count(getattr(found[0], of)) != 1:
                continue
            for side, record in zip(self._sides.sides, found, strict=True):
                own[side.name] = _with(own[side.name], name, getattr(record, of))
        return Each(lambda side: own[side.name])


def _with(where: InstanceFilter, name: str, at: float | None) -> InstanceFilter:
    return msgspec.structs.replace(where, **{name: at})
