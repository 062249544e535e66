"""Workflows of golden histories: metadata of calls. NEVER EDIT A LINE HERE.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

from contextvars import ContextVar

from tests.histories.programs import adding, double, flows
from trioflow import info

tenant: ContextVar[str] = ContextVar("tenant")


@flows.workflow
async def carries() -> dict[str, str]:
    await double(1)
    tenant.set("from the workflow")
    await double.options(timeout=60)(2)
    await adding.options(id="adding of carries")(3)
    await adding.options(id="adding with more", metadata={"more": "for one child"})(4)
    return info().metadata
