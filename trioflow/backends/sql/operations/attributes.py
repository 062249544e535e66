"""The index of attributes: written along with the rows of instances, and looked up by filters.

A list is ordered by ``seq``, the number of an instance. So is the index, for each value: a list of
those that have a value is read from it, in order, and ends with the page. For a range of numbers
the index is in the order of the numbers. If few instances are in the range, they are looked up and
sorted; if many are, some are soon found among the newest instances, which are looked through.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from trioflow._model.attributes import AttributeCondition, index_rows
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.sql.statements import NEW_ATTRIBUTES, REMOVE_ATTRIBUTES, SET_ATTRIBUTES
from trioflow.backends.sql.store import SqlStore

__all__ = [
    "MANY",
    "Lead",
    "attribute_clauses",
    "count_some",
    "lead_of",
    "names_in_index",
    "range_of",
    "write_attributes",
]

_KINDS = "bnst"
MANY = 1000
"""More instances than these are not sorted for a page."""


def write_attributes(
    store: SqlStore, given: Mapping[str, bytes], changed: Collection[str] = ()
) -> None:
    """Write the index for instances whose rows are there.

    Args:
        store: Where.
        given: All attributes of each instance, by its id.
        changed: The ids of those that may have had others: their rows and the index are changed.
    """
    seqs = dict(store.among(store.queries.seqs, list(given)))
    if changed:
        store.write(SET_ATTRIBUTES, [value for id in changed for value in (id, given[id])])
        store.write(REMOVE_ATTRIBUTES, [seqs[id] for id in changed])
    rows: list[Any] = []
    for id, data in given.items():
        for name, word, quantity in index_rows(data):
            rows += (seqs[id], name, word.encode(), quantity)
    if rows:
        store.write(NEW_ATTRIBUTES, rows)


class Lead(NamedTuple):
    """The condition that the index is read by; the others are looked up for each instance.

    Attributes:
        condition: That one; ``None`` if all are looked up.
        others: The others.
    """

    condition: AttributeCondition | None
    others: list[AttributeCondition]


def lead_of(store: SqlStore, where: InstanceFilter) -> Lead:
    """Return which condition to read the index by: of equality before range, one that few meet."""
    ordered = sorted(where.attributes, key=lambda one: one.how != "=")
    if len(ordered) > 1 and ordered[1].how == "=":
        ordered.sort(key=lambda one: (one.how != "=", count_some(store, one)))
    return Lead(ordered[0] if ordered else None, ordered[1:])


def count_some(store: SqlStore, condition: AttributeCondition) -> int:
    """Return how many rows of the index meet a condition, or `MANY` if they are more than that."""
    clauses, parameters = range_of(condition)
    translated = store.dialect.query(f"WHERE {' AND '.join(clauses)}")
    asked = store.queries.some_of_attribute.replace("{where}", translated)
    (number,) = store.execute(asked, *parameters, MANY).fetchone()
    return int(number)


def range_of(
    condition: AttributeCondition, *, looked_up: bool = False
) -> tuple[list[str], list[Any]]:
    """Return what the rows ``a`` of the index have that a condition means, as clauses.

    With ``looked_up`` the instance is known, too: then SQLite must not read the range for it.
    """
    if condition.how == "=":
        return ["a.name = ?", "a.word = ?"], [condition.name, condition.word.encode()]
    quantity = "+a.quantity" if looked_up else "a.quantity"
    return ["a.name = ?", f"{quantity} {condition.how} ?"], [condition.name, condition.quantity]


def attribute_clauses(lead: Lead) -> tuple[list[str], list[Any]]:
    """Return the clauses that say of an instance that all conditions hold.

    Only the instances that the leading condition means are read, if there is one.
    """
    clauses: list[str] = []
    parameters: list[Any] = []
    if lead.condition is not None:
        inside, values = range_of(lead.condition)
        among = f"SELECT a.seq FROM attributes AS a WHERE {' AND '.join(inside)}"  # noqa: S608 - our words
        clauses.append(f"instances.seq IN ({among})")
        parameters += values
    for other in lead.others:
        inside, values = range_of(other, looked_up=True)
        has = " AND ".join(["a.seq = instances.seq", *inside])
        # Not EXISTS, which planners turn into a join: that reads all that the condition means.
        clauses.append(f"0 < (SELECT count(*) FROM attributes AS a WHERE {has})")  # noqa: S608
        parameters += values
    return clauses, parameters


def names_in_index(name: str) -> Sequence[str]:
    """Return the names that an attribute may have in the index, one for each kind of value."""
    return [kind + name for kind in _KINDS]
