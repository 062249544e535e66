"""The workflows of several tests of the client. No test lives here."""

from __future__ import annotations

from trioflow import Registry, Signal

number = Signal("number", int)


def shop():
    """Return a registry, a workflow that ends at once, and one that waits for a signal."""
    flows = Registry()

    @flows.workflow
    async def quick(n: int) -> int:
        return n

    @flows.workflow
    async def waiting(n: int = 0) -> int:
        return n + await number.receive()

    return flows, quick, waiting
