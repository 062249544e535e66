"""The SQL statements about what instances share; see `trioflow.backends.sql.operations.sharing`.

Written as those in `trioflow.backends.sql.queries`.
"""

from __future__ import annotations

from trioflow.backends.sql.dialect import Dialect

__all__ = ["SharedQueries"]

# With what shows whether who has the claim can still use it.
_CLAIMS = """SELECT c.number, c.instance, c.execution, c.life, c.size, c.event,
            CASE WHEN i.id IS NULL OR i.finished_at IS NOT NULL THEN 1 ELSE 0 END
        FROM shared_claims AS c LEFT JOIN instances AS i
            ON i.id = c.instance AND i.life = c.life AND i.execution = c.execution
        WHERE c.name = ?"""


class SharedQueries:
    """The statements that touch one thing, or read, translated for a dialect."""

    lock = "SELECT is_set, latest FROM shared WHERE name = ? {for_update}"
    create = "INSERT INTO shared (name, is_set, latest) VALUES (?, 0, 0) {unless_there}"
    change = "UPDATE shared SET is_set = ?, latest = ? WHERE name = ?"
    add = """INSERT INTO shared_claims
        (name, number, instance, life, execution, command, size, granted, event)
        VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)"""
    grant = "UPDATE shared_claims SET granted = 1 WHERE name = ? AND number = ?"
    drop = "DELETE FROM shared_claims WHERE name = ? AND number = ?"
    free = """DELETE FROM shared_claims WHERE name = ? AND instance = ? AND life = ?
        AND execution = ? AND command = ?"""
    granted = f"{_CLAIMS} AND c.granted = 1 ORDER BY c.number"
    waiting = f"{_CLAIMS} AND c.granted = 0 ORDER BY c.number LIMIT ?"
    is_set = "SELECT is_set FROM shared WHERE name = ?"
    claims = f"{_CLAIMS.replace('c.event', 'c.granted')} ORDER BY c.number"
    names_of = "SELECT name, count(*) FROM shared_claims WHERE instance = ? GROUP BY name"

    def __init__(self, dialect: Dialect) -> None:
        clauses = {"{for_update}": dialect.for_update, "{unless_there}": dialect.unless_there}
        for name, text in vars(type(self)).items():
            if isinstance(text, str) and not name.startswith("_"):
                for placeholder, clause in clauses.items():
                    text = text.replace(placeholder, clause)  # noqa: PLW2901 - piece by piece
                setattr(self, name, dialect.query(text))
