"""What every part of the SQL store stands on: connection, queries, and delivery to inboxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, TypeVarTuple

from outcome import Error, Outcome, capture

from trioflow.backends.sql.dialect import Connection, Cursor, Dialect
from trioflow.backends.sql.queries import DELIVER, NOTIFY, Queries
from trioflow.model.events import ParentRef
from trioflow.model.records import Message

__all__ = ["SqlCore"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _TransactionLost(Exception):
    """The transaction around several calls is no more."""


class SqlCore:
    """One connection to a store. Used by one thread at a time.

    Args:
        connection: Open, its schema up to date, in autocommit mode between transactions.
        dialect: The ways of its database.
        clock: The store's clock, epoch seconds.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect, clock: Callable[[], float]
    ) -> None:
        self.connection = connection
        self.dialect = dialect
        self.clock = clock
        self.queries = Queries(dialect)

    def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a method of this store.

        Raises:
            BackendError: In place of whatever the driver raises.
        """
        try:
            return fn(*args)
        except self.dialect.errors as exc:
            raise self.dialect.error(exc) from exc

    def call_together(self, calls: Sequence[Callable[[], Any]]) -> list[Outcome[Any]]:
        """Run several methods of this store in one transaction; each succeeds or fails by itself.

        Returns:
            The outcome of each. All is durable that has a value.
        """
        if not calls:
            return []
        if len(calls) == 1:
            return [capture(self.call, calls[0])]
        outcomes: list[Outcome[Any]] = []
        try:
            with self.dialect.transaction(self.connection):
                for call in calls:
                    outcomes.append(capture(self.call, call))
                    if not self.dialect.in_transaction(self.connection):
                        raise _TransactionLost  # noqa: TRY301 - leaves the block around it
        except _TransactionLost:
            # The store gave up the whole transaction, on a full disk for one.
            done = len(outcomes)
            return self._all_failed(outcomes[-1], done) + self.call_together(calls[done:])
        except self.dialect.errors as exc:
            return self._all_failed(Error(self.dialect.error(exc)), len(calls))
        return outcomes

    @staticmethod
    def _all_failed(last: Outcome[Any], count: int) -> list[Outcome[Any]]:
        assert isinstance(last, Error)
        # One for each, since each is raised in a place of its own.
        return [Error(type(last.error)(*last.error.args)) for _ in range(count)]

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _execute(self, sql: str, *parameters: Any) -> Cursor:
        return self.connection.execute(sql, parameters)

    @staticmethod
    def _sorted_out(
        messages: Sequence[tuple[str, Message]],
    ) -> tuple[dict[str, list[Message]], list[tuple[str, Message]]]:
        """Return those that can be delivered together, by target, and those one by one.

        Each comes with the id of its sender, for the reply. Whoever gets one of these gets what
        follows one by one as well: an inbox keeps the order of what was sent.
        """
        ordered: set[str] = set()
        plain: dict[str, list[Message]] = {}
        others: list[tuple[str, Message]] = []
        for sender, message in messages:
            same = plain.get(message.instance)
            replies = bool(message.sent or message.failed)
            differs = same is not None and same[0].execution != message.execution
            if replies or differs or message.instance in ordered:
                others.append((sender, message))
                ordered.add(message.instance)
                if replies:
                    ordered.add(sender)
            elif same is None:
                plain[message.instance] = [message]
            else:
                same.append(message)
        return plain, others

    def _deliver_others(self, others: Sequence[tuple[str, Message]], now: float) -> None:
        for sender, message in others:
            done = self._deliver(message.instance, message.execution, message.event, now)
            reply = message.sent if done else message.failed
            if reply:
                self._deliver(sender, None, reply, now)

    def _deliver_plain(self, by_target: dict[str, list[Message]], now: float) -> None:
        counts = self._counts(by_target, now)
        touched = self.dialect.write(self.connection, NOTIFY, counts)
        self._store_plain(by_target, touched)

    @staticmethod
    def _counts(by_target: dict[str, list[Message]], now: float) -> list[Any]:
        counts: list[Any] = []
        for target, messages in by_target.items():
            counts += (target, messages[0].execution, len(messages), now)
        return counts

    def _store_plain(self, by_target: dict[str, list[Message]], touched: int) -> None:
        """Put in what has been counted in at so many targets."""
        if not touched:
            return
        seq = self.dialect.allocate(self.connection, sum(map(len, by_target.values())))
        rows: list[Any] = []
        for target, messages in by_target.items():
            for message in messages:
                rows += (target, seq, message.execution, message.event)
                seq += 1
        if touched == len(by_target):
            self.dialect.append(self.connection, DELIVER, rows)
            return
        for at in range(0, len(rows), 4):
            self._insert_if_open(*rows[at : at + 4])

    def _deliver(self, target: str, execution: int | None, event: bytes, now: float) -> bool:
        """Put one event into an inbox; return whether its target is there and unfinished."""
        counted = self._execute(self.queries.count_in, now, now, target, execution)
        if not counted.rowcount:
            return False
        seq = self.dialect.allocate(self.connection, 1)
        self._insert_if_open(target, seq, execution, event)
        return True

    def _insert_if_open(self, target: str, seq: int, execution: int | None, event: bytes) -> None:
        query = self.queries.deliver_if_open
        self._execute(query, seq, execution, event, target, execution)

    @staticmethod
    def _parent(instance: str | None, execution: int, command: str) -> ParentRef | None:
        return None if instance is None else ParentRef(instance, execution, command)
