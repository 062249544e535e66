"""The fence of PostgreSQL: triggers that let a transaction pass which has a setting of its own."""

# ruff: noqa: D102 - what each method promises is said in `Fences`

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from trioflow.backends.sql.dialect import Connection, Dialect
from trioflow.backends.sql.fencing import MARK, triggers

__all__ = ["FENCED", "PostgresFences"]

FENCED = "TF001"
"""The SQLSTATE of what is refused."""

_FUNCTION = """CREATE OR REPLACE FUNCTION {schema}.fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('trioflow.moving', true) = 'on' THEN
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        RETURN NEW;
    END IF;
    RAISE EXCEPTION USING ERRCODE = '{state}', MESSAGE = '{mark}' || coalesce(
        (SELECT convert_from(state, 'UTF8') FROM {schema}.limits
            WHERE kind = '' AND name = 'fence'), 'the store is closed');
END $$"""


class PostgresFences:
    """See `Fences`.

    Args:
        dialect: Whose transactions are used.
        schema: The quoted name of the schema with the tables.
    """

    def __init__(self, dialect: Dialect, schema: str) -> None:
        self._dialect = dialect
        self._schema = schema

    def put_up(self, connection: Connection, text: str) -> None:
        function = _FUNCTION.replace("{schema}", self._schema)
        with self._dialect.transaction(connection):
            connection.execute(function.replace("{state}", FENCED).replace("{mark}", MARK))
            for name, table, event in triggers():
                on = f"{self._schema}.{table}"
                connection.execute(f"DROP TRIGGER IF EXISTS {name} ON {on}")
                connection.execute(
                    f"CREATE TRIGGER {name} BEFORE {event} ON {on} "
                    f"FOR EACH ROW EXECUTE FUNCTION {self._schema}.fence()"
                )

    def take_down(self, connection: Connection) -> None:
        with self._dialect.transaction(connection):
            for name, table, _ in triggers():
                connection.execute(f"DROP TRIGGER IF EXISTS {name} ON {self._schema}.{table}")
            connection.execute(f"DROP FUNCTION IF EXISTS {self._schema}.fence()")

    @contextmanager
    def passing(self, connection: Connection, text: str) -> Generator[None]:
        # It ends with the transaction, or before, for those who share it.
        connection.execute("SELECT set_config('trioflow.moving', 'on', true)")
        yield
        connection.execute("SELECT set_config('trioflow.moving', '', true)")
