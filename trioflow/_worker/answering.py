"""Answering the queries of clients, from what is in memory or from the stored history.

An execution in memory is asked if it has made exactly the turns that are stored: what a turn did
that is not stored yet may never have happened. In any other case the history is read and replayed,
and what comes out of it is thrown away afterwards.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, encode_checked
from trioflow._engine.execution import Execution
from trioflow._engine.suspension import NeedsSuspension
from trioflow._engine.tree import tasks_of
from trioflow._model.info import Identity
from trioflow._model.queries import Question, decode_question
from trioflow._model.tasks import TASKS
from trioflow._model.turns import Completed, Failed, decode_turn
from trioflow._model.workflows import Workflow
from trioflow._worker.instances.commit import patiently
from trioflow._worker.instances.pump import Pump
from trioflow._worker.registration import Registration
from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Backend
from trioflow.backends.commits import Answer
from trioflow.backends.records import TakenQuestion
from trioflow.errors import BackendUnavailable, InstanceSuspended, QueryNotHandled

__all__ = ["Answerer"]

logger = logging.getLogger("trioflow.worker")

_TAKE = 20  # questions at once
_REST = 0.02  # seconds at least after a look that found nothing, where others change the store
_WAITING = 0.05  # seconds until a question is looked at again that cannot be answered yet
_PATIENCE = 10.0  # seconds; those who ask wait no longer, if they do not say so

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


class Answerer:
    """Answers questions about the instances that a worker holds or could take.

    Args:
        backend: The store.
        workflows: The workflows by name.
        codec: For arguments and results.
        queues: The queues of the instances that the worker takes.
        registration: The worker's row.
        pump: Holds instances.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        workflows: Mapping[str, Workflow[..., Any]],
        codec: Codec,
        queues: Sequence[str],
        registration: Registration,
        pump: Pump,
    ) -> None:
        self._backend = backend
        self._changed = selection_of(backend)
        self._workflows = workflows
        self._codec = codec
        self._queues = queues
        self._registration = registration
        self._pump = pump

    async def run(self) -> None:
        """Answer what is asked, until the worker takes no more work."""
        rested, looked = 0.0, None
        while self._queues and not self._pump.holdings.closed:
            seen = self._backend.changes()
            if looked is not None and not self._changed("questions", looked):
                await self._backend.wait_change(seen, math.inf)
                continue
            if self._backend.shared and rested > anyio.current_time():
                await anyio.sleep_until(rested)
                seen = self._backend.changes()
            try:
                more = await self._answer_some()
            except BackendUnavailable:  # whoever takes work says so
                await anyio.sleep(0.5)
                continue
            if more is not None:
                rested = anyio.current_time() + _REST
                looked = seen if more == math.inf else None
                await self._backend.wait_change(seen, more)

    async def _answer_some(self) -> float | None:
        """Answer some questions; return how long to wait for a change, ``None`` for not at all."""
        if self._pump.isolation.suspects:
            return _WAITING  # a replay could end the process, and they would be blamed
        holdings = self._pump.holdings
        known = tuple(name for name in self._workflows if name not in holdings.unknown)
        taken = await self._backend.take_questions(
            self._registration.id, self._queues, known, _TAKE, **holdings.excluded()
        )
        if not taken.questions:
            return _WAITING if taken.waiting else math.inf
        answers: list[Answer] = []
        for one in taken.questions:
            answers.append(Answer(one.id, _encode(await self._answer_safely(one))))
            await anyio.lowlevel.checkpoint()
        await _within_patience(lambda: self._backend.answer_questions(answers))
        return None

    async def _answer_safely(self, taken: TakenQuestion) -> Completed | Failed:
        """Answer a question; one that cannot be read must not end the worker."""
        try:
            return await self._answer(taken)
        except Exception as exc:
            logger.exception("a question about instance %r cannot be answered", taken.instance)
            return Failed(Failure.of(exc, self._codec))

    async def _answer(self, taken: TakenQuestion) -> Completed | Failed:
        question = decode_question(taken.question)
        instance = self._pump.holdings.find_at_rest(taken)
        if instance is not None:
            assert instance.execution is not None
            answer = _ask(instance.execution, question)
            if instance.execution.disturbed:
                self._pump.holdings.drop_execution(instance)
            return answer
        if not taken.turns:
            said = f"{question.name!r}: it has ended before it began"
            return Failed(Failure.of(QueryNotHandled(taken.instance, said)))
        (stored,) = await _within_patience(
            lambda: self._backend.load([(taken.instance, taken.execution)])
        )
        return self._answer_from(taken, question, stored)

    def _answer_from(
        self, taken: TakenQuestion, question: Question, stored: Sequence[bytes]
    ) -> Completed | Failed:
        """Replay the history of an execution, and ask that."""
        identity = Identity(
            taken.instance, taken.execution, taken.queue, taken.priority, taken.life
        )
        workflow = self._workflows[taken.workflow]
        execution = self._pump.new_execution(workflow, identity)
        try:
            execution.replay([decode_turn(data) for data in stored])
            return _ask(execution, question)
        except NeedsSuspension as stop:
            error = InstanceSuspended(taken.instance, stop.report.message)
            return Failed(Failure.of(error, self._codec))
        except Exception as exc:
            logger.exception("instance %r could not be replayed for a query", taken.instance)
            return Failed(Failure.of(exc, self._codec))
        finally:
            execution.evict()


def _ask(execution: Execution, question: Question) -> Completed | Failed:
    if question.name != TASKS.name:
        return execution.answer(question)
    what = f"the tasks of instance {execution.identity.id!r}"
    data = encode_checked(execution.codec, tasks_of(execution), TASKS.result, what)
    return Completed(msgspec.Raw(data))


async def _within_patience(call: Callable[[], Awaitable[T]]) -> T:
    """Call the store again if it is away: the questions that were taken are not given again.

    Raises:
        BackendUnavailable: It was away for too long.
    """
    with anyio.move_on_after(_PATIENCE):
        return await patiently(call)
    raise BackendUnavailable(f"the store did not answer within {_PATIENCE:g} s")
