"""SQLite's tables, as numbered migrations. A published migration is never edited."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from trioflow.errors import SchemaError

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

__all__ = ["SCHEMA_VERSION", "check", "migrate"]

_SET = "trioflow"

# Instances keep a rowid, so that new rows are appended and lists are newest first for nothing;
# the others are looked up by their key alone.
_INITIAL = """
CREATE TABLE workers (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    heartbeat_at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE instances (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    execution INTEGER NOT NULL,
    workflow TEXT NOT NULL,
    queue TEXT NOT NULL,
    status TEXT NOT NULL,
    parent TEXT,
    parent_execution INTEGER,
    parent_command TEXT,
    turns INTEGER NOT NULL,
    events INTEGER NOT NULL,
    unread INTEGER NOT NULL DEFAULT 0,
    ready_at REAL,
    wake_at REAL,
    worker TEXT,
    sticky_worker TEXT,
    input BLOB NOT NULL,
    metadata BLOB NOT NULL,
    carried BLOB NOT NULL DEFAULT x'',
    outcome BLOB NOT NULL DEFAULT x'',
    custom_status BLOB NOT NULL DEFAULT x'',
    created_at REAL NOT NULL,
    finished_at REAL
);
CREATE INDEX instances_ready ON instances (queue, ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX instances_parent ON instances (parent) WHERE parent IS NOT NULL;
-- The unfinished ones, by who holds them; and the finished ones, by age.
CREATE INDEX instances_finished ON instances (finished_at, worker);

CREATE TABLE turns (
    instance TEXT NOT NULL,
    execution INTEGER NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (instance, execution, number)
) WITHOUT ROWID;

CREATE TABLE inbox (
    instance TEXT NOT NULL,
    seq INTEGER NOT NULL,
    execution INTEGER,
    event BLOB NOT NULL,
    PRIMARY KEY (instance, seq)
) WITHOUT ROWID;

CREATE TABLE activities (
    instance TEXT NOT NULL,
    execution INTEGER NOT NULL,
    command TEXT NOT NULL,
    queue TEXT NOT NULL,
    activity TEXT NOT NULL,
    input BLOB NOT NULL,
    options BLOB NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 1,
    visible_at REAL NOT NULL,
    scheduled_at REAL NOT NULL,
    worker TEXT,
    -- Set when its cancellation was asked for: the event that says it was cancelled.
    cancel BLOB,
    failure BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (instance, execution, command)
) WITHOUT ROWID;
CREATE INDEX activities_visible ON activities (queue, visible_at) WHERE worker IS NULL;
CREATE INDEX activities_cancelled ON activities (worker) WHERE cancel IS NOT NULL;

-- The last inbox number given: never given twice, though its row is long gone.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('inbox', 0);
"""

# What is ready or visible is read by queue and priority. The index of the unfinished holds all
# that is counted by `stats`, so that it need not read a row.
_PRIORITY = """
ALTER TABLE instances ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE activities ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
DROP INDEX instances_ready;
CREATE INDEX instances_ready ON instances (queue, priority, ready_at) WHERE ready_at IS NOT NULL;
DROP INDEX instances_finished;
CREATE INDEX instances_finished ON instances (finished_at, worker, queue, status, ready_at);
DROP INDEX activities_visible;
CREATE INDEX activities_visible ON activities
    (worker, queue, priority, visible_at, scheduled_at);
"""

# An instance's life tells it from others of the same id; it is part of the key of its activities.
# `level` is what the ready ones are read by, see `sql.queries`.
#
# The greatest time that was stored is kept beside the inbox numbers: it grows with each delivery,
# and with the heartbeat of each worker that goes, which stood for all that the worker had stored.
#
# The queues that a worker serves are lists in JSON; null, as its lease, if an older trioflow
# registered it.
_LIVES = """
ALTER TABLE workers ADD COLUMN queues TEXT;
ALTER TABLE workers ADD COLUMN activity_queues TEXT;
ALTER TABLE workers ADD COLUMN lease REAL;

ALTER TABLE instances ADD COLUMN life TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN parent_life TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN first_execution INTEGER NOT NULL DEFAULT 1;
ALTER TABLE instances ADD COLUMN level INTEGER NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
UPDATE instances SET level = priority WHERE priority <> 0;
DROP INDEX instances_ready;
CREATE INDEX instances_ready ON instances (queue, level, ready_at) WHERE ready_at IS NOT NULL;

ALTER TABLE inbox ADD COLUMN arrived_at REAL NOT NULL DEFAULT 0;

ALTER TABLE counters ADD COLUMN latest_at REAL NOT NULL DEFAULT 0;
CREATE TRIGGER workers_gone AFTER DELETE ON workers BEGIN
    UPDATE counters SET latest_at = OLD.heartbeat_at
    WHERE name = 'inbox' AND latest_at < OLD.heartbeat_at;
END;

ALTER TABLE activities RENAME TO old_activities;
DROP INDEX activities_visible;
DROP INDEX activities_cancelled;
CREATE TABLE activities (
    instance TEXT NOT NULL,
    execution INTEGER NOT NULL,
    command TEXT NOT NULL,
    life TEXT NOT NULL DEFAULT '',
    queue TEXT NOT NULL,
    activity TEXT NOT NULL,
    input BLOB NOT NULL,
    options BLOB NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 1,
    visible_at REAL NOT NULL,
    scheduled_at REAL NOT NULL,
    worker TEXT,
    -- Set when its cancellation was asked for: the event that says it was cancelled.
    cancel BLOB,
    failure BLOB NOT NULL DEFAULT x'',
    priority INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (instance, execution, command, life)
) WITHOUT ROWID;
INSERT INTO activities (instance, execution, command, queue, activity, input, options, attempt,
        visible_at, scheduled_at, worker, cancel, failure, priority)
    SELECT instance, execution, command, queue, activity, input, options, attempt,
        visible_at, scheduled_at, worker, cancel, failure, priority FROM old_activities;
DROP TABLE old_activities;
CREATE INDEX activities_visible ON activities
    (worker, queue, priority, visible_at, scheduled_at);
CREATE INDEX activities_cancelled ON activities (worker) WHERE cancel IS NOT NULL;
"""

# Name and script of each migration, in order.
_MIGRATIONS = (("0001_initial", _INITIAL), ("0002_priority", _PRIORITY), ("0003_lives", _LIVES))

SCHEMA_VERSION = _MIGRATIONS[-1][0]


def check(connection: sqlite3.Connection, path: str) -> bool:
    """Return whether the schema is up to date.

    Raises:
        SchemaError: It is newer than this code, or the tables are somebody else's.
    """
    known = [name for name, _ in _MIGRATIONS]
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
    applied: list[str] = []
    if "_sqlite_migrations" in tables:
        rows = connection.execute(
            "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY name", (_SET,)
        )
        applied = [row[0] for row in rows]
    if not applied and "instances" in tables:
        raise SchemaError(
            f"{path} has a table 'instances' that trioflow did not make; give trioflow a file of "
            "its own"
        )
    if set(applied) - set(known):
        raise SchemaError(
            f"{path} has schema {applied[-1]!r}, but this trioflow knows only up to "
            f"{SCHEMA_VERSION!r}; upgrade trioflow, or use another file"
        )
    return applied == known


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Bring the schema up to date. Several processes may do so at once.

    Raises:
        SchemaError: As `check` does.
    """
    if check(connection, path):
        return
    # Only now, since it costs a tenth of a second and is not needed once the file is made.
    from sqlite_utils import Database  # noqa: PLC0415 - see above

    # The lock comes first: whoever waited for it finds the work done.
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not check(connection, path):
            _migrations().apply(Database(connection, execute_plugins=False))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _migrations() -> Migrations:
    from sqlite_utils import Migrations  # noqa: PLC0415 - as in `migrate`

    migrations = Migrations(_SET)
    for name, script in _MIGRATIONS:
        migrations(name=name)(_Script(name, script))
    return migrations


class _Script:
    def __init__(self, name: str, script: str) -> None:
        self.__name__ = name
        self._script = script

    def __call__(self, db: Database, /) -> None:
        # Statement by statement: executescript() would commit the transaction around it.
        statement = ""
        for line in self._script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                db.conn.execute(statement)
                statement = ""
