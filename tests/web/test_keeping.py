"""What is read once for all who ask."""

# mypy: ignore-errors

from __future__ import annotations

import anyio
import pytest
import trio
import trio.testing

from trioflow.web._keeping import Kept


async def test_reading_takes_a_tenth_of_the_time_at_most(clock):
    read = []

    async def reading():
        await anyio.sleep(1)
        read.append(trio.current_time())
        return len(read)

    kept = Kept(reading)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(kept.get)
    assert len(read) == 1
    await trio.sleep(8.9)
    assert await kept.get() == 1
    await trio.sleep(0.2)
    assert await kept.get() == 2


async def test_an_error_is_not_kept(clock):
    answers = [ValueError("no"), 7]

    async def reading():
        await anyio.sleep(1)
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    kept = Kept(reading)
    with pytest.raises(ValueError, match="no"):
        await kept.get()
    assert await kept.get() == 7


async def test_an_error_is_that_of_all_who_have_waited(clock):
    read, failed = [], []

    async def reading():
        read.append(trio.current_time())
        await anyio.sleep(1)
        raise ValueError(f"no {len(read)}")

    kept = Kept(reading)

    async def ask():
        with pytest.raises(ValueError, match="no") as caught:
            await kept.get()
        failed.append((str(caught.value), trio.current_time()))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert failed == [("no 1", 1)] * 5
    await ask()  # who asks later has it read again
    assert failed[-1] == ("no 2", 2)


async def test_who_leaves_does_not_take_it_from_others(clock):
    async def reading():
        await anyio.sleep(1)
        return "read"

    kept, got = Kept(reading), []
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def leaves():
            with trio.move_on_after(0.5):
                await kept.get()

        await trio.testing.wait_all_tasks_blocked()
        got.append(await kept.get())
    assert got == ["read"]
