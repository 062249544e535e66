"""Simulations of instances that share locks and events."""

# mypy: ignore-errors

from __future__ import annotations

import trio

from trioflow import Registry, SharedEvent, SharedLock, SharedSemaphore
from trioflow.testing import explore

flows = Registry()
inside = set()


@flows.activity
async def enter(name: str) -> None: ...


@flows.activity
async def leave(name: str) -> None: ...


@flows.workflow
async def several() -> list[str]:
    """Children that share a lock, and wait for an event that the parent sets."""
    names = []

    async def one(name: str) -> None:
        names.append(await child(name))

    async with trio.open_nursery() as nursery:
        for name in "ab":
            nursery.start_soon(one, name)
        await SharedEvent("go").set()
    return sorted(names)


@flows.workflow
async def child(name: str) -> str:
    await SharedEvent("go").wait()
    async with SharedSemaphore("room", 2), SharedLock("door"):
        await enter(name)
        await leave(name)
    return name


def note_entry(name):
    """Only one is inside; after an attempt that was lost it is the same one."""
    inside.add(name)
    assert len(inside) == 1


async def test_one_at_a_time_in_every_order():
    inside.clear()
    fakes = {enter: note_entry, leave: inside.discard}
    await explore(
        several,
        activities=fakes,
        registry=flows,
        cancels=False,
        failures=False,
        examples=30,
        seed=1,
        check=_ended_well,
    )


def _ended_well(run):
    assert run.result() == ["a", "b"]
    assert not inside
