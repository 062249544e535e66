"""A bank that is closed at first, for tests of what is tried again. No test lives here."""

from __future__ import annotations

import trio

from trioflow import NonRetryable, Registry, RetryPolicy, Signal, activity_info

go = Signal("go", int)


class Declined(Exception):
    pass


class Bank:
    """Is closed until it is opened; ``calls`` are those of its activities, with their keys."""

    def __init__(self, attempts=2):
        self.closed = True
        self.calls = []
        self.flows = Registry()

        @self.flows.activity
        async def book(what: str) -> str:
            self.note(what)
            return what

        @self.flows.activity(retry=RetryPolicy(max_attempts=attempts, initial_interval=0.0))
        async def charge(how: str = "declined") -> str:
            self.note("charge")
            if self.closed:
                raise NonRetryable("closed") if how == "for good" else Declined("no money")
            return "charged"

        self.book, self.charge = book, charge

    def note(self, what):
        """Say which activity this is."""
        self.calls.append((what, activity_info().idempotency_key, activity_info().attempt))

    def called(self):
        return [what for what, _, _ in self.calls]

    def keys(self, what):
        return {key for each, key, _ in self.calls if each == what}

    async def let_out(self, how, call, found):
        """Let the failure of a call out in one of several ways; in a nursery a car is booked."""

        async def ride() -> None:
            found.append(await self.book("car"))
            await go.receive()

        if how == "in a nursery":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ride)
                nursery.start_soon(call)
        elif how == "as a cause":
            try:
                await call()
            except Declined as exc:
                raise LookupError("cannot go") from exc
        else:
            await call()
