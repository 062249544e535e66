"""Queries, seen from outside: a question, and the wait for a worker that answers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from trioflow._client.description import decode_outcome
from trioflow._client.messages import message_name
from trioflow._client.updates import NOTHING
from trioflow._codec.values import Codec, decode_as, encode_checked
from trioflow._model.events import NO_VALUE
from trioflow._model.options import check_seconds
from trioflow._model.queries import Query, Question, encode_question
from trioflow._model.turns import Completed, Failed
from trioflow._model.updates import NO_ARGUMENT
from trioflow.backends.abc import Backend
from trioflow.backends.commits import NewQuestion
from trioflow.backends.records import InstanceRecord
from trioflow.errors import (
    ArgumentError,
    BackendUnavailable,
    ClientClosed,
    InstanceNotFound,
    InstanceSuspended,
    NoWorkerAnswered,
)

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["ask", "question_of"]

_LOOK = 0.5  # seconds at most between two looks for the answer
_WITHDRAWING = 1.0  # seconds that forgetting a question may take


def question_of(codec: Codec, query: Query[..., Any] | str, value: object) -> Question:
    """Return a question.

    Raises:
        ValueMismatch: The argument is not of the query's type.
        ArgumentError: It has no argument and is given one, or has one that is not given; or what
            is given as a query is no name that a store takes.
    """
    name, type_ = "", Any
    if isinstance(query, Query):
        name, type_ = query.name, query.argument
        if value is NOTHING and type_ is not NO_ARGUMENT:
            raise ArgumentError(f"query {name!r} has an argument: query({name}, value)")
        if value is not NOTHING and type_ is NO_ARGUMENT:
            raise ArgumentError(f"query {name!r} has no argument, and was given {value!r}")
    else:
        name = message_name(query, "query")
    data = NO_VALUE
    if value is not NOTHING:
        what = f"the argument of query {name!r}"
        data = msgspec.Raw(encode_checked(codec, value, type_, what))
    return Question(name, data)


async def ask(
    client: Client,
    record: InstanceRecord,
    query: Query[..., Any] | str,
    question: Question,
    timeout: float,
) -> Any:
    """Ask an instance, and return its answer; errors as `Handle.query`."""
    check_seconds("timeout", timeout)
    backend = client.backend
    id = client.fresh_request()
    expires_at = backend.now() + timeout
    new = NewQuestion(id, record.id, record.life, encode_question(question), expires_at)
    if await backend.ask(new) == "not found":
        raise InstanceNotFound(record.id)
    try:
        reply = await _wait(client, id, timeout)
    finally:
        await _withdraw(backend, id)
    if reply is None:
        raise NoWorkerAnswered(
            record.id,
            f"within {timeout:g} s; a worker is needed that knows workflow {record.workflow!r} and "
            f"serves queue {record.queue!r}"
            + ("" if record.turns or record.finished_at else ", and the instance has not begun"),
        )
    answer = decode_outcome(reply)
    if isinstance(answer, Failed):
        error = answer.failure.rebuild(client.codec)
        if isinstance(error, InstanceSuspended) and record.status == "running":
            error = InstanceSuspended(record.id, error.reason, running=True)
        error.add_note(f"raised by query {question.name!r} of instance {record.id!r}")
        raise error
    assert isinstance(answer, Completed)
    type_ = query.result if isinstance(query, Query) else Any
    what = f"the answer to query {question.name!r} of instance {record.id!r}"
    return decode_as(client.codec, bytes(answer.result), type_, what)


async def _wait(client: Client, id: str, timeout: float) -> bytes | None:
    """Wait for the answer to a question; ``None`` if it does not come in time."""
    backend = client.backend
    with anyio.move_on_after(timeout):
        while True:
            seen = backend.changes()
            try:
                (reply,) = await backend.replies([id])
            except BackendUnavailable as exc:
                if client.waiter.closed:
                    raise ClientClosed from exc
                raise
            if reply is not None:
                return reply
            await backend.wait_change(seen, _LOOK)
            backend = client.backend  # which raises if the client was closed
    return None


async def _withdraw(backend: Backend, id: str) -> None:
    with anyio.move_on_after(_WITHDRAWING, shield=True):
        try:
            await backend.withdraw([id])
        except BackendUnavailable:
            return  # it expires
