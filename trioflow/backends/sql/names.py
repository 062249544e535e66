"""A prefix of all tables, so that they can live beside those of other programs.

Statements are written with the plain names of tables. Where a database has no schemas to keep them
apart, each text is renamed once, when it is made, by what stands before a name: a word like FROM,
or after it: the point of a column. So a table and a column, or an index on MySQL, may have the same
name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from trioflow.backends.sql.dialect import Delete, Insert, Lock, Update, Write
from trioflow.errors import BackendError

__all__ = ["PLAIN", "TableNames"]

_MADE = re.compile(r"\bCREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,29}")
# Our names are in small letters, and the words of the language are not.
_IN_SCRIPT = re.compile(
    r"\b(TABLE|INDEX|TRIGGER|EXISTS|INTO|UPDATE|FROM|JOIN|ON|TO) (?=[a-z_])"
    r"|(?<![\w.'])(?=[a-z]\w*\.)"
)


class TableNames:
    """The names of a store's tables.

    Args:
        prefix: What each begins with; ``""`` for nothing.
        scripts: The statements that make them, by which they are known.

    Raises:
        BackendError: There can be no such prefix.
    """

    def __init__(self, prefix: str, scripts: Iterable[str] = ()) -> None:
        if prefix and not _PREFIX.fullmatch(prefix):
            raise BackendError(
                f"{prefix!r} cannot be a prefix of tables: write up to 30 letters, digits and "
                "underscores, such as 'flow_'"
            )
        self.prefix = prefix
        tables = "|".join(sorted({name for script in scripts for name in _MADE.findall(script)}))
        self._in_query = re.compile(
            rf"\b(FROM|INTO|UPDATE|JOIN) (?=(?:{tables})\b)|(?<![\w.'])(?=(?:{tables})\.)"
        )
        self.statement = lru_cache(maxsize=None)(self._statement)

    def table(self, name: str) -> str:
        """Return the name of a table."""
        return self.prefix + name

    def query(self, sql: str) -> str:
        """Return a statement, or a part of one, with the names of the store."""
        return self._renamed(self._in_query, sql) if self.prefix else sql

    def script(self, sql: str) -> str:
        """Return a statement that makes or changes tables; also names of indexes get the prefix."""
        return self._renamed(_IN_SCRIPT, sql) if self.prefix else sql

    def _renamed(self, pattern: re.Pattern[str], sql: str) -> str:
        return pattern.sub(lambda found: found[0] + self.prefix, sql)

    def _statement(self, statement: Write) -> Write:
        table = self.table(statement.table)
        match statement:
            case Insert() | Lock():
                return replace(statement, table=table)
            case Update(_, _, set, where):
                return replace(statement, table=table, set=self.query(set), where=self.query(where))
            case Delete(_, _, only):
                return replace(statement, table=table, only=self.query(only))


PLAIN = TableNames("")
