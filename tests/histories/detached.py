"""Workflows of golden histories: detached instances, cancels of any, abandoned ones. NEVER EDIT.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows, go
from trioflow import InstanceAlreadyExists, InstanceNotFound, cancel_instance, start_detached


@flows.workflow
async def is_detached(n: int) -> int:
    return n + await go.receive()


@flows.workflow
async def detaches() -> list[str]:
    done = [await start_detached(is_detached, 1)]
    named = is_detached.options(id="named", priority=2, attributes={"a": 1}, max_events=500)
    done.append(await start_detached(named, 2))
    try:
        await start_detached(named, 3)
    except InstanceAlreadyExists as exc:
        done.append(str(exc))
    done.append(await start_detached(named.options(if_exists="return"), 4))
    done.append(await start_detached(named.options(if_exists="replace", delay=50), 5))
    await cancel_instance("named", "enough")
    try:
        await cancel_instance("nobody")
    except InstanceNotFound as exc:
        done.append(str(exc))
    with trio.move_on_after(10):
        await is_detached.options(id="abandoned", on_cancel="abandon")(6)
    return done
