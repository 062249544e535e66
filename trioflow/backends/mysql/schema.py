"""MySQL's and MariaDB's tables, as numbered migrations. A published migration is never edited."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import pymysql

from trioflow._codec.limits import COMMAND_LENGTH, ID_LENGTH, REQUEST_LENGTH
from trioflow.backends.mysql.connection import MysqlConnection, code_of
from trioflow.backends.sql.migrations import Migrations
from trioflow.backends.sql.names import PLAIN, TableNames
from trioflow.errors import BackendUnavailable

__all__ = ["COMMAND_LENGTH", "SCRIPTS", "MysqlMigrations"]

# How long one start waits for another's migration, seconds.
_LOCK_TIMEOUT = 120
_TABLE = "trioflow_migrations"
_ALREADY_THERE = {1060, 1061}  # a column, a key

# A statement that changes the schema ends its transaction, so a migration may break off in its
# middle. It is then done again from its beginning: every statement must allow that, or begin with
# a column or a key that it adds.
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
# where there is room for 64 bytes. `level` is what the ready ones are read by, see `statements`.
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

# An instance that starts later is not ready before, see `NewInstance`.
_STARTING = (
    """
ALTER TABLE instances
    ADD COLUMN start_at DOUBLE NOT NULL DEFAULT 0,
    ADD COLUMN options LONGBLOB NOT NULL DEFAULT ('')""",
)

# For each value of an attribute: in which instances it is, by their numbers; see
# `trioflow._model.attributes`.
_ATTRIBUTES = (
    "ALTER TABLE instances ADD COLUMN attributes LONGBLOB NOT NULL DEFAULT ('')",
    """
CREATE TABLE IF NOT EXISTS attributes (
    seq BIGINT NOT NULL,
    name VARCHAR(65) NOT NULL,
    word VARBINARY(2048) NOT NULL,
    quantity DOUBLE,
    PRIMARY KEY (seq, name, word),
    KEY attributes_word (name, word, seq),
    KEY attributes_quantity (name, quantity, seq)
) {options}""",
)

# The executions that have ended, but for the last one of each instance; see
# `sql.operations.keeping`.
_EXECUTIONS = (
    """
CREATE TABLE IF NOT EXISTS executions (
    instance VARCHAR({id}) NOT NULL,
    execution BIGINT NOT NULL,
    how VARCHAR(20) NOT NULL,
    life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    workflow VARCHAR(255) NOT NULL,
    queue VARCHAR(255) NOT NULL,
    priority INT NOT NULL,
    status VARCHAR(20) NOT NULL,
    parent VARCHAR({id}),
    parent_execution BIGINT,
    parent_command VARCHAR({command}),
    parent_life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    turns BIGINT NOT NULL,
    events BIGINT NOT NULL,
    input LONGBLOB NOT NULL,
    metadata LONGBLOB NOT NULL,
    outcome LONGBLOB NOT NULL,
    custom_status LONGBLOB NOT NULL,
    attributes LONGBLOB NOT NULL,
    start_at DOUBLE NOT NULL,
    created_at DOUBLE NOT NULL,
    finished_at DOUBLE NOT NULL,
    PRIMARY KEY (instance, execution),
    KEY executions_finished (finished_at)
) {options}""",
)

# What `heartbeat()` of an activity said last.
_PROGRESS = ("ALTER TABLE activities ADD COLUMN progress LONGBLOB NOT NULL DEFAULT ('')",)

# What clients asked of instances, and the answers; null until there is one.
_REQUESTS = (
    """
CREATE TABLE IF NOT EXISTS requests (
    instance VARCHAR({id}) NOT NULL,
    life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    id VARCHAR({request}) NOT NULL,
    answer LONGBLOB,
    PRIMARY KEY (instance, life, id)
) {options}""",
)

# What clients want to know, for a short time.
_QUESTIONS = (
    """
CREATE TABLE IF NOT EXISTS questions (
    id VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    instance VARCHAR({id}) NOT NULL,
    life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    question LONGBLOB NOT NULL,
    expires_at DOUBLE NOT NULL,
    worker VARCHAR(100),
    answer LONGBLOB
) {options}""",
)

# What is limited across all workers; the row without a kind has the version of all of them, which
# workers have, too. The keys by which activities take turns; see `sql.operations.limited`.
_LIMITS = (
    """
CREATE TABLE IF NOT EXISTS limits (
    kind VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name VARCHAR(255) NOT NULL,
    settings LONGBLOB NOT NULL,
    state LONGBLOB NOT NULL,
    version VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (kind, name)
) {options}""",
    "INSERT IGNORE INTO limits (kind, name, settings, state, version) VALUES ('', '', '', '', '')",
    """
CREATE TABLE IF NOT EXISTS admitted (
    workflow VARCHAR(255) NOT NULL,
    instance VARCHAR({id}) NOT NULL,
    life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (instance, life),
    KEY admitted_workflow (workflow)
) {options}""",
    """
CREATE TABLE IF NOT EXISTS kept_slots (
    worker VARCHAR(100) NOT NULL,
    id VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    queue VARCHAR(255) NOT NULL,
    activity VARCHAR(255) NOT NULL,
    limit_key VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (worker, id)
) {options}""",
    """
ALTER TABLE workers
    ADD COLUMN limits VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ''""",
    """
ALTER TABLE activities
    ADD COLUMN limit_key VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    DROP KEY activities_visible,
    ADD KEY activities_visible
        (worker, queue, limit_key, priority, visible_at, scheduled_at)""",
)

# What instances share: who asked for what, in their order; see `sql.operations.sharing`.
_SHARED = (
    """
