"""Questions of clients that workers answer: kept for a short time, and given once.

There are few of them, and mostly none: so whoever looks for some reads all, and decides by what the
rows of their instances say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from trioflow.backends.commits import Answer, NewQuestion
from trioflow.backends.records import Effect, TakenQuestion, TakenQuestions
from trioflow.backends.sql.store import SqlStore

__all__ = ["Answering", "answer_questions", "ask", "replies", "take_questions", "withdraw"]


class Answering(NamedTuple):
    """Who asks for questions, and for which; see `Backend.take_questions`."""

    worker: str
    queues: Sequence[str]
    workflows: Sequence[str]
    exclude_ids: Sequence[str]


def ask(store: SqlStore, new: NewQuestion) -> Effect:
    """See `Backend.ask`."""
    queries = store.queries
    with store.transaction():
        store.execute(queries.forget_questions, store.clock())
        row = store.execute(queries.status_of, new.instance).fetchone()
        if row is None or row[1] != new.life:
            return "not found"
        named = (new.id, new.instance, new.life)
        store.execute(queries.ask, *named, new.question, new.expires_at)
        return "done"


def take_questions(store: SqlStore, asked: Answering, limit: int) -> TakenQuestions:
    """See `Backend.take_questions`."""
    queries, worker = store.queries, asked.worker
    if store.execute(queries.any_question).fetchone() is None:
        return TakenQuestions([])
    taken: list[TakenQuestion] = []
    waiting = False
    with store.transaction():
        if store.execute(queries.worker_alive, worker).fetchone() is None:
            return TakenQuestions([])
        for row in store.execute(queries.questions, store.clock()).fetchall():
            one = TakenQuestion(*row[:-2])
            finished_at, held = row[-2:]
            begun = one.turns != 0 or finished_at is not None
            known = one.workflow in asked.workflows
            served = one.queue in asked.queues and one.instance not in asked.exclude_ids
            if not begun or (held and not (known and one.worker == worker)):
                waiting = True
            elif not held and not (known and served):
                pass  # somebody else's
            elif len(taken) == limit:
                waiting = True
            elif store.execute(queries.take_question, worker, one.id).rowcount:
                taken.append(one)
    return TakenQuestions(taken, waiting)


def answer_questions(store: SqlStore, answers: Sequence[Answer]) -> None:
    """See `Backend.answer_questions`."""
    with store.transaction():
        for answer in answers:
            store.execute(store.queries.answer_question, answer.data, answer.request)


def replies(store: SqlStore, questions: Sequence[str]) -> list[bytes | None]:
    """See `Backend.replies`."""
    found: list[list[Any]] = store.each(store.queries.reply, [(id,) for id in questions])
    return [rows[0][0] if rows else None for rows in found]


def withdraw(store: SqlStore, questions: Sequence[str]) -> None:
    """See `Backend.withdraw`."""
    with store.transaction():
        for id in questions:
            store.execute(store.queries.withdraw, id)
