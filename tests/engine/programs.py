"""Random programs: trees of nurseries, sleeps, scopes, activities and sub-workflows.

A program is run either by the engine (`Durable`) or directly on trio (`Direct`), where activities
are plain coroutines. Each node has a number of its own, which is also a fraction of its seconds, so
that no two things happen at one moment unless one is the consequence of the other.
"""

# mypy: ignore-errors

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import outcome
import trio
import trio.testing
from hypothesis import strategies as st

from tests.engine.driver import START
from trioflow import Signal, is_replaying, now, random, set_status, side_effect, uuid4
from trioflow._model.activities import Activity
from trioflow._model.workflows import Workflow

MOST_NODES = 26
signal = Signal("item", int)


class Boom(Exception):
    """An activity's failure."""


@dataclass
class Node:
    """One step of a program; `seconds` is set by `numbered`."""

    kind: str
    whole: int = 0
    parts: list[Node] = field(default_factory=list)
    number: int = 0
    seconds: float = 0.0

    def __iter__(self) -> Iterator[Node]:
        yield self
        for part in self.parts:
            yield from part

    def __repr__(self) -> str:
        inside = "".join(f", {part!r}" for part in self.parts)
        return f"{self.kind}({self.whole}{inside})"


def copied(node: Node) -> Node:
    return Node(node.kind, node.whole, [copied(part) for part in node.parts])


def numbered(tree: Node) -> Node:
    tree = copied(tree)
    for number, node in enumerate(tree):
        node.number = number
        node.seconds = node.whole + moment(number)
    return tree


def moment(number: int) -> float:
    """A fraction of a second whose sums are all different, and exact beside `START`."""
    return math.ldexp(1.0, -(number + 1))


@st.composite
def _programs(draw: st.DrawFn, kinds: tuple[str, ...], leaves: tuple[str, ...]) -> Node:
    budget = draw(st.integers(3, MOST_NODES))
    chosen = st.sampled_from([*kinds, *leaves])
    seconds = st.integers(0, 6)

    def grow(kind: str, depth: int) -> Node:
        nonlocal budget
        budget -= 1
        node = Node(kind, draw(seconds))
        if kind in leaves:
            return node
        for _ in range(draw(st.integers(1, 4))):
            deep = depth > 2 or budget < 5  # a Failure keeps five groups within each other
            node.parts.append(grow(draw(st.sampled_from(leaves) if deep else chosen), depth + 1))
            if budget < 5:
                break
        return node

    return numbered(grow(draw(st.sampled_from(kinds)), 0))


ORDERLY = ("sequence", "nursery", "gather", "completed", "child", "finally", "locked")
KINDS = (*ORDERLY, "nursery", "move_on", "fail_after", "shielded", "catch", "cancelling")


QUIET_LEAVES = ("activity", "activity", "sleep", "draw")
LEAVES = (*QUIET_LEAVES, "fails", "abandons", "receive")


def programs() -> st.SearchStrategy[Node]:
    """Programs in which anything may fail, time out or be cancelled."""
    return _programs(KINDS, LEAVES)


def orderly_programs() -> st.SearchStrategy[Node]:
    """Programs whose result does not depend on when anything happens."""
    return _programs(ORDERLY, QUIET_LEAVES)


def kind_of(error: BaseException) -> str:
    """The names of all that an exception holds, the same however it was wrapped."""
    if isinstance(error, BaseExceptionGroup):
        return "+".join(sorted({kind_of(inner) for inner in error.exceptions}))
    return type(error).__name__


async def interpret(node: Node, api: Any) -> Any:
    """Run a program; what each node came to is noted with its time."""
    try:
        result = await _KINDS[node.kind](node, api)
    except BaseException as error:
        api.note(node.number, kind_of(error))
        raise
    api.note(node.number, "done")
    return result


async def _sleep(node: Node, api: Any) -> Any:
    await trio.sleep(node.seconds)
    return node.number


