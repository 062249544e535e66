"""Runs of an event loop that a test makes, made by workflows instead.

A test calls ``trio.run()`` once or several times, and looks at what came of it. `Trio.run` and
`Workflows.run` are put into the place of that function. An execution cannot be replayed within the
test that made it, for the functions that it runs also change what the test has around them (most
often a list, to which a second run would append once more). So a test is evicted as a whole:
`Again` leaves it, it is called from its beginning, and `Workflows.run` replays what has a history.
"""

# mypy: ignore-errors

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import msgspec
import outcome
import trio
import trio.testing

from trioflow._codec.values import JsonCodec
from trioflow._engine import guard
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution, Identity
from trioflow._engine.loop.runner import Runner
from trioflow._model import events as ev
from trioflow._model.activities import Activity
from trioflow._model.rules import CURRENT_RULES
from trioflow._model.turns import Outcome, Turn, decode_turn, encode_turn
from trioflow._model.workflows import Workflow

__all__ = ["Again", "Stuck", "Trio", "Workflows", "tree_of"]

START = 1_000_000.0
CODEC = JsonCodec()
NOTHING = msgspec.Raw(b"null")
MOST_TURNS = 2000
_trio_run = trio.run


class Again(BaseException):
    """Leaves a test, most often because its execution was evicted and it is to be called again."""


class Stuck(Exception):
    """Raised when every task waits, and nothing will wake one."""


def tree_of(result: outcome.Outcome[Any]) -> Any:
    """Return how a run ended, as what can be compared: without addresses, groups in one order."""
    if isinstance(result, outcome.Error):
        return _error(result.error, ())
    value = result.value
    return "returned", repr(value) if isinstance(value, PLAIN) else type(value).__qualname__


PLAIN = (type(None), bool, str, bytes)  # numbers are times and identities


def _error(error: BaseException | None, seen: tuple[int, ...]) -> Any:
    if error is None or id(error) in seen:
        return None
    seen = (*seen, id(error))
    members = getattr(error, "exceptions", ()) if isinstance(error, BaseExceptionGroup) else ()
    return (
        type(error).__qualname__,
        _plain(error.message if members else str(error)),
        sorted((_error(each, seen) for each in members), key=repr),
        _error(error.__cause__, seen),
        _error(error.__context__, seen),
    )


def _plain(text: str) -> str:
    return re.sub(r"0x[0-9a-fA-F]+", "0x", text)


# --- on trio ------------------------------------------------------------------------------


