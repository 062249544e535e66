"""Activities that share a pool of connections, which lives exactly as long as the worker.

python examples/pool.py [FILE]      FILE is the accounts' database, accounts.db by default

They are methods of an object that holds the pool. `make_registry` opens it, and closes it when the
worker has ended: after the drain, so every activity finds it open. On the command line it is named
as "pool:make_registry".
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from queue import SimpleQueue

import trio

from trioflow import Registry, activity, activity_info, open_worker

SIZE = 4


class Accounts:
    """The activities of a bank, and the connections that they take turns with."""

    def __init__(self, path: str) -> None:
        self._free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(SIZE):
            # The workflow below never runs this, which the linter cannot know.
            self._free.put(sqlite3.connect(path, check_same_thread=False, timeout=30))  # noqa: TF113
        with self._connection() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS moves (key TEXT PRIMARY KEY, name TEXT, amount INT)"
            )

    def close(self) -> None:
        """Close the connections."""
        for _ in range(SIZE):
            self._free.get().close()

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection]:
        connection = self._free.get()  # waits, in its thread, for one that is free
        try:
            with connection:  # a transaction
                yield connection
        finally:
            self._free.put(connection)

    @activity
    def book(self, name: str, amount: int) -> None:
        """Add to an account."""
        # The key is the same for each attempt, so the move is booked once.
        with self._connection() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO moves VALUES (?, ?, ?)",
                (activity_info().idempotency_key, name, amount),
            )

    @activity
    def balance(self, name: str) -> int:
        """Return what is on an account."""
        with self._connection() as connection:
            query = "SELECT coalesce(sum(amount), 0) FROM moves WHERE name = ?"
            return int(connection.execute(query, (name,)).fetchone()[0])


@asynccontextmanager
async def make_registry(path: str = "accounts.db") -> AsyncGenerator[Registry]:
    """Give the definitions, for as long as the pool is open."""
    registry = Registry()
    accounts = Accounts(path)
    registry.add(accounts)

    @registry.workflow
    async def transfer(source: str, target: str, amount: int) -> int:
        await accounts.book(source, -amount)
        await accounts.book(target, amount)
        return await accounts.balance(target)

    try:
        yield registry
    finally:
        accounts.close()


async def main(path: str) -> None:
    async with (
        make_registry(path) as registry,
        open_worker("memory://", registry=registry) as worker,
    ):
        transfer = registry.workflows["transfer"]
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(worker.client.run, transfer, f"from {number}", "to", 5)
        print("to has", await worker.client.run(transfer, "from 20", "to", 5))


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "accounts.db")
