"""Which instances are meant: filters of lists, counts and removals, and groups of counts."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from trioflow._model.attributes import AttributeCondition
from trioflow.backends.records import Status, Trouble

__all__ = [
    "Comparison",
    "Group",
    "InstanceFilter",
]


class Comparison(NamedTuple):
    """What a filter demands of one column of an instance's row."""

    column: str
    how: Literal["=", "<", ">"]
    value: str | float


class InstanceFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances are meant; every field given must hold.

    A field that is added here needs a column of its name in every store, and nothing else: stores
    apply what `comparisons` returns. (``attributes`` and ``trouble`` they look up in other ways.)

    Attributes:
        id_prefix: Ids that begin so.
        parent: Ids of the parent; ``""`` for those that have none.
        finished_before: Finished, and before that time.
        finished_after: Finished, and after that time.
        attributes: What must hold of the attributes.
        trouble: In that trouble. All but ``"suspended"`` mean running instances.

            - ``"retrying"``: an activity of the present execution has an ``attempt`` above 1: it
              is tried again, or waits for that.
            - ``"unserved"``: it is ready and free, and no living worker serves its queue; or an
              activity of it is visible and free, and none serves that one's. A worker that does
              not say what it serves counts for every queue.
            - ``"overdue"``: it is ready and free, or an activity of it is visible and free, for
              ``trouble_after`` seconds or longer: nobody has taken it.
            - ``"suspended"``: its status is that.
            - ``"held"``: a worker holds it, or an activity of it, that does not live by its own
              lease; or a worker holds it that has neither taken it nor committed anything of it
              for ``trouble_after`` seconds or longer, though there is something to do: its
              execution has no turn, or it has messages that were unread when it was taken, or it
              is ready, or to be woken, for as long: by a message, say.
        trouble_after: Seconds.
    """

    status: tuple[Status, ...] = ()
    workflow: str | None = None
    queue: str | None = None
    parent: str | None = None
    id_prefix: str | None = None
    created_before: float | None = None
    created_after: float | None = None
    finished_before: float | None = None
    finished_after: float | None = None
    attributes: tuple[AttributeCondition, ...] = ()
    trouble: Trouble | None = None
    trouble_after: float = 60.0

    def comparisons(self) -> list[Comparison]:
        """Return what the fields demand that are about one column alone, but for the status.

        The empty ``parent`` is equal to one that is missing.
        """
        given = [(name, getattr(self, name)) for name in _COMPARED_FIELDS]
        return [
            Comparison(*_COMPARED.get(name, (name, "=")), value)
            for name, value in given
            if value is not None
        ]


# Times; whatever else is given must equal the column of its name.
_COMPARED: dict[str, tuple[str, Literal["<", ">"]]] = {
    "created_before": ("created_at", "<"),
    "created_after": ("created_at", ">"),
    "finished_before": ("finished_at", "<"),
    "finished_after": ("finished_at", ">"),
}
_COMPARED_FIELDS = [
    name
    for name in InstanceFilter.__struct_fields__
    if name not in {"status", "id_prefix", "attributes", "trouble", "trouble_after"}
]


class Group(NamedTuple):
    """How many instances have a value: that of a column, or of an attribute.

    For an attribute ``name`` is that of its rows in the index, which tells the kind of the value,
    otherwise it is empty; see `trioflow._model.attributes`.
    """

    name: str
    value: str
    number: int
