"""How a database keeps everybody out of a store that takes part in a move.

A *fence* is a set of triggers that refuse changes of rows. So it holds in every process at once,
also in those that run an older trioflow, in transactions of callers, and in what was under way: to
make a trigger, a database waits for those that are writing the table. A store without a fence pays
nothing for it.

Most of what workers write needs no trigger, since no worker has a row any more: only that none can
register is seen to.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["MARK", "said", "triggers"]

MARK = "trioflow fence: "
"""What the message of a refused change has before the text of the fence."""

_FENCED = {
    "workers": ("INSERT",),
    "instances": ("INSERT", "UPDATE", "DELETE"),
    "activities": ("INSERT", "UPDATE", "DELETE"),
    "limits": ("INSERT", "UPDATE", "DELETE"),
    "questions": ("INSERT",),
    "executions": ("DELETE",),
}


def triggers() -> Iterator[tuple[str, str, str]]:
    """Yield name, table and event of each trigger, in the order in which commits lock tables."""
    for table, events in _FENCED.items():
        for event in events:
            yield f"fence_{table}_{event.lower()}", table, event


def said(message: str) -> str | None:
    """Return what a fence says in a message of the driver's, ``None`` if it is not a fence's."""
    _, mark, text = message.partition(MARK)
    return " ".join(text.splitlines()[0].split()) if mark else None
