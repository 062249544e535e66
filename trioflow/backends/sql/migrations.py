"""Bring the tables of an SQL store up to date: numbered migrations, each run once.

A migration has a name, whose number says its place, and a script. A published one is never edited:
what changes is added as another one. The store keeps the names of those that it has had (its
*stamps*). Nothing is run without the lock, and whoever waited for it looks again, so that several
processes may start at once.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, TypeVar

from trioflow.backends.records import SchemaState
from trioflow.backends.sql.names import PLAIN, TableNames
from trioflow.errors import SchemaError

__all__ = ["Migrations"]

C = TypeVar("C")
Script = TypeVar("Script")


class Migrations(abc.ABC, Generic[C, Script]):
    """The migrations of one store; a subclass says how its database runs and stamps them.

    Args:
        scripts: Name and script of each, in order.
        place: The database, for messages.
        own: What trioflow wants for itself: "file", "database", "schema".
        names: Those of the tables, where they can have a prefix.
    """

    _names_fold: ClassVar[bool] = False
    """Whether names of tables that differ in capital letters only are the same."""

    def __init__(
        self,
        scripts: Sequence[tuple[str, Script]],
        *,
        place: str,
        own: str,
        names: TableNames | None = None,
    ) -> None:
        self._scripts = scripts
        self._place = place
        self._own = own
        self._names = PLAIN if names is None else names
        self._beside = "" if names is None else ", or its tables a prefix: ?prefix=flow_"

    def are_applied(self, connection: C) -> bool:
        """Return whether the tables are up to date.

        Raises:
            SchemaError: They are newer than this code, or somebody else's.
        """
        return not self._missing(connection)

    def state(self, connection: C) -> SchemaState:
        """Return which version the tables have, and which they should have.

        Raises:
            SchemaError: They are newer than this code, or somebody else's.
        """
        missing = {name for name, _ in self._missing(connection)}
        applied = [name for name, _ in self._scripts if name not in missing]
        stored = self._latest if not missing else applied[-1] if applied else None
        if missing and stored == self._latest:
            stored = f"{self._latest} without {min(missing)}"
        return SchemaState(stored, self._latest)

    def demand(self, connection: C) -> None:
        """Check that the tables are up to date.

        Raises:
            SchemaError: They are not.
        """
        if self._missing(connection):
            raise SchemaError(
                f"{self._place} does not have schema version {self._latest!r} yet; open it with "
                "migrate=True, or await migrate() once"
            )

    def apply(self, connection: C) -> None:
        """Bring the tables up to date. Several processes may do so at once.

        Raises:
            SchemaError: They are newer than this code, or somebody else's.
            BackendUnavailable: Another process is at it and does not end.
        """
        if not self._missing(connection):
            return
        with self._lock(connection):
            missing = self._missing(connection)
            if missing:
                self._prepare(connection)
            for name, script in missing:
                self._run(connection, script)
                self._stamp(connection, name)

    def _missing(self, connection: C) -> Sequence[tuple[str, Script]]:
        # All tables are asked for at once, since another process may make them meanwhile.
        tables = self._tables(connection)
        stamps = self._stamps(connection, tables)
        if stamps is None:
            self._refuse_taken("instances", tables)
        stamps = stamps or []
        if set(stamps) - {name for name, _ in self._scripts}:
            raise SchemaError(
                f"{self._place} has schema version {stamps[-1]!r}, but this trioflow knows only up "
                f"to {self._latest!r}; upgrade trioflow, or use another {self._own}"
            )
        return [each for each in self._scripts if each[0] not in stamps]

    def _refuse_taken(self, name: str, tables: Collection[str]) -> None:
        """Refuse a place where a table of ours cannot be made."""
        ours = self._names.table(name)
        fold = str.casefold if self._names_fold else str
        taken = next((each for each in tables if fold(each) == fold(ours)), None)
        if taken is None:
            return
        if taken != ours and taken.endswith(name):
            raise SchemaError(
                f"{self._place} has a table {taken!r}, and {ours!r} would be the same one: capital "
                f"letters make no other prefix. Write the prefix {taken.removesuffix(name)!r}, or "
                f"take another one, or another {self._own}"
            )
        raise SchemaError(
            f"{self._place} has a table {taken!r} that trioflow did not make; give trioflow "
            f"a {self._own} of its own{self._beside}"
        )

    @property
    def _latest(self) -> str:
        return self._scripts[-1][0]

    # --- what a database gives --------------------------------------------------------------

    @abc.abstractmethod
    def _tables(self, connection: C) -> set[Any]:
        """Return the names of all tables that there are."""

    @abc.abstractmethod
    def _stamps(self, connection: C, tables: Collection[str]) -> list[str] | None:
        """Return the names of the migrations that were run; ``None`` if none was ever begun."""

    @abc.abstractmethod
    def _lock(self, connection: C) -> AbstractContextManager[None]:
        """Return a block that no other process is in; a transaction, where that holds tables."""

    @abc.abstractmethod
    def _prepare(self, connection: C) -> None:
        """Make the table of stamps, unless it is there."""

    @abc.abstractmethod
    def _run(self, connection: C, script: Script) -> None:
        """Run one migration."""

    @abc.abstractmethod
    def _stamp(self, connection: C, name: str) -> None:
        """Note that one was run."""
