"""The fence of MySQL and MariaDB: triggers that let a session pass which has a variable."""

# ruff: noqa: D102 - what each method promises is said in `Fences`

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from trioflow.backends.sql.dialect import Connection
from trioflow.backends.sql.fencing import MARK, triggers
from trioflow.backends.sql.names import TableNames

__all__ = ["FENCED", "MysqlFences"]

FENCED = 1644
"""The code of what a trigger refuses."""

# A message has room for 128 characters.
_BODY = """FOR EACH ROW BEGIN
    DECLARE said VARCHAR(500) CHARACTER SET utf8mb4;
    IF @trioflow_moving IS NULL THEN
        SELECT CONVERT(state USING utf8mb4) INTO said FROM {limits}
            WHERE kind = '' AND name = 'fence';
        SET said = LEFT(CONCAT('{mark}', COALESCE(said, 'the store is closed')), 128);
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = said;
    END IF;
END"""


class MysqlFences:
    """See `Fences`.

    Args:
        names: Those of the tables.
    """

    def __init__(self, names: TableNames) -> None:
        self._names = names
        self._body = _BODY.replace("{mark}", MARK).replace("{limits}", names.table("limits"))

    def put_up(self, connection: Connection, text: str) -> None:
        # A trigger that is made ends a transaction. What is there already says the right text.
        there = self._there(connection)
        for name, table, event in triggers():
            if self._names.table(name) not in there:
                begin = f"CREATE TRIGGER {name} BEFORE {event} ON {table} "
                connection.execute(self._names.script(begin) + self._body)

    def take_down(self, connection: Connection) -> None:
        for name, _, _ in triggers():
            connection.execute(self._names.script(f"DROP TRIGGER IF EXISTS {name}"))

    @contextmanager
    def passing(self, connection: Connection, text: str) -> Generator[None]:
        connection.execute("SET @trioflow_moving = 1")
        try:
            yield
        finally:
            connection.execute("SET @trioflow_moving = NULL")

    def _there(self, connection: Connection) -> set[str]:
        rows = connection.execute(
            "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = database()"
        )
        return {name for (name,) in rows.fetchall()}
