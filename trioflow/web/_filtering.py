"""Which instances a page shows: what stands in its address, and what that means to a client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast, get_args

import msgspec
from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException

from trioflow._client.arguments import Filters, instance_filter
from trioflow._client.texts import condition_of, moment_of
from trioflow._codec.limits import check_characters
from trioflow.backends.records import Status, Trouble

__all__ = ["STATUSES", "TROUBLES", "Wanted", "after_in", "number_in"]

STATUSES: Final[tuple[str, ...]] = get_args(Status)

TROUBLES: Final[dict[Trouble, str]] = {
    "retrying": "an activity is tried again, or waits for that",
    "unserved": "waits in a queue that no living worker serves",
    "overdue": "could be taken for a minute, and no worker has taken it",
    "suspended": "waits for a person",
    "held": "a worker holds it that is silent, or does nothing with it",
}
"""What may be wrong with instances, in words; as `Client.list` has it."""

_ONE: Final = ("trouble", "workflow", "queue", "parent", "id", "since", "until", "ended")
_TIMES: Final = {
    "since": "created_after",
    "until": "created_before",
    "ended": "finished_after",
}
_MANY: Final = ("status", "where")


class Wanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which instances are meant, as it stands in an address or in a form; empty for all.

    Attributes:
        status: Of one of these statuses.
        trouble: In this trouble, one of `TROUBLES`.
        workflow: Of this workflow.
        queue: Of this queue.
        parent: Sub-workflows of this instance.
        root: Only those that have no parent.
        id: Whose id begins so.
        where: With such attributes: ``customer=c7``, ``amount>=10``.
        since: Started after: ``2h``, ``2026-11-26T09:30``.
        until: Started before.
        ended: Ended after.
    """

    status: tuple[str, ...] = ()
    trouble: str = ""
    workflow: str = ""
    queue: str = ""
    parent: str = ""
    root: bool = False
    id: str = ""
    where: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    ended: str = ""

    @classmethod
    def of(cls, given: ImmutableMultiDict[str, Any]) -> Wanted:
        """Return what the query of an address, or a form, says; anything else in it is ignored."""
        values: dict[str, Any] = {name: _text(given.get(name)) for name in _ONE}
        for name in _MANY:
            texts = [_text(each) for each in given.getlist(name)]
            values[name] = tuple(text for text in texts if text)
        return cls(**values, root=bool(_text(given.get("root"))))

    def __bool__(self) -> bool:
        return self != Wanted()

    def query(self, **changes: str | Sequence[str] | None) -> dict[str, Any]:
        """Return it as the query of an address, with some of it changed."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        values["root"] = "yes" if self.root else ""
        return {**values, **changes}

    def chips(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return each filter but the statuses: its name, its value, and the query without it."""
        found = [
            (name, getattr(self, name), self.query(**{name: None}))
            for name in _ONE
            if getattr(self, name)
        ]
        if self.root:
            found.append(("root", "has no parent", self.query(root=None)))
        for each in self.where:
            others = [other for other in self.where if other != each]
            found.append(("where", each, self.query(where=others)))
        return found

    def filters(self, now: float) -> Filters:
        """Return what it means to a client.

        Args:
            now: Epoch seconds, for what is so long ago.

        Raises:
            HTTPException: 400: something in it is no such thing; it says what.
        """
        try:
            chosen: dict[str, Any] = {"status": self.status}
            chosen |= {
                name: getattr(self, name)
                for name in ("trouble", "workflow", "queue", "parent")
                if getattr(self, name)
            }
            if self.root:
                chosen["parent"] = ""
            if self.id:
                chosen["id_prefix"] = self.id
            for name, filtered in _TIMES.items():
                if text := getattr(self, name):
                    chosen[filtered] = moment_of(text, now)
            if self.where:
                chosen["where"] = [condition_of(each) for each in self.where]
            instance_filter(**chosen)
        except (TypeError, ValueError) as error:
            raise HTTPException(400, str(error)) from error
        return cast("Filters", chosen)


def after_in(given: ImmutableMultiDict[str, Any]) -> str | None:
    """Return the id after which a page begins; ``None`` for the first page.

    Raises:
        ArgumentError: It has characters that no id can have.
    """
    return check_characters(given.get("after", ""), "after") or None


def number_in(
    given: ImmutableMultiDict[str, Any], name: str, default: int, most: int, *, least: int = 1
) -> int:
    """Return a whole number of a query: ``least`` at least, and ``most`` at most.

    Raises:
        HTTPException: 400: it is none.
    """
    text = _text(given.get(name))
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise HTTPException(
            400, f"{name}: a number from {least} to {most} is needed, not {text[:40]!r}"
        )
    return number


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
