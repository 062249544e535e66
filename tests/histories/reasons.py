"""Workflows of golden histories: reasons of cancelled scopes. NEVER EDIT A LINE HERE.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

import trio

from tests.histories.programs import adding, flows, go, slow, waiting


@flows.workflow
async def gives_reasons() -> list[str]:
    said: list[str] = []
    for reason in ("sold out", None):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow, "cancelled", 100)
                nursery.start_soon(waiting.options(id=f"child of {reason}"))
                await trio.sleep(5)
                scope.cancel(reason)
        said.append(f"{reason}: {scope.cancelled_caught}")
    with trio.move_on_after(5):
        await slow("too late", 100)
    said.append(str(await adding(1)))
    await go.receive()
    return said
