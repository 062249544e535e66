"""MySQL's and MariaDB's tables, as numbered migrations. A published migration is never edited."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

import pymysql

from trioflow._codec.limits import COMMAND_LENGTH, ID_LENGTH
from trioflow.backends.mysql.connection import code_of
from trioflow.errors import BackendUnavailable, SchemaError

__all__ = ["COMMAND_LENGTH", "SCHEMA_VERSION", "check", "migrate"]

# How long one start waits for another's migration, seconds.
_LOCK_TIMEOUT = 120
_TABLE = "trioflow_migrations"
_COLUMN_EXISTS = 1060

# A statement that changes the schema ends its transaction, so a migration may break off in its
# middle. It is then done again from its beginning: every statement must allow that, or begin with
# a column that it adds.
#
# An instance is known to its indexes by the short `seq`, and rows are appended. What is taken is
# read in the order of an index, since every row that is read to be sorted would be locked. Its
# NULLs lie before what is ready; with the status among the columns there are few.
_INITIAL = (
    """
CREATE TABLE IF NOT EXISTS workers (
    id VARCHAR(100) NOT NULL PRIMARY KEY,
    name VARCHAR(255) NOT NULL,
    heartbeat_at DOUBLE NOT NULL
) {options}""",
    # One row for each open backend: what it committed last, and how often others were concerned.
    """
CREATE TABLE IF NOT EXISTS writers (
    id VARCHAR(100) NOT NULL PRIMARY KEY,
    token BIGINT NOT NULL,
    changes BIGINT NOT NULL,
    seen_at DOUBLE NOT NULL
) {options}""",
    """
CREATE TABLE IF NOT EXISTS instances (
    seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id VARCHAR({id}) NOT NULL,
    execution BIGINT NOT NULL,
    workflow VARCHAR(255) NOT NULL,
    queue VARCHAR(255) NOT NULL,
    status VARCHAR(20) NOT NULL,
    parent VARCHAR({id}),
    parent_execution BIGINT,
    parent_command VARCHAR({command}),
    turns BIGINT NOT NULL,
    events BIGINT NOT NULL,
    unread BIGINT NOT NULL DEFAULT 0,
    ready_at DOUBLE,
    wake_at DOUBLE,
    worker VARCHAR(100),
    sticky_worker VARCHAR(100),
    input LONGBLOB NOT NULL,
    metadata LONGBLOB NOT NULL,
    carried LONGBLOB NOT NULL DEFAULT (''),
    outcome LONGBLOB NOT NULL DEFAULT (''),
    custom_status LONGBLOB NOT NULL DEFAULT (''),
    created_at DOUBLE NOT NULL,
    finished_at DOUBLE,
    UNIQUE KEY instances_id (id),
    KEY instances_ready (queue, status, ready_at),
    KEY instances_parent (parent),
    KEY instances_finished (finished_at, worker)
) {options}""",
    """
CREATE TABLE IF NOT EXISTS turns (
    instance VARCHAR({id}) NOT NULL,
    execution BIGINT NOT NULL,
    number BIGINT NOT NULL,
    data LONGBLOB NOT NULL,
    PRIMARY KEY (instance, execution, number)
) {options}""",
    """
CREATE TABLE IF NOT EXISTS inbox (
    instance VARCHAR({id}) NOT NULL,
    seq BIGINT NOT NULL AUTO_INCREMENT,
    execution BIGINT,
    event LONGBLOB NOT NULL,
    PRIMARY KEY (instance, seq),
    KEY inbox_seq (seq)
) {options}""",
    """
CREATE TABLE IF NOT EXISTS activities (
    instance VARCHAR({id}) NOT NULL,
    execution BIGINT NOT NULL,
    command VARCHAR({command}) NOT NULL,
    queue VARCHAR(255) NOT NULL,
    activity VARCHAR(255) NOT NULL,
    input LONGBLOB NOT NULL,
    options LONGBLOB NOT NULL,
    attempt BIGINT NOT NULL DEFAULT 1,
    visible_at DOUBLE NOT NULL,
    scheduled_at DOUBLE NOT NULL,
    worker VARCHAR(100),
    cancel LONGBLOB,
    failure LONGBLOB NOT NULL DEFAULT (''),
    PRIMARY KEY (instance, execution, command),
    KEY activities_visible (worker, queue, visible_at, scheduled_at)
) {options}""",
)

# What is ready or visible is read by queue and priority. The index of the unfinished holds all
# that is counted by `stats`, so that it need not read a row.
_PRIORITY = (
    """
ALTER TABLE instances
    ADD COLUMN priority SMALLINT NOT NULL DEFAULT 0,
    DROP KEY instances_ready,
    ADD KEY instances_ready (queue, status, priority, ready_at),
    DROP KEY instances_finished,
    ADD KEY instances_finished (finished_at, worker, queue, status, ready_at)""",
    """
