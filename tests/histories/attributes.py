"""Workflows of golden histories: attributes. NEVER EDIT A LINE HERE.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

import trio

from tests.histories.programs import flows
from trioflow import continue_as_new, set_attributes


@flows.workflow
async def has_attributes(rounds: int) -> int:
    set_attributes(round=rounds, gone=None)
    await trio.sleep(30)
    if rounds:
        continue_as_new(rounds - 1)
    return rounds


@flows.workflow
async def gives_attributes() -> int:
    attributes = {"text": "é", "number": 1.5, "flag": True, "texts": ["a", "b"]}
    return await has_attributes.options(id="given_attributes", attributes=attributes)(0)
