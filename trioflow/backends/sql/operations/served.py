"""Which queues are served, by what workers' rows say."""

from __future__ import annotations

from contextlib import suppress

import msgspec

from trioflow.backends.sql.store import SqlStore

__all__ = ["queues_of", "served_queues"]

_names = msgspec.json.Decoder(list[str])


def queues_of(stored: str | None) -> list[str] | None:
    """Return which queues a worker serves, by name; ``None`` where its row does not say."""
    if stored is not None:
        with suppress(msgspec.DecodeError):  # damaged, which must hide nothing else
            return sorted(set(_names.decode(stored)))
    return None


def served_queues(store: SqlStore, now: float) -> tuple[list[str] | None, list[str] | None]:
    """Return the queues that living workers serve, for instances and for activities.

    ``None`` stands for any: somebody does not say.
    """
    rows = store.execute(store.queries.living_workers, now).fetchall()
    return _all_of([row[0] for row in rows]), _all_of([row[1] for row in rows])


def _all_of(stored: list[str | None]) -> list[str] | None:
    found: set[str] = set()
    for each in stored:
        queues = queues_of(each)
        if queues is None:
            return None
        found.update(queues)
    return sorted(found)