CREATE TABLE IF NOT EXISTS shared (
    name VARCHAR(270) NOT NULL PRIMARY KEY,
    is_set BIGINT NOT NULL,
    latest BIGINT NOT NULL
) {options}""",
    """
CREATE TABLE IF NOT EXISTS shared_claims (
    name VARCHAR(270) NOT NULL,
    number BIGINT NOT NULL,
    instance VARCHAR({id}) NOT NULL,
    life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    execution BIGINT NOT NULL,
    command VARCHAR({command}) NOT NULL,
    size BIGINT NOT NULL,
    granted BIGINT NOT NULL,
    event LONGBLOB NOT NULL,
    PRIMARY KEY (name, number),
    KEY shared_claims_instance (instance)
) {options}""",
)

# For those who look: since when a worker runs, and which trioflow (null and empty in the rows of
# older ones); when an instance was leased, or something of it committed; pages by status and by
# workflow, what ended lately, and activities that are tried again.
_LOOKING = (
    """
ALTER TABLE workers
    ADD COLUMN started_at DOUBLE,
    ADD COLUMN version VARCHAR(100) NOT NULL DEFAULT ''""",
    """
ALTER TABLE instances
    ADD COLUMN held_at DOUBLE,
    ADD KEY instances_status (status),
    ADD KEY instances_workflow (workflow, status),
    ADD KEY instances_ended (status, finished_at)""",
    "ALTER TABLE activities ADD KEY activities_retried (attempt)",
)

# Instances that wait for a place of their workflow's limit, in their order; see
# `sql.operations.admission`. The priority is negated, so that an index has that order.
_WAITING = (
    """
CREATE TABLE IF NOT EXISTS waiting (
    id VARCHAR({id}) NOT NULL PRIMARY KEY,
    life VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    workflow VARCHAR(255) NOT NULL,
    queue VARCHAR(255) NOT NULL,
    negated_priority BIGINT NOT NULL,
    ready_at DOUBLE NOT NULL,
    seq BIGINT NOT NULL,
    wake_at DOUBLE,
    KEY waiting_order (workflow, queue, negated_priority, ready_at, seq),
    KEY waiting_wake (queue, wake_at)
) {options}""",
)

# Name and statements of each migration, in order.
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
)

SCRIPTS = [statement for _, script in _MIGRATIONS for statement in script]
"""The statements of all migrations."""


class MysqlMigrations(Migrations[MysqlConnection, Sequence[str]]):
    """The migrations of one database, which is the connection's.

    Args:
        place: The database, for messages.
        names: Those of the tables.
    """

    def __init__(self, place: str, names: TableNames = PLAIN) -> None:
        super().__init__(_MIGRATIONS, place=place, own="database", names=names)
        self._table = names.table(_TABLE)

    def _tables(self, connection: MysqlConnection) -> set[Any]:
        rows = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = database()"
        )
        return {name for (name,) in rows.fetchall()}

    def _stamps(self, connection: MysqlConnection, tables: Collection[str]) -> list[str] | None:
        if self._table not in tables:
            return None
        rows = connection.execute(f"SELECT name FROM {self._table} ORDER BY name")  # noqa: S608 - ours
        return [name for (name,) in rows.fetchall()]

    @contextmanager
    def _lock(self, connection: MysqlConnection) -> Generator[None]:
        (database,) = connection.execute("SELECT database()").fetchone()
        # Such a lock is the server's, not the database's, and its name may have 64 characters.
        lock = "trioflow " + hashlib.sha256(database.encode()).hexdigest()[:40]
        (got,) = connection.execute("SELECT GET_LOCK(?, ?)", (lock, _LOCK_TIMEOUT)).fetchone()
        if got != 1:
            raise BackendUnavailable(
                f"{self._place}: another process has been migrating the schema for "
                f"{_LOCK_TIMEOUT} s; wait for it, or end it"
            )
        try:
            yield
        finally:
            connection.execute("SELECT RELEASE_LOCK(?)", (lock,))

    def _prepare(self, connection: MysqlConnection) -> None:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._table} (name VARCHAR(100) NOT NULL PRIMARY KEY, "
            f"applied_at DATETIME NOT NULL) {self._options(connection)}"
        )

    @staticmethod
    def _options(connection: MysqlConnection) -> str:
        # The session's collation compares code points, and spaces at the end too.
        (collation,) = connection.execute("SELECT @@collation_connection").fetchone()
        charset = f"DEFAULT CHARACTER SET utf8mb4 COLLATE {collation}"
        return f"ENGINE = InnoDB ROW_FORMAT = DYNAMIC {charset}"

    def _run(self, connection: MysqlConnection, script: Sequence[str]) -> None:
        names = {
            "id": ID_LENGTH,
            "command": COMMAND_LENGTH,
            "request": REQUEST_LENGTH,
            "options": self._options(connection),
        }
        for statement in script:
            try:
                connection.execute(self._names.script(statement).format_map(names))
            except pymysql.OperationalError as exc:
                # A statement is done whole or not at all, so all that it does is done.
                if code_of(exc) not in _ALREADY_THERE:
                    raise

    def _stamp(self, connection: MysqlConnection, name: str) -> None:
        connection.execute(
            f"INSERT INTO {self._table} (name, applied_at) VALUES (?, utc_timestamp())",  # noqa: S608
            (name,),
        )