async def _draw(node: Node, api: Any) -> Any:
    api.draw()
    await trio.lowlevel.checkpoint()
    return "drawn"


async def _receive(node: Node, api: Any) -> Any:
    await trio.sleep(moment(node.number))  # trio lets those who ask at one moment race
    with trio.move_on_after(node.whole):
        return await api.receive()
    return "nothing"


async def _activity(node: Node, api: Any) -> Any:
    return await api.activity(node)


_fails = _activity
_abandons = _activity


async def _sequence(node: Node, api: Any) -> Any:
    return [await interpret(part, api) for part in node.parts]


async def _nursery(node: Node, api: Any) -> Any:
    results: dict[int, Any] = {}

    async def keep(index: int, part: Node) -> None:
        results[index] = await interpret(part, api)

    async with trio.open_nursery() as nursery:
        for index, part in enumerate(node.parts):
            nursery.start_soon(keep, index, part)
    return [results[index] for index in range(len(node.parts))]


async def _gather(node: Node, api: Any) -> Any:
    return list(await anyio.gather(*(interpret(part, api) for part in node.parts)))


async def _completed(node: Node, api: Any) -> Any:
    found = []
    coroutines = [interpret(part, api) for part in node.parts]
    async with anyio.as_completed(*coroutines) as results:
        async for handle in results:
            found.append(await handle)  # noqa: PERF401  # `await` is what is tried
    return sorted(found, key=repr)


async def _locked(node: Node, api: Any) -> Any:
    lock, results = trio.Lock(), {}

    async def one(part: Node, index: int) -> None:
        await trio.sleep(index + node.seconds)  # as in _receive
        async with lock:
            results[part.number] = await interpret(part, api)

    async with trio.open_nursery() as nursery:
        for index, part in enumerate(node.parts):
            nursery.start_soon(one, part, index)
    return [results[part.number] for part in node.parts]


async def _child(node: Node, api: Any) -> Any:
    return await api.child(node)


async def _finally(node: Node, api: Any) -> Any:
    try:
        result = await interpret(node.parts[0], api)
    finally:
        for part in node.parts[1:]:
            await interpret(part, api)
    return result


async def _shielded(node: Node, api: Any) -> Any:
    try:
        result = await interpret(node.parts[0], api)
    finally:
        with trio.move_on_after(node.seconds, shield=True):
            for part in node.parts[1:]:
                await interpret(part, api)
    return result


async def _move_on(node: Node, api: Any) -> Any:
    with trio.move_on_after(node.seconds):
        return await _sequence(node, api)
    return "moved on"


async def _fail_after(node: Node, api: Any) -> Any:
    with trio.fail_after(node.seconds):
        return await _nursery(node, api)


async def _catch(node: Node, api: Any) -> Any:
    try:
        return await _nursery(node, api)
    except Exception as error:  # a program's own errors
        return kind_of(error)


async def _cancelling(node: Node, api: Any) -> Any:
    results: list[Any] = []

    async def keep(part: Node) -> None:
        results.append(await interpret(part, api))

    async with trio.open_nursery() as nursery:
        for part in node.parts:
            nursery.start_soon(keep, part)
        await trio.sleep(node.seconds)
        nursery.cancel_scope.cancel()
    return sorted(results, key=repr)


_KINDS: dict[str, Callable[[Node, Any], Any]] = {
    name.removeprefix("_"): value
    for name, value in list(globals().items())
    if name.startswith("_") and name.removeprefix("_") in (*KINDS, *LEAVES)
}


# --- by the engine ------------------------------------------------------------------------


async def _perform(number: int, seconds: float, fails: bool) -> int:
    raise AssertionError("the engine never runs an activity")


perform = Activity(_perform, name="perform")


