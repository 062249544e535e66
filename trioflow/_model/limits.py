"""Limits that hold across all workers of a store: how much of one kind may be under way.

`Limit` is what a client sets and what stores keep. A store, and a worker, look at all of them as
`Limits`, which says quickly what is limited and what a turn may not do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from trioflow._codec.limits import check_name
from trioflow.errors import ArgumentError

__all__ = ["NO_LIMITS", "Limit", "LimitKind", "Limits", "check_limit"]

LimitKind: TypeAlias = Literal["queue", "activity", "workflow"]

_MOST = 1_000_000
_SHORTEST, _LONGEST = 0.001, 366 * 24 * 3600.0


class Limit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many of one kind may be under way, and how many may begin, across all workers.

    Attributes:
        kind: What is limited: activities of a queue, activities of a name, or instances of a
            workflow.
        name: Of the queue, the activity or the workflow.
        concurrency: How many at once, or ``None`` for any number.
        rate: How many begin within any ``per`` seconds, or ``None`` for any number.
        per: See ``rate``.
        key: The name of the argument by whose values the activities take turns, or ``None``.
        key_concurrency: How many at once of each of these values, or ``None`` for any number.
    """

    kind: LimitKind
    name: str
    concurrency: int | None = None
    rate: int | None = None
    per: float = 1.0
    key: str | None = None
    key_concurrency: int | None = None


class Limits(msgspec.Struct, frozen=True):
    """All limits of a store, as they were at one time.

    Attributes:
        version: Differs after each change; ``""`` if there has never been a limit.
        limits: By kind and name.
    """

    version: str = ""
    limits: dict[tuple[str, str], Limit] = {}

    @classmethod
    def of(cls, version: str, limits: Sequence[Limit]) -> Limits:
        """Return the limits of a list, sorted."""
        named = {(limit.kind, limit.name): limit for limit in limits}
        return cls(version, dict(sorted(named.items())))

    def of_activity(self, queue: str, activity: str) -> list[Limit]:
        """Return the limits that hold for an activity, that of its queue first."""
        found = (self.limits.get(("queue", queue)), self.limits.get(("activity", activity)))
        return [limit for limit in found if limit is not None]

    def of_workflow(self, workflow: str) -> Limit | None:
        """Return the limit of a workflow's instances."""
        return self.limits.get(("workflow", workflow))

    def key_name(self, queue: str, activity: str) -> str | None:
        """Return the argument by which activities take turns: the activity's own goes first."""
        for limit in reversed(self.of_activity(queue, activity)):
            if limit.key is not None:
                return limit.key
        return None

    def has_keys(self) -> bool:
        """Return whether any activities have keys."""
        return any(limit.key is not None for limit in self.limits.values())

    def key_of(self, queue: str, activity: str, value: object) -> str:
        """Return what a store keeps of the value of a key: it tells values apart, and no more."""
        owner = [each for each in self.of_activity(queue, activity) if each.key is not None][-1]
        text = msgspec.json.encode((owner.kind, owner.name, value), enc_hook=str)
        return hashlib.blake2b(text, digest_size=16).hexdigest()

    def of_kind(self, *kinds: LimitKind) -> list[Limit]:
        """Return the limits of some kinds, sorted by kind and name."""
        return [limit for (kind, _), limit in self.limits.items() if kind in kinds]


NO_LIMITS = Limits()


def check_limit(limit: Limit) -> Limit:
    """Return a limit that can be set.

    Raises:
        ArgumentError: It cannot; says why.
    """
    what = f"set_limit({limit.kind}={limit.name!r})"
    check_name(limit.name, f"{'an activity' if limit.kind == 'activity' else f'a {limit.kind}'}")
    for name in ("concurrency", "rate", "key_concurrency"):
        number: object = getattr(limit, name)
        whole = isinstance(number, int) and not isinstance(number, bool) and 0 < number <= _MOST
        if number is not None and not whole:
            raise ArgumentError(f"{what}: {name}={number!r} is no whole number from 1 to {_MOST}")
    if limit.concurrency is None and limit.rate is None and limit.key_concurrency is None:
        raise ArgumentError(f"{what} limits nothing: give concurrency=, rate= or key_concurrency=")
    if not _is_time(limit.per):
        per = limit.per
        raise ArgumentError(f"{what}: per={per!r} is no number of seconds from 0.001 to a year")
    if limit.key is None:
        if limit.key_concurrency is not None:
            raise ArgumentError(f"{what}: key_concurrency= needs key=, the name of an argument")
    elif not limit.key.isidentifier():
        raise ArgumentError(f"{what}: key={limit.key!r} is no name of an argument")
    if limit.kind == "workflow" and (limit.rate is not None or limit.key is not None):
        raise ArgumentError(f"{what}: for the instances of a workflow there is only concurrency=")
    return limit


def _is_time(per: Any) -> bool:
    number = isinstance(per, (int, float)) and not isinstance(per, bool)
    return number and math.isfinite(per) and _SHORTEST <= per <= _LONGEST
