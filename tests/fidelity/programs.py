"""Random programs of all that trio and anyio offer besides I/O, and what can be seen of a run.

Several things happen at one moment on purpose. On trio their order is a matter of chance; see
`by_age` for how it is made the one of a workflow. (Programs with activities, signals and
sub-workflows are those of ``tests/engine/programs.py``.)
"""

# mypy: ignore-errors

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import anyio
import outcome
import trio
import trio.testing
from hypothesis import strategies as st

from tests.fidelity.runs import Trio, Workflows

MOST_STEPS = 40
LONGEST = 30  # seconds: who waits for what never comes is cancelled then


@dataclass
class Step:
    """One step of a program.

    Attributes:
        kind: The name of a function below.
        amount: Seconds, mostly; multiples of a half.
        which: Which of the primitives, scopes or variants.
        parts: The steps in it.
        number: Its name in the trace.
    """

    kind: str
    amount: float = 0
    which: int = 0
    parts: list[Step] = field(default_factory=list)
    number: int = field(default=0, compare=False)

    def __repr__(self) -> str:
        return f"Step({self.kind!r}, {self.amount!r}, {self.which!r}, {self.parts!r})"


def numbered(program: Step) -> Step:
    """Number all steps, and return the program."""
    left = [program]
    for number in range(1000):
        if not left:
            break
        step = left.pop()
        step.number = number
        left.extend(reversed(step.parts))
    return program


# --- running one --------------------------------------------------------------------------


