"""The workflows of the golden histories of promises. NEVER EDIT A LINE THAT IS HERE.

As with `programs.py`; `record_promises.py` has recorded their histories.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows, slow, word
from trioflow import Promise, continue_as_new


@flows.workflow
async def promised(again: bool) -> list[object]:
    """Two promises: one is kept, one is not; the next execution hears of one of the first."""
    paid, signed = Promise("paid", dict[str, int]), Promise("signed", str)
    await slow(paid.token, 1)
    await slow(signed.token, 1)
    if again:
        await word.receive()
        continue_as_new(again=False)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(signed.receive)
            await trio.sleep(5)
    except* ValueError as group:
        refused = [str(error) for error in group.exceptions]
    return [await paid.receive(), refused, await paid.receive()]
