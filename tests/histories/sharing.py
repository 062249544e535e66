"""The workflows of the golden histories of what instances share. NEVER EDIT A LINE THAT IS HERE.

As with `programs.py`; `record_sharing.py` has recorded their histories.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows, slow
from trioflow import SharedEvent, SharedLock, SharedSemaphore

account = SharedLock("account-7")
places = SharedSemaphore("gpu", 2)
opened = SharedEvent("market open")


@flows.workflow
async def shares(name: str, patience: float) -> list[str]:
    """Waits for a lock, perhaps not long enough, then for several things in tasks."""
    heard = []
    with trio.move_on_after(patience):
        async with account:
            heard.append(await slow(f"{name} in the account", 5))
    async with trio.open_nursery() as nursery:

        async def compute(number: int) -> None:
            async with places:
                heard.append(await slow(f"{name} {number}", number))

        for number in (1, 2, 3):
            nursery.start_soon(compute, number)
        nursery.start_soon(opened.wait)
    return heard


@flows.workflow
async def opens(after: float) -> str:
    """Sets an event, clears it, and sets it again."""
    await trio.sleep(after)
    await opened.set()
    await opened.clear()
    await trio.sleep(after)
    await opened.set()
    return "open"
