"""Promises of an execution: what they were settled with, and the tasks that wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import trio
from outcome import Value

from trioflow._model.events import PromiseRejected, PromiseResolved
from trioflow._model.promises import Token
from trioflow._model.randomness import system_random

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller
    from trioflow._engine.loop.nested import NestedLoop

__all__ = ["Promises", "make_token", "receive_promise"]

_BYTES = 16

Settled: TypeAlias = PromiseResolved | PromiseRejected


class _Promise:
    __slots__ = ("settled", "waiting")

    def __init__(self) -> None:
        self.settled: Settled | None = None
        self.waiting: list[trio.lowlevel.Task] = []


class Promises:
    """The promises of one execution, by the secrets of their tokens."""

    __slots__ = ("_by_secret",)

    def __init__(self) -> None:
        self._by_secret: dict[str, _Promise] = {}

    def add(self, secret: str) -> None:
        """Add a promise, which was just made."""
        self._by_secret[secret] = _Promise()

    def settle(self, loop: NestedLoop, event: Settled) -> None:
        """Settle a promise and wake those who wait; nothing if it is of an earlier execution."""
        promise = self._by_secret.get(event.promise)
        if promise is None or promise.settled is not None:
            return
        promise.settled = event
        for task in promise.waiting:
            loop.reschedule(task, Value(None))
        promise.waiting.clear()

    async def wait(self, secret: str) -> Settled:
        """Wait until a promise is settled, and return with what."""
        promise = self._by_secret[secret]
        if promise.settled is None:
            task = trio.lowlevel.current_task()
            promise.waiting.append(task)

            def abort(_: object) -> trio.lowlevel.Abort:
                promise.waiting.remove(task)
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        assert promise.settled is not None
        return promise.settled

    def waiters(self) -> set[trio.lowlevel.Task]:
        """The tasks that wait for a promise."""
        return {task for promise in self._by_secret.values() for task in promise.waiting}


def make_token(caller: Caller, name: str) -> str:
    """Make a promise and its token, whose secret is recorded as a side effect."""

    def secret() -> str:
        return system_random.hex(_BYTES)

    secret.__qualname__ = f"Promise({name!r})"
    drawn = caller.side_effect(secret, str)
    me = caller.execution.identity  # also in a fork, whose code sees another for a while
    caller.execution.messages.promises.add(drawn)
    return str(Token(drawn, me.life, me.id))


async def receive_promise(caller: Caller, name: str, token: str, type_: object) -> Any:
    """Wait until a promise is settled; return its value, or raise what it was rejected with."""
    await caller.begin("promise", name)
    settled = await caller.execution.messages.promises.wait(Token.parse(token).secret)
    if isinstance(settled, PromiseRejected):
        raise caller.rebuild(settled.failure)
    return caller.read(settled.value, type_, "promise {!r}", name)
