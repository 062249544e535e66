"""What a store does in a transaction of the caller's: see `Backend.in_transaction`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from trioflow.backends.commits import NewInstance
from trioflow.backends.records import Effect, InstanceRecord, Reached
from trioflow.errors import TransactionRefused

__all__ = ["ActivityTransaction", "CallerTransaction", "no_transactions", "refused"]

T = TypeVar("T")


class CallerTransaction(Protocol):
    """Changes that become real when, and only if, a transaction of the caller's is committed.

    Its methods are plain functions: they block, and are called by the thread that uses the
    connection. What they do is what the methods of `Backend` of the same names do. One that raises
    has changed nothing, and leaves the transaction open, unless the server has ended that.

    They raise:

    - `trioflow.errors.TransactionRefused`: no transaction is open, and the driver would not begin
      one for a statement; it has failed; or the connection is to somewhere else.
    - `trioflow.errors.BackendError`: the database refuses.

    Attributes:
        is_async: Whether the connection is one for asyncio. Then the methods must be called by
            `run`.
    """

    is_async: bool

    async def run(self, fn: Callable[[], T]) -> T:
        """Call a function that calls methods of this, while nobody else uses the connection."""
        ...

    def create(
        self, instances: Sequence[NewInstance], *, reuse: bool = True, replacing: bytes | None
    ) -> list[bool]:
        """See `Backend.create`."""
        ...

    def send(
        self, instance: str, event: bytes, *, life: str | None = None, request: str = ""
    ) -> Effect:
        """See `Backend.send`."""
        ...

    def create_and_send(self, new: NewInstance, event: bytes) -> Reached:
        """See `Backend.create_and_send`."""
        ...

    def cancel(
        self, instance: str, event: bytes, outcome: bytes, *, life: str | None = None
    ) -> Effect:
        """See `Backend.cancel`."""
        ...

    def get(self, instance: str) -> InstanceRecord | None:
        """Return an instance's row as the transaction sees it."""
        ...


class ActivityTransaction(Protocol):
    """A transaction in which an activity writes, and its end is stored; a context manager.

    It is rolled back when its block is left, unless `finish` has committed it. All of it blocks,
    and is used by one thread, but for `abandon`.

    Attributes:
        connection: The driver's connection, in the transaction.
    """

    @property
    def connection(self) -> Any:
        """The driver's connection, in the transaction."""

    def finish(self, event: bytes) -> bool:
        """Store how the activity ended, and commit.

        In the same transaction the event is put into the instance's inbox and the activity's row
        deleted. Whoever waits for changes is woken soon.

        Returns:
            False if the lease, or the attempt, is lost: then nothing is stored, and it was rolled
            back.

        Raises:
            TransactionRefused: The activity itself has ended the transaction.
            BackendError: The database refuses, or nobody knows whether it was committed. The
                activity's row knows: it is there if it was not.
        """
        ...

    def abandon(self) -> None:
        """Have it rolled back soon, though its thread goes on; any thread may call it.

        Does not block. What still uses the connection gets errors of the driver. If `finish` runs,
        the activity's row says which of the two came first. Does nothing once the block is left.
        """

    def __enter__(self) -> Self:
        """Begin it.

        Raises:
            BackendUnavailable: The database cannot be reached, or is locked.
        """
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Roll it back, unless it is committed."""


def refused(store: str) -> TransactionRefused:
    """Return the error of a store that cannot take part in a transaction of a database."""
    return TransactionRefused(
        f"a {store} store takes no part in a transaction of a database: keep trioflow's tables in "
        "the SQLite, PostgreSQL or MySQL database that has your own; or commit first, and then "
        'call client.start(workflow.options(id=…, if_exists="return"), …) until it has returned, '
        "also after a crash"
    )


def no_transactions(store: str) -> TransactionRefused:
    """Return the error of a store on which activities cannot write in its transactions."""
    return TransactionRefused(
        f"a {store} store has no transactions in which an activity could write: keep trioflow's "
        "tables in the SQLite, PostgreSQL or MySQL database that the activity writes to; or let it "
        "write there what activity_info().idempotency_key tells, and look for that first"
    )
