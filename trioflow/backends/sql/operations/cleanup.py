"""Delete what is over: activities that were cancelled, and finished instances.

An activity that a worker runs is never deleted here but marked: its row goes when the worker has
heard of it (`Backend.heartbeat`) and reports its end, or when the worker is reclaimed. The mark,
in the column ``cancel``, is the event with which the instance is then told; it is empty if there
is nobody to tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trioflow.backends.commits import Message
from trioflow.backends.sql.operations.delivery import deliver
from trioflow.backends.sql.store import SqlStore

__all__ = ["delete_finished", "drop_activities", "end_activity", "end_cancelled"]


def end_activity(store: SqlStore, key: Sequence[Any], event: bytes, now: float) -> None:
    """Delete an activity that was cancelled; ``event`` says so to its instance, if not empty.

    ``key`` has the fields of an `ActivityKey`.
    """
    store.execute(store.queries.delete_activity, *key)
    if event:
        instance, execution, _, life = key
        deliver(store, Message(instance, event, execution=execution, life=life), now)


def end_cancelled(store: SqlStore, marked: Sequence[Sequence[Any]], now: float) -> None:
    """End activities that nobody runs any more, and whose cancellation was asked for.

    ``marked`` are rows of `Queries.cancelled_of_worker`.
    """
    for *key, event in marked:
        end_activity(store, key, event, now)


def drop_activities(store: SqlStore, instance: str) -> None:
    """Delete the activities of an instance; mark those that a worker runs.

    They are marked first: then none of them is taken, or given back, between the two.
    """
    store.execute(store.queries.mark_all, b"", instance)
    store.execute(store.queries.delete_pending, instance)


def delete_finished(store: SqlStore, id: str) -> None:
    """Delete a finished instance, except for its turns, so that its id can be used again."""
    store.execute(store.queries.delete_attributes, id)
    store.execute(store.queries.delete_instance, id)
    store.execute(store.queries.delete_inbox, id)
    drop_activities(store, id)
