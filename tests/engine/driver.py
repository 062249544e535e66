"""Drives one `Execution` by hand: events in, turns out, with no worker and no store.

What tests of the engine share lives here: the driver, the checks that every history has to pass,
and the hosts under which a loop may be stepped.
"""

from __future__ import annotations

import contextlib
import gc
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anyio
import msgspec
import trio

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import JsonCodec
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution, Identity
from trioflow._engine.loop.steps import EndedUnseen
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.commands import (
    AnswerUpdate,
    CancelActivity,
    CancelChild,
    Command,
    RecordSideEffect,
    RunActivity,
    SendSignal,
    StartChild,
    command_target,
)
from trioflow._model.rules import CURRENT_RULES, LATE_GENERATORS
from trioflow._model.turns import Completed, Failed, Turn, decode_turn, encode_turn
from trioflow._model.workflows import Workflow

START = 1_000_000.0
CODEC = JsonCodec()


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(CODEC.encode(value))


def done(id: str, value: object = None) -> ev.ActivityCompleted:
    return ev.ActivityCompleted(id=id, result=raw(value))


def failed(id: str, error: BaseException) -> ev.ActivityFailed:
    return ev.ActivityFailed(id=id, failure=Failure.of(error))


def stopped(id: str) -> ev.ActivityCancelled:
    return ev.ActivityCancelled(id=id)


def child_done(id: str, value: object = None) -> ev.ChildCompleted:
    return ev.ChildCompleted(id=id, result=raw(value))


def child_failed(id: str, error: BaseException) -> ev.ChildFailed:
    return ev.ChildFailed(id=id, failure=Failure.of(error))


def signal(name: str, value: object = None) -> ev.SignalReceived:
    return ev.SignalReceived(name=name, value=raw(value))


def request(update: str, name: str, *value: object) -> ev.UpdateRequested:
    if not value:
        return ev.UpdateRequested(update, name)
    return ev.UpdateRequested(update, name, raw(*value))


def answers(turn: Turn) -> dict[str, Any]:
    """What a turn answers: results as plain data, or type and message of failures."""
    return {
        c.update: msgspec.json.decode(bytes(c.result))
        if c.failure is None
        else f"{c.failure.type}: {c.failure.message}"
        for c in turn.commands
        if isinstance(c, AnswerUpdate)
    }


def shown(turn: Turn) -> list[tuple[str, str, str]]:
    """The turn's commands as (kind, id, name)."""
    return [(type(c).__name__, c.id, command_target(c)) for c in turn.commands]


def secret_of(driver: Driver) -> str:
    """The secret of the only promise that was made, as the history has it."""
    (command,) = [c for turn in driver.turns for c in turn.commands]
    assert isinstance(command, RecordSideEffect), command
    return bytes(command.value).decode().strip('"')


