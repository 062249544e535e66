"""Exceptions that suspend an instance instead of failing it."""

from __future__ import annotations

import pytest
import trio

from tests.worker.flow import in_memory, serving, until_status
from trioflow import DefinitionError, InstanceSuspended, Registry, Signal, TrioflowError

number = Signal("number", int)


class Mended:
    """Code that is mended while instances wait."""

    def __init__(self):
        self.broken = True
        self.calls = 0
        self.flows = Registry()

        @self.flows.activity
        async def step(n: int) -> int:
            self.calls += 1
            return n

        @self.flows.workflow(suspend_on=(KeyError, IndexError))
        async def careful(how: str) -> int:
            got = await step(1)
            got += await number.receive()
            if self.broken:
                await self.fail(how)
            return got + await step(10)

        self.careful = careful

    async def fail(self, how):
        if how == "key":
            raise KeyError("gone")
        if how == "group":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.fail, "key")
        if how == "mixed":
            raise ExceptionGroup("two", [KeyError("gone"), ValueError("bad")])
        raise ValueError("bad")


@pytest.mark.parametrize("how", ["key", "group"])
async def test_the_turn_is_made_again_when_the_code_is_mended(flow, how):
    code = Mended()
    async with flow.worker(code.flows) as worker:
        handle = await worker.client.start(code.careful, how)
        await handle.signal(number, 5)
        found = await handle.wait(status="suspended")
        assert found.suspension is not None
        assert found.suspension.kind == "raised"
        assert "Nothing of this turn was stored" in found.suspension.message
        with pytest.raises(InstanceSuspended, match="suspend_on"):
            await handle.result(wait_suspended=False)
        await handle.resume()
        await until_status(handle, "suspended")
        code.broken = False
        await handle.resume()
        assert await handle.result() == 16
        assert code.calls == 2


@pytest.mark.parametrize("how", ["other", "mixed"])
async def test_what_else_is_raised_fails_it(clock, how):
    code = Mended()
    async with serving(in_memory(clock), code.flows) as client:
        handle = await client.start(code.careful, how)
        await handle.signal(number, 5)
        with pytest.raises((ValueError, ExceptionGroup)):
            await handle.result()


async def test_a_forgotten_await_may_suspend_too(clock):
    flows = Registry()

    @flows.activity
    async def step() -> None:
        pass

    @flows.workflow(suspend_on=TrioflowError)
    async def forgets() -> None:
        step()
        await trio.sleep(1)

    async with serving(in_memory(clock), flows) as client:
        handle = await client.start(forgets)
        found = await handle.wait(status="suspended")
        assert found.suspension is not None
        assert "is not awaited" in found.suspension.message


def test_only_exceptions_can_be_named():
    for wrong in (5, (KeyError, "x"), trio.Cancelled):
        with pytest.raises(DefinitionError, match="classes of exceptions"):
            Registry().workflow(suspend_on=wrong)(trio.sleep_forever)
