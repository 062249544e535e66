"""Put messages into inboxes.

Theory. An instance's row has ``unread``, the number of rows in its inbox, and ``ready_at``. Who
delivers raises the one and sets the other in one statement, and only then inserts the message: so
whether an instance is ready never needs a look into the inbox, and a delivery and a commit of the
same instance meet at its row, where the database makes one wait for the other.

Invariants, at the end of every transaction:

- ``unread`` equals the number of inbox rows of an unfinished instance;
- a running instance with unread messages that its worker has not seen has a ``ready_at``;
- the numbers (``seq``) of an inbox grow in the order of delivery, and none is ever given twice.
  They are allocated after the rows of the targets have been locked (by counting in), so that two
  deliveries to one inbox are numbered in the order in which they are committed.

Most messages of a commit are *plain*: their targets are all different executions and nobody waits
for an answer. They are delivered together, in two statements. The others go one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from trioflow.backends._common.notices import asked_by, child_cancelled, run_has_ended
from trioflow.backends.commits import Message
from trioflow.backends.sql.rows import parent_ref
from trioflow.backends.sql.statements import COUNT_IN, DELIVER
from trioflow.backends.sql.store import SqlStore

__all__ = [
    "Mail",
    "deliver",
    "deliver_one_by_one",
    "deliver_together",
    "end_unstarted",
    "insert_together",
    "sort_mails",
    "unread_counts",
]


class Mail(NamedTuple):
    """A message on its way: the id of its sender, and when it came."""

    sender: str
    message: Message
    at: float


def sort_mails(mails: Sequence[Mail]) -> tuple[dict[str, list[Mail]], list[Mail]]:
    """Return the mails that can be delivered together, by target, and those to deliver one by one.

    A target that gets one of the latter gets what follows one by one as well: an inbox keeps the
    order of what was sent. After a mail that may end others, whose parents are told, or may grant
    something to others, that is every target.
    """
    ordered: set[str] = set()
    after_replacing = False
    plain: dict[str, list[Mail]] = {}
    others: list[Mail] = []
    for mail in mails:
        sender, message, _ = mail
        target = message.instance
        same = plain.get(target)
        replies = bool(message.sent or message.failed)
        changes = message.new is not None or bool(message.terminated)
        special = changes or bool(message.unstarted) or message.claim is not None
        alone = replies or special or target in ordered or after_replacing
        ends = message.replacing is not None or bool(message.terminated)
        after_replacing = after_replacing or ends or message.claim is not None
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


def _alike(one: Message, other: Message) -> bool:
    return one.execution == other.execution and one.life == other.life


# --- together ---------------------------------------------------------------------------------


def deliver_together(store: SqlStore, by_target: dict[str, list[Mail]], now: float) -> None:
    """Deliver plain mails."""
    touched = store.write(COUNT_IN, unread_counts(by_target, now))
    insert_together(store, by_target, touched, now)


def unread_counts(by_target: dict[str, list[Mail]], now: float) -> list[Any]:
    """Return the values of `COUNT_IN` for plain mails."""
    counts: list[Any] = []
    for target, mails in by_target.items():
        first = mails[0].message
        counts += (target, first.execution, first.life, len(mails), now)
    return counts


def insert_together(
    store: SqlStore, by_target: dict[str, list[Mail]], touched: int, now: float
) -> None:
    """Insert plain mails that `COUNT_IN` has counted in at ``touched`` of their targets."""
    if not touched:
        return
    dialect, connection = store.dialect, store.connection
    count = sum(map(len, by_target.values()))
    seq = dialect.allocate(connection, count, now)
    if touched == len(by_target):
        rows: list[Any] = []
        for target, mails in by_target.items():
            for _, message, at in mails:
                rows += (target, seq, message.execution, message.event, at)
                seq += 1
        dialect.append(connection, DELIVER, rows)
        return
    for mails in by_target.values():
        for _, message, at in mails:
            _insert_if_open(store, message, seq, at)
            seq += 1


# --- one by one -------------------------------------------------------------------------------


def deliver_one_by_one(
    store: SqlStore,
    mails: Sequence[Mail],
    now: float,
    change: Callable[[SqlStore, Message], bool],
    ask: Callable[[Message, float], None],
) -> None:
    """Deliver mails in their order; answer each that wants an answer at once.

    ``change`` creates the instance that a message has, or terminates its target, and returns
    whether that was done; ``ask`` does what a message with a claim says.
    """
    for sender, message, at in mails:
        if message.claim is not None:
            ask(message, now)
            continue
        if message.new is not None or message.terminated:
            done = change(store, message)
        else:
            done = end_unstarted(store, message, now) if message.unstarted else False
            done = done or deliver(store, message, now, at)
        reply = message.sent if done else message.failed
        if reply:
            deliver(store, Message(sender, reply), now)


def deliver(store: SqlStore, message: Message, now: float, at: float | None = None) -> bool:
    """Put one event into an inbox; return whether its target is there and unfinished.

    ``at`` is when it came, ``None`` for ``now``. What else the message says does not matter.
    """
    named = (message.instance, message.execution, message.life)
    counted = store.execute(store.queries.count_in, now, now, now, *named)
    if not counted.rowcount:
        return False
    seq = store.dialect.allocate(store.connection, 1, now)
    _insert_if_open(store, message, seq, now if at is None else at)
    return True


def end_unstarted(store: SqlStore, cancel: Message, now: float) -> bool:
    """End what a cancel is for, if it has not begun; return whether it was so."""
    id, queries = cancel.instance, store.queries
    row = store.execute(queries.unstarted, id, cancel.execution, cancel.life).fetchone()
    if row is None:
        return False
    parent, by = parent_ref(*row[1:]), asked_by(cancel.event)
    if by is not None and by != parent:
        return False  # it is not the one that was meant, and will not listen
    store.execute(queries.end_instance, "cancelled", cancel.unstarted, now, id)
    store.execute(store.limit_queries.stop_waiting, id)
    store.execute(queries.delete_inbox, id)
    notice = (
        run_has_ended(row[0], id, "cancelled")
        if parent is None
        else child_cancelled(cancel.unstarted, parent)
    )
    if notice is not None:
        deliver(store, notice, now)
    return True


def _insert_if_open(store: SqlStore, message: Message, seq: int, at: float) -> None:
    store.execute(
        store.queries.deliver_if_open,
        *(seq, message.execution, message.event, at),
        *(message.instance, message.execution, message.life),
    )
