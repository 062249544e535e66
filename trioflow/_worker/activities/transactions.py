"""Plain functions that write in a transaction of the store, which also stores their end."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from trioflow._model.events import ActivityCompleted, encode_event
from trioflow._model.info import current_connection
from trioflow.backends.outbox import ActivityTransaction
from trioflow.backends.records import ActivityKey
from trioflow.errors import NonRetryable, TransactionRefused

if TYPE_CHECKING:
    from trioflow._worker.activities.lanes import Run
    from trioflow._worker.activities.runtimes import Call

__all__ = ["Begin", "Kept", "call_in_transaction"]

Begin: TypeAlias = Callable[[ActivityKey, int], ActivityTransaction]
"""Begins the transaction of an activity and its attempt, for the worker that has the lease."""


class Kept(Enum):
    """What became of a transaction whose function has returned."""

    STORED = auto()
    """It is committed, with the end of the activity."""
    LOST = auto()
    """It was rolled back: the activity is not this worker's any more."""


def call_in_transaction(begin: Begin, call: Call, run: Run) -> Kept:
    """Call a function, store what it returns, and commit; in the function's thread.

    Not if it was given up meanwhile, which ends the transaction while the function goes on. If that
    happens while this commits, the activity's row says which of the two came first.

    Raises:
        NonRetryable: There can be no such transaction, or the function has ended it.
        BaseException: What the function raises, or the store; nothing is stored then.
    """
    key = run.task.key
    try:
        with begin(key, run.task.attempt) as transaction:
            run.transaction = transaction  # before the look at `detached`, which is set first
            try:
                return Kept.LOST if run.detached else _call(transaction, call, run)
            finally:
                run.transaction = None
    except TransactionRefused as exc:
        name = call.definition.name
        raise NonRetryable(f"activity {name!r} is transactional: {exc}") from exc


def _call(transaction: ActivityTransaction, call: Call, run: Run) -> Kept:
    token = current_connection.set(transaction.connection)
    try:
        result = call.definition.call_plain(call.args, call.kwargs)
    finally:
        current_connection.reset(token)
    assert call.encode is not None
    event = ActivityCompleted(run.task.key.command, msgspec.Raw(call.encode(result)))
    stored = not run.detached and transaction.finish(encode_event(event))
    return Kept.STORED if stored else Kept.LOST
