"""What every part of the SQL store stands on: connection, queries, and delivery to inboxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from trioflow._model.events import ParentRef
from trioflow.backends._common.notices import asked_by, child_cancelled
from trioflow.backends.records import Message
from trioflow.backends.sql.dialect import Connection, Cursor, Dialect
from trioflow.backends.sql.queries import DELIVER, NOTIFY, Queries

__all__ = ["Mail", "SqlCore"]


class Mail(NamedTuple):
    """A message on its way: the id of its sender, and when it came."""

    sender: str
    message: Message
    at: float


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

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _execute(self, sql: str, *parameters: Any) -> Cursor:
        return self.connection.execute(sql, parameters)

    @staticmethod
    def _sorted_out(mails: Sequence[Mail]) -> tuple[dict[str, list[Mail]], list[Mail]]:
        """Return those that can be delivered together, by target, and those one by one.

        Whoever gets one of these gets what follows one by one as well: an inbox keeps the order
        of what was sent.
        """
        ordered: set[str] = set()
        plain: dict[str, list[Mail]] = {}
        others: list[Mail] = []
        for mail in mails:
            sender, message, _ = mail
            target = message.instance
            same = plain.get(target)
            replies = bool(message.sent or message.failed)
            alone = replies or bool(message.unstarted) or target in ordered
            if alone or (same is not None and not _alike(same[0].message, message)):
                others.append(mail)
                ordered.add(target)
                if replies:
                    ordered.add(sender)
            elif same is None:
                plain[target] = [mail]
            else:
                same.append(mail)
        return plain, others

    def _deliver_others(self, others: Sequence[Mail], now: float) -> None:
        for sender, message, at in others:
            done = self._end_unstarted(message, now) if message.unstarted else False
            done = done or self._deliver(message, now, at)
            reply = message.sent if done else message.failed
            if reply:
                self._deliver(Message(sender, reply), now)

    def _end_unstarted(self, cancel: Message, now: float) -> bool:
        """End what a cancel is for, if it has not begun; return whether it was so."""
        id = cancel.instance
        row = self._execute(self.queries.unstarted, id, cancel.execution, cancel.life).fetchone()
        if row is None:
            return False
        parent, by = self._parent(*row), asked_by(cancel.event)
        if by is not None and by != parent:
            return False  # it is not the one that was meant, and will not listen
        self._execute(self.queries.end_instance, "cancelled", cancel.unstarted, now, id)
        self._execute(self.queries.delete_inbox, id)
        if parent is not None:
            self._deliver(child_cancelled(cancel.unstarted, parent), now)
        return True

    def _deliver_plain(self, by_target: dict[str, list[Mail]], now: float) -> None:
        counts = self._counts(by_target, now)
        touched = self.dialect.write(self.connection, NOTIFY, counts)
        self._store_plain(by_target, touched, now)

    @staticmethod
    def _counts(by_target: dict[str, list[Mail]], now: float) -> list[Any]:
        counts: list[Any] = []
        for target, mails in by_target.items():
            first = mails[0].message
            counts += (target, first.execution, first.life, len(mails), now)
        return counts

    def _store_plain(self, by_target: dict[str, list[Mail]], touched: int, now: float) -> None:
        """Put in what has been counted in at so many targets."""
        if not touched:
            return
        count = sum(map(len, by_target.values()))
        seq = self.dialect.allocate(self.connection, count, now)
        if touched == len(by_target):
            rows: list[Any] = []
            for target, mails in by_target.items():
                for _, message, at in mails:
                    rows += (target, seq, message.execution, message.event, at)
                    seq += 1
            self.dialect.append(self.connection, DELIVER, rows)
            return
        for mails in by_target.values():
            for _, message, at in mails:
                self._insert_if_open(message, seq, at)
                seq += 1

    def _deliver(self, message: Message, now: float, at: float | None = None) -> bool:
        """Put one event into an inbox; return whether its target is there and unfinished.

        ``at`` is when it came, ``None`` for ``now``. What else the message says does not matter.
        """
        named = (message.instance, message.execution, message.life)
        counted = self._execute(self.queries.count_in, now, now, *named)
        if not counted.rowcount:
            return False
        seq = self.dialect.allocate(self.connection, 1, now)
        self._insert_if_open(message, seq, now if at is None else at)
        return True

    def _end_activity(self, key: Sequence[Any], event: bytes, now: float) -> None:
        """Delete an activity that was cancelled; ``event`` says so to its instance, if not empty.

        ``key`` has the fields of an `ActivityKey`.
        """
        self._execute(self.queries.delete_activity, *key)
        if event:
            instance, execution, _, life = key
            self._deliver(Message(instance, event, execution=execution, life=life), now)

    def _drop_activities(self, instance: str) -> None:
        """Delete the activities of an instance; mark those that a worker runs.

        They are marked first: then none of them is taken, or given back, between the two.
        """
        self._execute(self.queries.mark_all, b"", instance)
        self._execute(self.queries.delete_pending, instance)

    def _insert_if_open(self, message: Message, seq: int, at: float) -> None:
        self._execute(
            self.queries.deliver_if_open,
            *(seq, message.execution, message.event, at),
            *(message.instance, message.execution, message.life),
        )

    @staticmethod
    def _parent(instance: str | None, execution: int, command: str, life: str) -> ParentRef | None:
        return None if instance is None else ParentRef(instance, execution, command, life)


def _alike(one: Message, other: Message) -> bool:
    return one.execution == other.execution and one.life == other.life