class Driver:
    """One execution, its encoded history, and what it waits for.

    Args:
        fn: A workflow, or a function to make one of.
        args: Its arguments.
        first: Further events of the first turn.
        evict_always: Whether the execution is evicted and replayed before each turn.
        rules: By which it runs.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *args: Any,
        id: str = "wf",
        number: int = 1,
        queue: str = "default",
        first: Sequence[ev.Event] = (),
        started: dict[str, Any] | None = None,
        evict_always: bool = False,
        now: float = START,
        rules: int = CURRENT_RULES,
    ) -> None:
        self.workflow = fn if isinstance(fn, Workflow) else Workflow(fn)
        self.identity = Identity(id, number, queue)
        self.history: list[bytes] = []
        self.now = now
        self.evict_always = evict_always
        self.running: dict[str, Command] = {}  # given and not answered, in the order of giving
        self.cancelling: set[str] = set()
        self.execution = self.fresh()
        data = self.workflow.signature.encode(CODEC, args, {}, self.workflow.name)
        timeout = self.workflow.timeout if rules >= LATE_GENERATORS else None
        deadline_at = None if timeout is None else now + timeout
        fields = {"rules": rules, "deadline_at": deadline_at, **(started or {})}
        begun = ev.Started(self.workflow.name, msgspec.Raw(data), **fields)
        self.turn(begun, *first)

    def fresh(self, workflow: Workflow[..., Any] | None = None) -> Execution:
        return Execution(workflow or self.workflow, self.identity, CODEC, Caller)

    # --- going on -----------------------------------------------------------------------

    def turn(self, *events: ev.Event, now: float | None = None, at: Sequence[float] = ()) -> Turn:
        """Advance by one turn; what goes in and comes out has been encoded and decoded."""
        self.now = self.now if now is None else now
        if self.evict_always and self.history:
            self.evict()
            self.revive()
        arrived = [ev.decode_event(ev.encode_event(event)) for event in events]
        try:
            turn = self.execution.advance(arrived, self.now, at=at)
        except EndedUnseen as ended:
            self.execution.evict()
            self.revive()
            turn = self.execution.advance(arrived, self.now, at=at, together_from=ended.number)
        self.history.append(encode_turn(turn))
        for event in events:
            command_id = getattr(event, "id", "")
            self.running.pop(command_id, None)
            self.cancelling.discard(command_id)
        for command in turn.commands:
            if isinstance(command, CancelActivity | CancelChild):
                self.cancelling.add(command.id)
            elif isinstance(command, RunActivity | StartChild | SendSignal):
                self.running[command.id] = command
        return turn

    def wake(self) -> Turn:
        """Let the earliest deadline come."""
        wake_at = self.execution.wake_at
        assert wake_at is not None, "the workflow waits for no deadline"
        return self.turn(ev.Woken(), now=max(wake_at, self.now))

    def finish(self, **activities: Callable[..., Any]) -> Driver:
        """Go on until the workflow ends: answer activities by name, and let deadlines come."""
        for _ in range(1000):
            if self.outcome is not None:
                return self
            if self.running:
                command = next(iter(self.running.values()))
                self.turn(self.answer(command, activities))
            else:
                self.wake()
        raise AssertionError("the workflow does not end")

    def answer(self, command: Command, activities: dict[str, Callable[..., Any]]) -> ev.Event:
        if command.id in self.cancelling:
            return stopped(command.id)
        assert isinstance(command, RunActivity), command
        arguments = msgspec.json.decode(bytes(command.input))
        try:
            return done(command.id, activities[command.activity](**arguments))
        except Exception as error:  # the fake's failure is the activity's
            return failed(command.id, error)

    # --- eviction and replay ------------------------------------------------------------

    def evict(self) -> None:
        """Unwind the execution; it may leave nothing and do nothing."""
        before = self.execution.custom_status
        assert self.execution.evict(), "the execution survived its eviction"
        assert self.execution.custom_status == before
        assert self.execution.loop.alive == 0
        assert not self.execution.waits_for
        assert not self.execution.commands.given
        assert not self.execution.commands.cancels

    def revive(self, workflow: Workflow[..., Any] | None = None) -> Execution:
        """Replay the encoded history; every turn has to come out byte for byte."""
        self.execution = execution = self.fresh(workflow)
        for data in self.history:
            turn = decode_turn(data)
            again = execution.advance(turn.events, turn.now, turn)
            assert _plain(encode_turn(again)) == _plain(data)
        execution.replay(())  # the end of a replay
        return execution

    def check(self) -> Driver:
        """Check that the history replays, also through `Execution.replay`; evict what it gave."""
        live = self.execution
        replayed = self.revive()
        assert replayed.wake_at == live.wake_at
        assert replayed.events == live.events
        assert replayed.turns == live.turns
        assert replayed.now == live.now
        assert _waits(replayed) == _waits(live)
        assert replayed.messages.unread() == live.messages.unread()
        self.evict()
        self.execution = self.fresh()
        self.execution.replay(self.turns)
        self.evict()
        self.execution = live
        return self

    # --- what came out ------------------------------------------------------------------

    @property
    def turns(self) -> list[Turn]:
        return [decode_turn(data) for data in self.history]

    @property
    def last(self) -> Turn:
        return decode_turn(self.history[-1])

    @property
    def outcome(self) -> Any:
        return self.last.outcome

    @property
    def ids(self) -> list[str]:
        """The ids of all commands but cancels, in their order."""
        return [
            c.id
            for turn in self.turns
            for c in turn.commands
            if not isinstance(c, CancelActivity | CancelChild)
        ]

    def result(self) -> Any:
        """Return the result as plain data, or raise the failure."""
        outcome = self.outcome
        if isinstance(outcome, Failed):
            raise outcome.failure.rebuild()
        assert isinstance(outcome, Completed), outcome
        return msgspec.json.decode(bytes(outcome.result))


def _plain(data: bytes) -> bytes:
    return re.sub(rb"0x[0-9a-f]+", b"0x", data)  # a failure's text may show an object's address


def _waits(execution: Execution) -> list[tuple[str, str]]:
    return sorted((c.id, command_target(c)) for c in execution.waits_for)


def run(fn: Callable[..., Any], *args: Any, evict: bool = False, **activities: Any) -> Any:
    """Run a workflow to its end, check that it replays, and return its result."""
    driver = Driver(fn, *args, evict_always=evict).finish(**activities)
    driver.check()
    return driver.result()


def act(name: str, result: type | None = None) -> Activity[[], Any]:
    """An activity without arguments that nobody runs."""

    async def nobody() -> Any:
        raise AssertionError("the engine never runs an activity")

    nobody.__annotations__["return"] = Any if result is None else result
    return Activity(nobody, name=name)


# --- hosts --------------------------------------------------------------------------------

HOSTS = ("none", "trio", "asyncio")


def on_host(host: str, fn: Callable[[], Any]) -> Any:
    """Call a function inside of a running event loop, or without one."""

    async def main() -> Any:
        await anyio.lowlevel.checkpoint()
        return fn()

    if host == "none":
        return fn()
    if host == "trio":
        return trio.run(main)
    return anyio.run(main, backend="asyncio")


# --- nothing is left ----------------------------------------------------------------------


def _suspended() -> list[object]:
    return [
        thing
        for thing in gc.get_objects()
        if (isinstance(thing, types.CoroutineType) and thing.cr_frame is not None)
        or (isinstance(thing, types.AsyncGeneratorType) and thing.ag_frame is not None)
    ]


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if the block leaves a suspended coroutine, or the garbage collector has to complain."""
    complaints: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, complaints.append
    gc.freeze()  # what is older is not looked at, which is ten times as quick
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
            left = _suspended()
            gc.collect()
    finally:
        gc.unfreeze()
        sys.unraisablehook = hook
    assert not complaints, [complaint.exc_value for complaint in complaints]
    assert not left
