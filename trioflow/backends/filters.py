"""Which instances are meant: filters of lists, counts and removals, and groups of counts."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from trioflow._model.attributes import AttributeCondition
from trioflow.backends.records import Status

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
    apply what `comparisons` returns. (``attributes`` they look up in an index of their own.)

    Attributes:
        id_prefix: Ids that begin so.
        parent: Ids of the parent; ``""`` for those that have none.
        finished_before: Finished, and before that time.
        attributes: What must hold of the attributes.
    """

    status: tuple[Status, ...] = ()
    workflow: str | None = None
    queue: str | None = None
    parent: str | None = None
    id_prefix: str | None = None
    created_before: float | None = None
    created_after: float | None = None
    finished_before: float | None = None
    attributes: tuple[AttributeCondition, ...] = ()

    def comparisons(self) -> list[Comparison]:
        """Return what the fields demand; ``status``, ``id_prefix`` and ``attributes`` left out.

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
}
_COMPARED_FIELDS = [
    name
    for name in InstanceFilter.__struct_fields__
    if name not in {"status", "id_prefix", "attributes"}
]


class Group(NamedTuple):
    """How many instances have a value: that of a column, or of an attribute.

    For an attribute ``name`` is that of its rows in the index, which tells the kind of the value,
    otherwise it is empty; see `trioflow._model.attributes`.
    """

    name: str
    value: str
    number: int
