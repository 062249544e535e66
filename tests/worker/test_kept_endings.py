"""A cancel, a deadline and a terminate hold, at whatever call of the store the worker dies."""

from __future__ import annotations

from collections import Counter

import anyio
import anyio.lowlevel
import pytest
import trio

from tests.worker.flow import Dying, ends_in, moves_on_when_told, until
from trioflow import (
    InstanceCancelled,
    InstanceTerminated,
    Registry,
    RetryPolicy,
    activity_info,
)
from trioflow._model.commands import CancelActivity
from trioflow.backends.records import TakenActivities, TakenInstances

flows = Registry()
begun = Counter()
tidied = Counter()


@flows.activity(retry=RetryPolicy(max_attempts=9))
async def hold() -> str:
    begun[activity_info().instance] += 1
    await anyio.sleep_forever()
    return "never"


@flows.activity
async def tidy() -> None:
    tidied[activity_info().instance] += 1


@flows.workflow
async def holding() -> str:
    try:
        async with moves_on_when_told():
            return await hold()
    finally:
        with trio.CancelScope(shield=True):
            await tidy()
    return "moved on"


_NOTHING = {
    "reclaim": [],
    "release_instances": [],
    "take_instances": TakenInstances([], None),
    "take_activities": TakenActivities([], None),
}


class Mortal(Dying):
    """Dies at the n-th call of the store after `arm`: before it is carried out, or after."""

    def __init__(self, backend, number, *, after):
        super().__init__(backend)
        self._left = number
        self._after = after
        self._armed = False

    def arm(self):
        self._armed = True

    def __getattr__(self, name):
        member = super().__getattr__(name)
        carried_out = getattr(self._backend, name)
        if member == carried_out or name == "heartbeat":
            return member

        async def call(*args, **kwargs):
            if self._armed and not self.dead:
                self._left -= 1
                if self._left < 0:
                    if self._after:
                        await carried_out(*args, **kwargs)
                    self.die()
            if self.dead and name in _NOTHING:  # so that the worker is soon done with ending
                await anyio.lowlevel.checkpoint()
                return _NOTHING[name]
            return await member(*args, **kwargs)

        return call


async def ended(handle):
    return (await handle.describe()).status != "running"


async def die_once(cached, client, how, number, *, after):
    """Have a worker die; return whether it did, once all is as it should be in the end."""
    id = f"{how} {number} {'after' if after else 'before'}"
    handle = await client.start(holding.options(id=id))
    mortal = Mortal(await cached.backend(), number, after=after)
    async with cached.worker(flows, backend=mortal):

        async def began():
            return begun[id]

        await until(began)
        mortal.arm()
        if how == "cancel":
            await handle.cancel("enough")
        elif how == "terminate":
            await handle.terminate("enough")
        else:
            await handle.signal(ends_in, 0.01)

        async def over():
            return mortal.dead or (await ended(handle) and how != "terminate")

        if how == "terminate":
            with anyio.move_on_after(0.1):
                await until(over)
        else:
            await until(over)
    died = mortal.dead
    await client.backend.reclaim(-1.0)
    attempts = begun[id]
    turns = [turn for execution in await handle.history() for turn in execution.turns]
    commands = [command for turn in turns for command in turn.commands]
    asked = how == "terminate" or any(isinstance(each, CancelActivity) for each in commands)
    async with cached.worker(flows):
        if how == "deadline":
            assert await handle.result() == "moved on"
        else:
            error = InstanceCancelled if how == "cancel" else InstanceTerminated
            with pytest.raises(error, match="enough"):
                await handle.result()
    assert begun[id] == attempts or not asked, f"{id}: it ran again"
    assert tidied[id] >= (how != "terminate")
    return died


@pytest.mark.parametrize("how", ["cancel", "deadline", "terminate"])
async def test_whatever_call_its_worker_dies_at(cached, how):
    begun.clear()
    tidied.clear()
    async with cached.client(flows) as client:
        for after in (False, True):
            number = 0
            while await die_once(cached, client, how, number, after=after):
                number += 1
                assert number < 40
            assert number >= (how != "terminate") * 3