class Machine:
    """Runs a program once, and keeps its trace: when what ended in which task, and how."""

    def __init__(self, program: Step) -> None:
        self.program = program
        self.trace: list[tuple[float, str, int, str]] = []

    async def main(self) -> None:
        self.events = [trio.Event(), anyio.Event()]
        self.locks = [trio.Lock(), trio.StrictFIFOLock(), anyio.Lock()]
        self.conditions = [trio.Condition(), anyio.Condition()]
        self.semaphores = [trio.Semaphore(1, max_value=2), anyio.Semaphore(2)]
        self.limiters = [trio.CapacityLimiter(1), anyio.CapacityLimiter(2)]
        self.lot = trio.lowlevel.ParkingLot()
        self.channels = [
            *(trio.open_memory_channel(size) for size in (0, 1, math.inf)),
            anyio.create_memory_object_stream(1),
        ]
        self.scopes: list[trio.CancelScope] = []
        self.flexible: list[trio.CancelScope] = []  # whose deadline ends a shield that is set later
        try:
            with trio.move_on_after(LONGEST) as scope:
                await self.run(self.program)
            self.note(-1, f"cancelled: {scope.cancelled_caught}")
        finally:
            for send_end, receive_end in self.channels:
                send_end.close()
                receive_end.close()

    async def run(self, step: Step) -> Any:
        try:
            result = await KINDS[step.kind](self, step)
        except BaseException as error:
            self.note(step.number, _shown(error))
            raise
        self.note(step.number, repr(result))
        return result

    async def run_all(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await self.run(step)

    def note(self, number: int, what: str) -> None:
        self.trace.append((trio.current_time(), trio.lowlevel.current_task().name, number, what))


def _shown(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        members = ", ".join(map(_shown, error.exceptions))
        return f"{type(error).__name__}({error.message!r}, [{members}])"
    text = re.sub(r"0x[0-9a-f]+", "0x", str(error))
    return f"{type(error).__name__}({text})"


def trace_of(program: Step, runs: Trio | Workflows) -> list[Any]:
    """Run a program by ``trio.run()`` or as a workflow; return all that could be seen of it."""
    machine = Machine(program)
    clock = trio.testing.MockClock(autojump_threshold=0)
    with runs.in_place():
        result = outcome.capture(trio.run, machine.main, clock=clock)
    if isinstance(result, outcome.Error) and not isinstance(result.error, Exception):
        result.unwrap()
    return [*machine.trace, runs.ends]


class _ByAge:
    """Replaces the random generator with which trio shuffles the tasks that it runs."""

    def shuffle(self, batch: list[Any]) -> None:
        batch.reverse()  # it takes them from the end

    def random(self) -> float:
        return 1.0


@contextmanager
def by_age():
    """Let trio run the tasks of a batch in the order of their age, as a workflow does."""
    name = "trio._core._run"
    with (
        mock.patch(f"{name}._ALLOW_DETERMINISTIC_SCHEDULING", new=True),
        mock.patch(f"{name}._r", _ByAge()),
    ):
        yield


# --- the kinds of steps -------------------------------------------------------------------

KINDS: dict[str, Callable[[Machine, Step], Any]] = {}
LEAVES: list[str] = []
BRANCHES: list[str] = []


def leaf(fn: Callable[[Machine, Step], Any]) -> Callable[[Machine, Step], Any]:
    """Add a kind of step that has no parts."""
    KINDS[fn.__name__] = fn
    LEAVES.append(fn.__name__)
    return fn


def branch(fn: Callable[[Machine, Step], Any]) -> Callable[[Machine, Step], Any]:
    """Add a kind of step that has parts."""
    KINDS[fn.__name__] = fn
    BRANCHES.append(fn.__name__)
    return fn


def one_of(things: Sequence[Any], step: Step) -> Any:
    return things[step.which % len(things)]


@leaf
async def sleep(machine, step):
    await trio.sleep(step.amount)


@leaf
async def sleep_until(machine, step):
    await trio.sleep_until(math.floor(trio.current_time()) + step.amount)


@leaf
async def checkpoint(machine, step):
    how = (
        trio.lowlevel.checkpoint,
        trio.lowlevel.checkpoint_if_cancelled,
        trio.lowlevel.cancel_shielded_checkpoint,
        anyio.lowlevel.checkpoint,
    )
    await one_of(how, step)()


@leaf
async def fail(machine, step):
    raise one_of((ValueError, KeyError, OSError), step)(step.number)


@leaf
async def cancel(machine, step):
    if machine.scopes:
        one_of(machine.scopes, step).cancel(reason=f"asked for by {step.number}")


@leaf
async def move_deadline(machine, step):
    if machine.flexible:
        one_of(machine.flexible, step).deadline = trio.current_time() + step.amount - 0.5


@leaf
async def turn_shield(machine, step):
    if machine.flexible:
        scope = one_of(machine.flexible, step)
        scope.shield = not scope.shield
        return scope.shield


@leaf
async def look(machine, step):
    return (
        trio.current_effective_deadline(),
        [event.is_set() for event in machine.events],
        [lock.statistics().tasks_waiting for lock in machine.locks],
        [semaphore.value for semaphore in machine.semaphores],
        [limiter.statistics().borrowed_tokens for limiter in machine.limiters],
        len(machine.lot),
        [repr(send.statistics()) for send, _ in machine.channels],
        [(scope.cancel_called, scope.cancelled_caught) for scope in machine.scopes],
    )


@leaf
async def wait_event(machine, step):
    await one_of(machine.events, step).wait()


@leaf
async def set_event(machine, step):
    one_of(machine.events, step).set()


@leaf
async def wait_condition(machine, step):
    condition = one_of(machine.conditions, step)
    async with condition:
        await condition.wait()


@leaf
async def notify(machine, step):
    condition = one_of(machine.conditions, step)
    async with condition:
        if step.amount > 1:
            condition.notify_all()
        else:
            condition.notify()


@leaf
async def release(machine, step):
    machine.semaphores[0].release()


@leaf
async def set_tokens(machine, step):
    one_of(machine.limiters, step).total_tokens = 1 + int(step.amount)


@leaf
async def park(machine, step):
    await machine.lot.park()


@leaf
async def unpark(machine, step):
    return len(machine.lot.unpark(count=1 + int(step.amount)))


@leaf
async def send(machine, step):
    await one_of(machine.channels, step)[0].send(step.number)


@leaf
async def receive(machine, step):
    return await one_of(machine.channels, step)[1].receive()


@leaf
async def send_nowait(machine, step):
    with contextlib.suppress(trio.WouldBlock, anyio.WouldBlock):
        one_of(machine.channels, step)[0].send_nowait(step.number)


@leaf
async def receive_nowait(machine, step):
    try:
        return one_of(machine.channels, step)[1].receive_nowait()
    except (trio.WouldBlock, anyio.WouldBlock):
        return "nothing there"


@leaf
async def close(machine, step):
    if step.amount > 2:  # not often: little goes on with a closed channel
        one_of(one_of(machine.channels, step), step).close()


@leaf
async def receive_several(machine, step):
    found = []
    async with one_of(machine.channels[:3], step)[1].clone() as end:
        async for item in end:
            found.append(item)
            if len(found) > step.amount:
                break
    return found


@branch
async def sequence(machine, step):
    await machine.run_all(step.parts)


@branch
async def nursery(machine, step):
    async with trio.open_nursery() as tasks:
        machine.scopes.append(tasks.cancel_scope)
        for part in step.parts[1:]:
            tasks.start_soon(machine.run, part, name=f"task {part.number}")
        await machine.run(step.parts[0])
    return tasks.cancel_scope.cancelled_caught


@branch
async def task_group(machine, step):
    async with anyio.create_task_group() as group:
        for part in step.parts:
            group.start_soon(machine.run, part, name=f"task {part.number}")
        if step.which % 3 == 0:
            await trio.sleep(step.amount)
            group.cancel_scope.cancel(f"by {step.number}")


@branch
async def gather(machine, step):
    return await anyio.gather(*(machine.run(part) for part in step.parts))


@branch
async def start(machine, step):
    async def serve(task_status):
        await machine.run(step.parts[0])
        task_status.started(step.number)
        await machine.run_all(step.parts[1:])

    async with trio.open_nursery() as tasks:
        machine.scopes.append(tasks.cancel_scope)
        started = await tasks.start(serve, name=f"task {step.number}")
        machine.note(step.number, f"started {started}")
        await trio.sleep(step.amount)


@branch
async def move_on(machine, step):
    how = (
        lambda: trio.move_on_after(step.amount),
        lambda: trio.move_on_at(trio.current_time() + step.amount),
        lambda: trio.CancelScope(relative_deadline=step.amount),
        lambda: anyio.move_on_after(step.amount),
    )
    with one_of(how, step)() as scope:
        machine.scopes.append(scope)
        if isinstance(scope, trio.CancelScope):
            machine.flexible.append(scope)
        await machine.run_all(step.parts)
    return scope.cancelled_caught, scope.cancel_called


@branch
async def made_before(machine, step):
    scope = trio.CancelScope(relative_deadline=step.amount)
    machine.flexible.append(scope)
    await machine.run(step.parts[0])
    with scope:
        await machine.run_all(step.parts[1:])
    return scope.is_relative, scope.deadline, scope.cancelled_caught


@branch
async def fail_after(machine, step):
    how = (
        lambda: trio.fail_after(step.amount),
        lambda: trio.fail_at(trio.current_time() + step.amount),
        lambda: anyio.fail_after(step.amount),
    )
    with one_of(how, step)() as scope:
        machine.scopes.append(scope)
        await machine.run_all(step.parts)


@branch
async def shielded(machine, step):
    with trio.move_on_after(1 + step.amount, shield=True) as scope:
        machine.scopes.append(scope)
        await machine.run_all(step.parts)
    return scope.cancelled_caught


@branch
async def catch(machine, step):
    try:
        await machine.run_all(step.parts)
    except Exception as error:
        return f"caught {_shown(error)}"


@branch
async def catch_some(machine, step):
    found = []
    try:
        await machine.run_all(step.parts)
    except* (ValueError, trio.TooSlowError) as group:
        found.append(_shown(group))
    return found


@branch
async def see_cancel(machine, step):
    try:
        await machine.run_all(step.parts)
    except trio.Cancelled:
        with trio.CancelScope(deadline=trio.current_time() + step.amount, shield=True):
            await trio.sleep(0.5)
        raise


@branch
async def clean_up(machine, step):
    try:
        await machine.run(step.parts[0])
    finally:
        with trio.move_on_after(step.amount, shield=step.which % 2 == 0):
            await machine.run_all(step.parts[1:])


@branch
async def replace_error(machine, step):
    try:
        await machine.run_all(step.parts)
    except Exception as error:
        raise RuntimeError(step.number) from (error if step.which % 2 else None)


@branch
async def locked(machine, step):
    async with one_of(machine.locks, step):
        await machine.run_all(step.parts)


@branch
async def in_semaphore(machine, step):
    async with one_of(machine.semaphores, step):
        await machine.run_all(step.parts)


@branch
async def limited(machine, step):
    async with one_of(machine.limiters, step):
        await machine.run_all(step.parts)


# --- making one ---------------------------------------------------------------------------

AMOUNTS = [0.5 * halves for halves in range(7)]
OFTEN = [*["sleep"] * 6, *["nursery"] * 5, *["catch"] * 4, *["move_on"] * 3, "sequence", "start"]


def grow(choose: Callable[[Sequence[Any]], Any]) -> Step:
    """Make a program; ``choose`` picks one of what it is given."""
    left = choose(range(3, MOST_STEPS))

    def step(depth: int) -> Step:
        nonlocal left
        left -= 1
        ends = depth > 7 or left <= 0
        kinds = LEAVES if ends or choose(range(3 + depth)) > 2 else [*OFTEN, *BRANCHES]
        made = Step(choose(kinds), choose(AMOUNTS), choose(range(12)))
        if made.kind == "fail" and choose(range(3)):
            made.kind = "sleep"
        if made.kind in BRANCHES:
            made.parts.append(step(depth + 1))
            while left > 0 and len(made.parts) < 4 and choose(range(3)):
                made.parts.append(step(depth + 1))
        return made

    def task() -> Step:
        return Step("catch", 0, 0, [step(2) for _ in range(choose(range(1, 5)))])

    return numbered(Step("nursery", 0, 0, [task() for _ in range(choose(range(1, 5)))]))


@st.composite
def programs(draw: st.DrawFn) -> Step:
    """Programs that shrink."""
    return grow(lambda options: draw(st.sampled_from(options)))
