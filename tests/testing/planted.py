"""Workflows with a mistake each, which `explore` has to find."""

from __future__ import annotations

import itertools
import weakref

import anyio
import trio

from trioflow import Registry, Signal, deprecate_patch, patched, uuid4

flows = Registry()
go = Signal("go", int)
stop = Signal("stop", int)
counter = itertools.count()
LIMITER = trio.CapacityLimiter(1)


@flows.activity
async def charge(n: int) -> str:
    raise AssertionError


@flows.activity
async def refund(n: int) -> None:
    raise AssertionError


@flows.activity
async def ship(n: int) -> str:
    raise AssertionError


@flows.activity
async def fetch(name: str) -> int:
    raise AssertionError


@flows.workflow
async def iterates_a_set() -> None:
    for name in {"alpha", "beta", "gamma", "delta", "epsilon", "zeta"}:  # noqa: PLC0208 - planted
        await fetch(name)


@flows.workflow
async def counts_globally() -> None:
    if next(counter) % 2:
        await charge(1)
    else:
        await ship(1)


@flows.workflow
async def forgets_an_await() -> None:
    ship(1)
    await trio.sleep(1)


class Thing:
    pass


@flows.workflow
async def orders_by_address() -> None:
    things = [Thing() for _ in range(3)]
    keep = [bytearray(n % 7 * 16) for n in range(100)]
    numbers = {id(t): n for n, t in enumerate(things)}
    for address in sorted(numbers, key=lambda a: a // 16 % 5):
        if numbers[address] % 2:
            await charge(numbers[address])
        else:
            await ship(numbers[address])
    del keep


@flows.workflow
async def dict_of_a_set() -> None:
    for key in dict.fromkeys({"alpha", "beta", "gamma", "delta", "epsilon", "zeta"}):
        await (charge(1) if key < "e" else ship(1))


@flows.workflow
async def cleans_up_without_a_shield() -> None:
    await charge(1)
    try:
        await trio.sleep(10)
        await ship(1)
    except BaseException:
        await refund(1)
        raise


@flows.workflow
async def loses_a_signal() -> int:
    with trio.move_on_after(10):
        value = await go.receive()
        await ship(value)
        return value
    return -1


@flows.workflow
async def loses_a_signal_in_a_race() -> list[int]:
    """What wins cancels what has received a signal, and has not dealt with it yet."""
    done: list[int] = []

    async def deal_with_it() -> None:
        value = await go.receive()
        await ship(value)
        done.append(value)
        nursery.cancel_scope.cancel()

    async def give_up() -> None:
        await charge(1)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deal_with_it)
        nursery.start_soon(give_up)
    with trio.move_on_after(60):
        while not done:
            done.append(await go.receive())
    return done


@flows.workflow
async def checks_then_acts() -> int:
    left = 1
    taken = 0

    async def take() -> None:
        nonlocal left, taken
        if left > 0:
            await charge(1)
            left -= 1
            taken += 1

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        group.start_soon(take)
    return taken


@flows.workflow
async def charges() -> str:
    return await charge(1)


async def _v1() -> None:
    await charge(1)
    await ship(1)


async def _v2() -> None:
    await ship(1)
    await charge(1)


async def _v2_patched() -> None:
    if patched("ship-first"):
        await ship(1)
        await charge(1)
    else:
        await charge(1)
        await ship(1)


async def _v3() -> None:
    deprecate_patch("ship-first")
    await ship(1)
    await charge(1)


async def _patched_twice() -> None:
    if patched("ship-first"):
        await ship(1)
    await charge(1)
    if not patched("ship-first"):
        await ship(1)


before = flows.workflow(name="changes")(_v1)
after = Registry().workflow(name="changes")(_v2)
after_with_a_patch = Registry().workflow(name="changes")(_v2_patched)
after_the_patch = Registry().workflow(name="changes")(_v3)
after_patched_twice = Registry().workflow(name="changes")(_patched_twice)


@flows.workflow(name="of a module")
async def in_a_module() -> None:
    await charge(1)


_new = Registry()


@_new.workflow(name="of a module")
async def in_a_module_with_a_patch() -> None:
    if patched("ship-first"):
        await ship(1)
    await charge(1)


@flows.workflow
async def compensates() -> None:
    await charge(1)
    try:
        await ship(1)
    except Exception:
        with trio.CancelScope(shield=True):
            await refund(1)
        raise


@flows.workflow
async def shares_a_limiter() -> None:
    async with LIMITER:
        await charge(1)


class Cycle:
    def __init__(self) -> None:
        self.me = self


@flows.workflow
async def asks_the_collector() -> None:
    ref = weakref.ref(Cycle())
    await charge(1)
    if ref() is None:
        await ship(1)
    else:
        await refund(1)


@flows.workflow
async def is_right() -> str:
    try:
        await charge(1)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(ship, 1)
                group.start_soon(trio.sleep, 5)
        except BaseException:
            with trio.CancelScope(shield=True):
                await refund(1)
            raise
    finally:
        uuid4()
    return "done"