class Trio:
    """Runs a test as it is, and remembers how its runs ended."""

    unsuited = ""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def run(self, async_fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        result = outcome.capture(_trio_run, async_fn, *args, **options)
        self.ends.append(tree_of(result))
        return result.unwrap()

    @contextmanager
    def in_place(self):
        """Put `run` into the place of ``trio.run``."""
        with _replaced(self.run):
            yield


@contextmanager
def _replaced(run: Callable[..., Any]):
    with ExitStack() as stack:
        for module in ("trio", "trio._core", "trio._core._run"):
            stack.enter_context(mock.patch(f"{module}.run", run))
        yield


# --- as workflows -------------------------------------------------------------------------


async def _all_blocked(cushion: float) -> None:
    """Nobody runs it: it is answered when all tasks wait."""


all_blocked = Activity(_all_blocked, name="all blocked", on_cancel="abandon")


async def _wait_all_tasks_blocked(_: Runner, cushion: float = 0.0) -> None:
    """What `trio.testing.wait_all_tasks_blocked` is in these workflows."""
    await all_blocked(float(cushion))


def _nothing(_: object) -> bool:
    return True


class _Execution(Execution):
    """Keeps how the main task ended; a `Failure` would not keep all of an exception."""

    def _outcome(self, recorded: Turn | None, *, never_started: bool) -> Outcome:
        end = self.loop.outcome
        self.end = outcome.Value(end.value) if isinstance(end, outcome.Value) else end
        return super()._outcome(recorded, never_started=never_started)


class Workflows:
    """Makes the runs of one test by executions of a workflow, and keeps their histories.

    Args:
        evict: Whether the execution is evicted, and the test left, after each turn.

    Attributes:
        histories: Of each run, in their order.
        ends: How each run ended.
        left: Whether the test was left, and has to be called again.
        unsuited: Why the test was left, and cannot be made as a workflow; else empty.
    """

    def __init__(self, *, evict: bool = False) -> None:
        self.evict = evict
        self.histories: list[list[bytes]] = []
        self.ends: list[Any] = []
        self.left = False
        self.unsuited = ""
        self._made = 0

    @contextmanager
    def in_place(self):
        """Put `run` into the place of ``trio.run``, for one call of the test."""
        self._made = 0
        self.left = False
        self.ends = []
        with (
            _replaced(self.run),
            mock.patch.object(Runner, "wait_all_tasks_blocked", _wait_all_tasks_blocked),
            # The loop is compared, and not what the guard notices of the tests' calls.
            mock.patch("trioflow._engine.guard.monitor.follow", _nothing),
            mock.patch("trioflow._engine.guard.monitor.watch", _nothing),
        ):
            yield

    def run(
        self,
        async_fn: Callable[..., Any],
        *args: Any,
        clock: Any = None,
        instruments: Any = (),
        restrict_keyboard_interrupt_to_checkpoints: bool = False,
        strict_exception_groups: bool = True,
    ) -> Any:
        if instruments or restrict_keyboard_interrupt_to_checkpoints or not strict_exception_groups:
            self.unsuited = "a workflow has no instruments, and no such options of trio.run()"
        elif clock is not None and not isinstance(clock, trio.testing.MockClock):
            self.unsuited = "a workflow has no clock but its own"
        if self.unsuited:
            raise Again

        if self.left:  # the test has caught it
            raise Again
        if trio.lowlevel.in_trio_run():
            result = outcome.capture(_trio_run, async_fn, *args)  # an error
            self.ends.append(tree_of(result))
            return result.unwrap()

        async def test() -> Any:
            return await async_fn(*args)

        number, self._made = self._made, self._made + 1
        if number == len(self.histories):
            self.histories.append([])
        workflow = Workflow(test, name=_name_of(async_fn))
        result = self._execute(workflow, self.histories[number], clock)
        self.ends.append(tree_of(result))
        return result.unwrap()

    def _execute(
        self, workflow: Workflow[..., Any], history: list[bytes], clock: Any
    ) -> outcome.Outcome[Any]:
        execution = _Execution(workflow, Identity("test", 1, "default"), CODEC, Caller)
        turn: Turn | None = None
        try:
            for data in history:
                turn = decode_turn(data)
                _set(clock, turn.now)
                execution.advance(turn.events, turn.now, turn)
            while turn is None or turn.outcome is None:
                events, now = self._next(execution, workflow, clock, first=turn is None)
                _set(clock, now)
                turn = execution.advance(events, now)
                history.append(encode_turn(turn))
                if self.evict:
                    self.left = True
                    raise Again
                if len(history) > MOST_TURNS:
                    raise Stuck("it makes turns without end")
            return execution.end
        finally:
            assert execution.evict(), "the execution survived its eviction"

    def _next(
        self, execution: Execution, workflow: Workflow[..., Any], clock: Any, *, first: bool
    ) -> tuple[list[ev.Event], float]:
        """Return what happens next when all tasks wait, and when."""
        if first:
            data = workflow.signature.encode(CODEC, (), {}, workflow.name)
            started = ev.Started(workflow.name, msgspec.Raw(data), rules=CURRENT_RULES)
            return [started], START if clock is None else clock.current_time()
        now, wake_at = execution.now, execution.wake_at
        if clock is not None:
            now = max(now, clock.current_time())  # the test may have set it
        cushions = {
            command.id: msgspec.json.decode(bytes(command.input))["cushion"]
            for command in execution.waits_for
        }
        if cushions:
            least = min(cushions.values())
            if clock is not None or wake_at is None or now + least < wake_at:
                ids = sorted(id for id, cushion in cushions.items() if cushion == least)
                return [ev.ActivityCompleted(id=id, result=NOTHING) for id in ids], now
        if wake_at is None:
            raise Stuck("every task waits, and there is no deadline")
        return [ev.Woken()], max(now, wake_at)


def _name_of(fn: Any) -> str:
    """Return the name that trio gives to a task with that function."""
    fn = fn.func if isinstance(fn, functools.partial) else fn
    try:
        return f"{fn.__module__}.{fn.__qualname__}"
    except AttributeError:
        return repr(fn)


def _set(clock: Any, now: float) -> None:
    """Let the clock that a test was given say the workflow's time."""
    if clock is not None:
        clock._virtual_base = now


guard.install()  # as a worker does