class Durable:
    """Runs a program as a workflow. Notes are taken once, not again on replay."""

    def __init__(self, tree: Node) -> None:
        self.notes: list[tuple[int, str, float]] = []
        self.workflows = {"program": self._workflow("program", interpret, tree)}
        for node in tree:
            if node.kind == "child":
                name = f"child{node.number}"
                self.workflows[name] = self._workflow(name, _sequence, node)

    def _workflow(self, name: str, how: Callable[..., Any], node: Node) -> Workflow[..., Any]:
        async def run() -> Any:
            return await how(node, self)

        return Workflow(run, name=name)

    def note(self, number: int, what: str) -> None:
        if not is_replaying():
            self.notes.append((number, what, now() - START))

    def draw(self) -> None:
        set_status([str(uuid4()), random().random()])
        assert side_effect(lambda: 7, int) == 7

    async def receive(self) -> int:
        return await signal.receive()

    async def activity(self, node: Node) -> Any:
        how = perform.options(on_cancel="abandon") if node.kind == "abandons" else perform
        return await how(node.number, node.seconds, node.kind == "fails")

    async def child(self, node: Node) -> Any:
        return await self.workflows[f"child{node.number}"]()


# --- directly -----------------------------------------------------------------------------


class Direct:
    """Runs a program on trio itself, under a clock that jumps."""

    def __init__(self, world: trio.Nursery, notes: list[Any]) -> None:
        self.world = world
        self.notes = notes
        self.send, self._receive = trio.open_memory_channel(math.inf)

    def note(self, number: int, what: str) -> None:
        self.notes.append((number, what, trio.current_time()))

    def draw(self) -> None:
        pass

    async def receive(self) -> int:
        return await self._receive.receive()

    async def activity(self, node: Node) -> Any:
        await trio.sleep(node.seconds)
        if node.kind == "fails":
            raise Boom(node.number)
        return node.number

    async def child(self, node: Node) -> Any:
        """Run the rest in a task of the world, which is cancelled and awaited as an instance is."""
        await trio.lowlevel.checkpoint_if_cancelled()
        scope, waiting, raise_cancel = trio.CancelScope(), trio.lowlevel.current_task(), []

        async def run() -> None:
            with scope:
                result = await outcome.acapture(_sequence, node, Direct(self.world, self.notes))
                if isinstance(result, outcome.Error) and not isinstance(result.error, Exception):
                    raise result.error
            if scope.cancelled_caught:
                result = outcome.capture(raise_cancel[0])
            trio.lowlevel.reschedule(waiting, result)

        def abort(how: Callable[[], Any]) -> trio.lowlevel.Abort:
            raise_cancel.append(how)
            scope.cancel()
            return trio.lowlevel.Abort.FAILED

        self.world.start_soon(run)
        return await trio.lowlevel.wait_task_rescheduled(abort)


def run_directly(
    tree: Node, signals: list[float], cancel_at: float | None
) -> tuple[Any, list[tuple[int, str, float]], float]:
    """Return how a program ends on trio itself, its notes, and when it ended."""
    notes: list[tuple[int, str, float]] = []

    async def main() -> tuple[Any, float]:
        async with trio.open_nursery() as world:
            direct = Direct(world, notes)

            async def later(at: float, act: Callable[[], Any]) -> None:
                await trio.sleep_until(at)
                act()

            root = trio.CancelScope()
            for number, at in enumerate(signals):
                world.start_soon(later, at, lambda n=number: direct.send.send_nowait(n))
            if cancel_at is not None:
                world.start_soon(later, cancel_at, root.cancel)
            end: Any = None
            try:
                with root:
                    end = ("completed", await interpret(tree, direct))
            except Exception as error:  # the program's end
                end = ("failed", kind_of(error))
            ended = trio.current_time()
            world.cancel_scope.cancel()
        return end or ("cancelled",), ended

    clock = trio.testing.MockClock(autojump_threshold=0)
    end, ended = trio.run(main, clock=clock)
    return end, notes, ended