ALTER TABLE activities
    ADD COLUMN priority SMALLINT NOT NULL DEFAULT 0,
    DROP KEY activities_visible,
    ADD KEY activities_visible (worker, queue, priority, visible_at, scheduled_at)""",
)

# An instance's life tells it from others of the same id; it is part of the key of its activities,
# where there is room for 64 bytes. `level` is what the ready ones are read by, see `sql.queries`.
#
# The queues that a worker serves are lists in JSON; null, as its lease, if an older trioflow
# registered it.
_LIVES = (
    """
ALTER TABLE workers
    ADD COLUMN queues MEDIUMTEXT,
    ADD COLUMN activity_queues MEDIUMTEXT,
    ADD COLUMN lease DOUBLE""",
    """
ALTER TABLE instances
    ADD COLUMN life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    ADD COLUMN parent_life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    ADD COLUMN first_execution BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN level SMALLINT NOT NULL DEFAULT 0,
    ADD COLUMN deaths BIGINT NOT NULL DEFAULT 0,
    DROP KEY instances_ready,
    ADD KEY instances_ready (queue, status, level, ready_at)""",
    "UPDATE instances SET level = priority WHERE priority <> 0",
    "ALTER TABLE inbox ADD COLUMN arrived_at DOUBLE NOT NULL DEFAULT 0",
    """
ALTER TABLE activities
    ADD COLUMN life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    DROP PRIMARY KEY,
    ADD PRIMARY KEY (instance, execution, command, life)""",
)

# Name and statements of each migration, in order.
_MIGRATIONS = (("0001_initial", _INITIAL), ("0002_priority", _PRIORITY), ("0003_lives", _LIVES))

SCHEMA_VERSION = _MIGRATIONS[-1][0]


class _Cursor(Protocol):
    def fetchone(self) -> Any: ...

    def fetchall(self) -> Any: ...


class _Connection(Protocol):
    def execute(self, sql: str, parameters: Any = ..., /) -> _Cursor: ...


def check(connection: _Connection, where: str) -> bool:
    """Return whether the schema is up to date.

    Args:
        connection: Its database is the one that is meant.
        where: The database, for messages.

    Raises:
        SchemaError: It is newer than this code, or the tables are somebody else's.
    """
    known = [name for name, _ in _MIGRATIONS]
    rows = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = database()"
    ).fetchall()
    tables = {row[0] for row in rows}
    if _TABLE not in tables:
        if "instances" in tables:
            raise SchemaError(
                f"{where} has a table 'instances' that trioflow did not make; give trioflow a "
                "database of its own"
            )
        return False
    rows = connection.execute(f"SELECT name FROM {_TABLE} ORDER BY name").fetchall()  # noqa: S608 - ours
    applied = [row[0] for row in rows]
    if set(applied) - set(known):
        raise SchemaError(
            f"{where} has schema {applied[-1]!r}, but this trioflow knows only up to "
            f"{SCHEMA_VERSION!r}; upgrade trioflow, or use another database"
        )
    return applied == known


def migrate(connection: _Connection, where: str, collation: str) -> None:
    """Bring the schema up to date. Several processes may do so at once.

    Args:
        connection: May create tables.
        where: The database, for messages.
        collation: Of all text: compares code points, and spaces at the end too.

    Raises:
        SchemaError: As `check` does.
        BackendUnavailable: Another process is at it and does not end.
    """
    if check(connection, where):
        return
    (database,) = connection.execute("SELECT database()").fetchone()
    # Such a lock is the server's, not the database's, and its name may have 64 characters.
    lock = "trioflow " + hashlib.sha256(database.encode()).hexdigest()[:40]
    (got,) = connection.execute("SELECT GET_LOCK(?, ?)", (lock, _LOCK_TIMEOUT)).fetchone()
    if got != 1:
        raise BackendUnavailable(
            f"{where}: another process has been migrating the schema for {_LOCK_TIMEOUT} s; wait "
            "for it, or end it"
        )
    try:
        _apply(connection, where, collation)
    finally:
        connection.execute("SELECT RELEASE_LOCK(?)", (lock,))


def _apply(connection: _Connection, where: str, collation: str) -> None:
    if check(connection, where):  # whoever had the lock before has done it
        return
    charset = f"DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}"
    options = f"ENGINE = InnoDB ROW_FORMAT = DYNAMIC {charset}"
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_TABLE} (name VARCHAR(100) NOT NULL PRIMARY KEY, "
        f"applied_at DATETIME NOT NULL) {options}"
    )
    rows = connection.execute(f"SELECT name FROM {_TABLE}").fetchall()  # noqa: S608 - our name
    applied = {row[0] for row in rows}
    for name, statements in _MIGRATIONS:
        if name in applied:
            continue
        for statement in statements:
            text = statement.format(id=ID_LENGTH, command=COMMAND_LENGTH, options=options)
            try:
                connection.execute(text)
            except pymysql.OperationalError as exc:
                # A statement is done whole or not at all, so all that it does is done.
                if code_of(exc) != _COLUMN_EXISTS:
                    raise
        connection.execute(
            f"INSERT INTO {_TABLE} (name, applied_at) VALUES (?, utc_timestamp())",  # noqa: S608
            (name,),
        )
