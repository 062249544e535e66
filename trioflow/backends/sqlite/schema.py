"""SQLite's tables, as numbered migrations. A published migration is never edited."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

from trioflow.backends.sql.dialect import Connection
from trioflow.backends.sql.migrations import Migrations
from trioflow.backends.sql.names import PLAIN, TableNames
from trioflow.backends.sqlite.dialect import SqliteDialect

__all__ = ["SCRIPTS", "SqliteMigrations"]

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
# `level` is what the ready ones are read by, see `sql.statements`.
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

# An instance that starts later is not ready before, see `NewInstance`.
_STARTING = """
ALTER TABLE instances ADD COLUMN start_at REAL NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN options BLOB NOT NULL DEFAULT x'';
"""

# For each value of an attribute: in which instances it is, by their numbers; see
# `trioflow._model.attributes`.
_ATTRIBUTES = """
ALTER TABLE instances ADD COLUMN attributes BLOB NOT NULL DEFAULT x'';
CREATE TABLE attributes (
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    word BLOB NOT NULL,
    quantity REAL,
    PRIMARY KEY (seq, name, word)
) WITHOUT ROWID;
CREATE INDEX attributes_word ON attributes (name, word, seq);
CREATE INDEX attributes_quantity ON attributes (name, quantity, seq) WHERE quantity IS NOT NULL;
"""

# What `heartbeat()` of an activity said last.
_PROGRESS = """
ALTER TABLE activities ADD COLUMN progress BLOB NOT NULL DEFAULT x'';
"""

# What clients asked of instances, and the answers; null until there is one.
_REQUESTS = """
CREATE TABLE requests (
    instance TEXT NOT NULL,
    life TEXT NOT NULL,
    id TEXT NOT NULL,
    answer BLOB,
    PRIMARY KEY (instance, life, id)
) WITHOUT ROWID;
"""

# What clients want to know, for a short time.
_QUESTIONS = """
CREATE TABLE questions (
    id TEXT NOT NULL PRIMARY KEY,
    instance TEXT NOT NULL,
    life TEXT NOT NULL,
    question BLOB NOT NULL,
    expires_at REAL NOT NULL,
    worker TEXT,
    answer BLOB
) WITHOUT ROWID;
"""

# The executions that have ended, but for the last one of each instance; see
# `sql.operations.keeping`.
_EXECUTIONS = """
CREATE TABLE executions (
    instance TEXT NOT NULL,
    execution INTEGER NOT NULL,
    how TEXT NOT NULL,
    life TEXT NOT NULL,
    workflow TEXT NOT NULL,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    status TEXT NOT NULL,
    parent TEXT,
    parent_execution INTEGER,
    parent_command TEXT,
    parent_life TEXT NOT NULL,
    turns INTEGER NOT NULL,
    events INTEGER NOT NULL,
    input BLOB NOT NULL,
    metadata BLOB NOT NULL,
    outcome BLOB NOT NULL,
    custom_status BLOB NOT NULL,
    attributes BLOB NOT NULL,
    start_at REAL NOT NULL,
    created_at REAL NOT NULL,
    finished_at REAL NOT NULL,
    PRIMARY KEY (instance, execution)
) WITHOUT ROWID;
CREATE INDEX executions_finished ON executions (finished_at);
"""

# What is limited across all workers; the row without a kind has the version of all of them, which
# workers have, too. The keys by which activities take turns; see `sql.operations.limited`.
_LIMITS = """
CREATE TABLE limits (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    settings BLOB NOT NULL,
    state BLOB NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
INSERT INTO limits (kind, name, settings, state, version) VALUES ('', '', x'', x'', '');
CREATE TABLE admitted (
    workflow TEXT NOT NULL,
    instance TEXT NOT NULL,
    life TEXT NOT NULL,
    PRIMARY KEY (instance, life)
) WITHOUT ROWID;
CREATE INDEX admitted_workflow ON admitted (workflow);
CREATE TABLE kept_slots (
    worker TEXT NOT NULL,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    activity TEXT NOT NULL,
    limit_key TEXT NOT NULL,
    PRIMARY KEY (worker, id)
) WITHOUT ROWID;
ALTER TABLE workers ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE activities ADD COLUMN limit_key TEXT NOT NULL DEFAULT '';
DROP INDEX activities_visible;
CREATE INDEX activities_visible ON activities
    (worker, queue, limit_key, priority, visible_at, scheduled_at);
"""

# What instances share: who asked for what, in their order; see `sql.operations.sharing`.
_SHARED = """
CREATE TABLE shared (
    name TEXT NOT NULL PRIMARY KEY,
    is_set INTEGER NOT NULL,
    latest INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE shared_claims (
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    instance TEXT NOT NULL,
    life TEXT NOT NULL,
    execution INTEGER NOT NULL,
    command TEXT NOT NULL,
    size INTEGER NOT NULL,
    granted INTEGER NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (name, number)
) WITHOUT ROWID;
CREATE INDEX shared_claims_instance ON shared_claims (instance);
"""

# For those who look: since when a worker runs, and which trioflow (null and empty in the rows of
# older ones); when an instance was leased, or something of it committed; pages by status and by
# workflow, what ended lately, and activities that are tried again.
_LOOKING = """
ALTER TABLE workers ADD COLUMN started_at REAL;
ALTER TABLE workers ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN held_at REAL;
CREATE INDEX instances_status ON instances (status, seq);
CREATE INDEX instances_workflow ON instances (workflow, status, seq);
CREATE INDEX instances_ended ON instances (status, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX activities_retried ON activities (instance) WHERE attempt > 1;
"""

# Instances that wait for a place of their workflow's limit, in their order; see
# `sql.operations.admission`. The priority is negated, so that an index has that order.
_WAITING = """
CREATE TABLE waiting (
    id TEXT NOT NULL PRIMARY KEY,
    life TEXT NOT NULL,
    workflow TEXT NOT NULL,
    queue TEXT NOT NULL,
    negated_priority INTEGER NOT NULL,
    ready_at REAL NOT NULL,
    seq INTEGER NOT NULL,
    wake_at REAL
) WITHOUT ROWID;
CREATE INDEX waiting_order ON waiting (workflow, queue, negated_priority, ready_at, seq);
CREATE INDEX waiting_wake ON waiting (queue, wake_at) WHERE wake_at IS NOT NULL;
"""

# How often something was committed that may concern other processes; a heartbeat does not.
_CHANGES = "INSERT INTO counters (name, value) VALUES ('changes', 0);"

# Name and script of each migration, in order.
_MIGRATIONS = (
    ("0001_initial", _INITIAL),
    ("0002_priority", _PRIORITY),
    ("0003_lives", _LIVES),
    ("0004_starting", _STARTING),
    ("0005_progress", _PROGRESS),
    ("0006_requests", _REQUESTS),
    ("0007_questions", _QUESTIONS),
    ("0008_attributes", _ATTRIBUTES),
    ("0010_limits", _LIMITS),
    ("0011_shared", _SHARED),
    ("0014_executions", _EXECUTIONS),
    ("0015_looking", _LOOKING),
    ("0016_waiting", _WAITING),
    ("0017_changes", _CHANGES),
)

SCRIPTS = [script for _, script in _MIGRATIONS]
"""The statements of all migrations."""

# As sqlite-utils makes them, which ran the migrations of earlier versions of trioflow; other
# programs may keep the names of theirs there as well.
_STAMPS = """
CREATE TABLE IF NOT EXISTS "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
"""


class SqliteMigrations(Migrations[Connection, str]):
    """The migrations of one file.

    Args:
        path: The file, for messages.
        names: Those of the tables.
    """

    _names_fold = True

    def __init__(self, path: str, names: TableNames = PLAIN) -> None:
        super().__init__(_MIGRATIONS, place=path, own="file", names=names)
        self._dialect = SqliteDialect(path)
        # Of each prefix, its own; without one, that of earlier versions.
        self._set = f"trioflow {names.prefix}".strip()

    def _tables(self, connection: Connection) -> set[Any]:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema").fetchall()}

    def _stamps(self, connection: Connection, tables: Collection[str]) -> list[str] | None:
        if "_sqlite_migrations" not in tables:
            return None
        rows = connection.execute(
            "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY name",
            (self._set,),
        )
        return [name for (name,) in rows.fetchall()] or None

    def _lock(self, connection: Connection) -> AbstractContextManager[None]:
        return self._dialect.transaction(connection)

    def _prepare(self, connection: Connection) -> None:
        self._execute(connection, _STAMPS)

    def _run(self, connection: Connection, script: str) -> None:
        self._execute(connection, self._names.script(script))

    def _execute(self, connection: Connection, script: str) -> None:
        # Statement by statement: executescript() would commit the transaction around it.
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                connection.execute(statement)
                statement = ""

    def _stamp(self, connection: Connection, name: str) -> None:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) "
            "VALUES (?, ?, strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'))",
            (self._set, name),
        )
