"""PostgreSQL's tables, as numbered migrations. A published migration is never edited."""

from __future__ import annotations

from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import Any

from trioflow.backends.postgres.connection import PgConnection
from trioflow.backends.postgres.dialect import qualified
from trioflow.backends.sql.migrations import Migrations

__all__ = ["PostgresMigrations"]

# Texts are compared byte by byte, which is fast and what a prefix needs. Instances have room in
# their pages, so that an update that touches no index stays in its page. What is short-lived is
# vacuumed often, so that it stays small however much goes through it.
_INITIAL = """
CREATE TABLE {schema}.workers (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    name text NOT NULL,
    heartbeat_at float8 NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

CREATE TABLE {schema}.instances (
    seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    execution bigint NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    parent text COLLATE "C",
    parent_execution bigint,
    parent_command text COLLATE "C",
    turns bigint NOT NULL,
    events bigint NOT NULL,
    unread bigint NOT NULL DEFAULT 0,
    ready_at float8,
    wake_at float8,
    worker text COLLATE "C",
    sticky_worker text COLLATE "C",
    input bytea NOT NULL,
    metadata bytea NOT NULL,
    carried bytea NOT NULL DEFAULT '',
    outcome bytea NOT NULL DEFAULT '',
    custom_status bytea NOT NULL DEFAULT '',
    created_at float8 NOT NULL,
    finished_at float8
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX instances_ready ON {schema}.instances (queue, ready_at, seq)
    WHERE ready_at IS NOT NULL;
CREATE INDEX instances_parent ON {schema}.instances (parent) WHERE parent IS NOT NULL;
CREATE INDEX instances_held ON {schema}.instances (worker) WHERE finished_at IS NULL;
CREATE INDEX instances_finished ON {schema}.instances (finished_at)
    WHERE finished_at IS NOT NULL;

CREATE TABLE {schema}.turns (
    instance text COLLATE "C" NOT NULL,
    execution bigint NOT NULL,
    number bigint NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (instance, execution, number)
);

CREATE TABLE {schema}.inbox (
    instance text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    execution bigint,
    event bytea NOT NULL,
    PRIMARY KEY (instance, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE TABLE {schema}.activities (
    instance text COLLATE "C" NOT NULL,
    execution bigint NOT NULL,
    command text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    activity text COLLATE "C" NOT NULL,
    input bytea NOT NULL,
    options bytea NOT NULL,
    attempt bigint NOT NULL DEFAULT 1,
    visible_at float8 NOT NULL,
    scheduled_at float8 NOT NULL,
    worker text COLLATE "C",
    -- Set when its cancellation was asked for: the event that says it was cancelled.
    cancel bytea,
    failure bytea NOT NULL DEFAULT '',
    PRIMARY KEY (instance, execution, command)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX activities_visible ON {schema}.activities (queue, visible_at)
    WHERE worker IS NULL;
CREATE INDEX activities_held ON {schema}.activities (worker) WHERE worker IS NOT NULL;

-- Each delivery takes one number; it stands before those of its messages.
CREATE SEQUENCE {schema}.inbox_numbers;
-- Raised after every change that may concern somebody else, for those who cannot listen.
CREATE SEQUENCE {schema}.changes;
"""

# What is ready or visible is read by queue and priority. The indexes of the unfinished and of the
# leased hold all that is counted by `stats`, so that it need not read a row.
_PRIORITY = """
ALTER TABLE {schema}.instances ADD COLUMN priority smallint NOT NULL DEFAULT 0;
ALTER TABLE {schema}.activities ADD COLUMN priority smallint NOT NULL DEFAULT 0;
DROP INDEX {schema}.instances_ready;
CREATE INDEX instances_ready ON {schema}.instances (queue, priority, ready_at, seq)
    WHERE ready_at IS NOT NULL;
DROP INDEX {schema}.instances_held;
CREATE INDEX instances_held ON {schema}.instances (worker, queue, status, ready_at)
    WHERE finished_at IS NULL;
DROP INDEX {schema}.activities_visible;
CREATE INDEX activities_visible ON {schema}.activities (queue, priority, visible_at, scheduled_at)
    WHERE worker IS NULL;
DROP INDEX {schema}.activities_held;
CREATE INDEX activities_held ON {schema}.activities (worker, queue) WHERE worker IS NOT NULL;
"""

# An instance's life tells it from others of the same id; it is part of the key of its activities.
# `level` is what the ready ones are read by, see `sql.statements`.
#
# The queues that a worker serves are lists in JSON; null, as its lease, if an older trioflow
# registered it.
_LIVES = """
ALTER TABLE {schema}.workers ADD COLUMN queues text, ADD COLUMN activity_queues text,
    ADD COLUMN lease float8;
ALTER TABLE {schema}.instances ADD COLUMN life text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN parent_life text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN first_execution bigint NOT NULL DEFAULT 1,
    ADD COLUMN level smallint NOT NULL DEFAULT 0,
    ADD COLUMN deaths bigint NOT NULL DEFAULT 0;
UPDATE {schema}.instances SET level = priority WHERE priority <> 0;
DROP INDEX {schema}.instances_ready;
CREATE INDEX instances_ready ON {schema}.instances (queue, level, ready_at, seq)
    WHERE ready_at IS NOT NULL;
ALTER TABLE {schema}.inbox ADD COLUMN arrived_at float8 NOT NULL DEFAULT 0;
ALTER TABLE {schema}.activities ADD COLUMN life text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE {schema}.activities DROP CONSTRAINT activities_pkey;
ALTER TABLE {schema}.activities ADD PRIMARY KEY (instance, execution, command, life);
"""

# An instance that starts later is not ready before, see `NewInstance`.
_STARTING = """
ALTER TABLE {schema}.instances ADD COLUMN start_at float8 NOT NULL DEFAULT 0,
    ADD COLUMN options bytea NOT NULL DEFAULT '';
"""

# For each value of an attribute: in which instances it is, by their numbers; see
# `trioflow._model.attributes`.
_ATTRIBUTES = """
ALTER TABLE {schema}.instances ADD COLUMN attributes bytea NOT NULL DEFAULT '';
CREATE TABLE {schema}.attributes (
    seq bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    word bytea NOT NULL,
    quantity float8,
    PRIMARY KEY (seq, name, word)
);
CREATE INDEX attributes_word ON {schema}.attributes (name, word, seq);
CREATE INDEX attributes_quantity ON {schema}.attributes (name, quantity, seq)
    WHERE quantity IS NOT NULL;
"""

# The executions that have ended, but for the last one of each instance; see
# `sql.operations.keeping`.
_EXECUTIONS = """
CREATE TABLE {schema}.executions (
    instance text COLLATE "C" NOT NULL,
    execution bigint NOT NULL,
    how text COLLATE "C" NOT NULL,
    life text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    priority integer NOT NULL,
    status text COLLATE "C" NOT NULL,
    parent text COLLATE "C",
    parent_execution bigint,
    parent_command text COLLATE "C",
    parent_life text COLLATE "C" NOT NULL,
    turns bigint NOT NULL,
    events bigint NOT NULL,
    input bytea NOT NULL,
    metadata bytea NOT NULL,
    outcome bytea NOT NULL,
    custom_status bytea NOT NULL,
    attributes bytea NOT NULL,
    start_at float8 NOT NULL,
    created_at float8 NOT NULL,
    finished_at float8 NOT NULL,
    PRIMARY KEY (instance, execution)
);
CREATE INDEX executions_finished ON {schema}.executions (finished_at);
"""

# What `heartbeat()` of an activity said last.
_PROGRESS = """
ALTER TABLE {schema}.activities ADD COLUMN progress bytea NOT NULL DEFAULT '';
"""

# What clients asked of instances, and the answers; null until there is one.
_REQUESTS = """
CREATE TABLE {schema}.requests (
    instance text COLLATE "C" NOT NULL,
    life text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    answer bytea,
    PRIMARY KEY (instance, life, id)
);
"""

# What clients want to know, for a short time.
_QUESTIONS = """
CREATE TABLE {schema}.questions (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    instance text COLLATE "C" NOT NULL,
    life text COLLATE "C" NOT NULL,
    question bytea NOT NULL,
    expires_at float8 NOT NULL,
    worker text COLLATE "C",
    answer bytea
);
"""

# What is limited across all workers; the row without a kind has the version of all of them, which
# workers have, too. The keys by which activities take turns; see `sql.operations.limited`.
_LIMITS = """
CREATE TABLE {schema}.limits (
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    settings bytea NOT NULL,
    state bytea NOT NULL,
    version text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, name)
) WITH (fillfactor = 50);
INSERT INTO {schema}.limits (kind, name, settings, state, version) VALUES ('', '', '', '', '');
CREATE TABLE {schema}.admitted (
    workflow text COLLATE "C" NOT NULL,
    instance text COLLATE "C" NOT NULL,
    life text COLLATE "C" NOT NULL,
    PRIMARY KEY (instance, life)
);
CREATE INDEX admitted_workflow ON {schema}.admitted (workflow);
CREATE TABLE {schema}.kept_slots (
    worker text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    activity text COLLATE "C" NOT NULL,
    limit_key text COLLATE "C" NOT NULL,
    PRIMARY KEY (worker, id)
);
ALTER TABLE {schema}.workers ADD COLUMN limits text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE {schema}.activities ADD COLUMN limit_key text COLLATE "C" NOT NULL DEFAULT '';
DROP INDEX {schema}.activities_visible;
CREATE INDEX activities_visible ON {schema}.activities
    (queue, limit_key, priority, visible_at, scheduled_at) WHERE worker IS NULL;
"""

# What instances share: who asked for what, in their order; see `sql.operations.sharing`.
_SHARED = """
CREATE TABLE {schema}.shared (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    is_set bigint NOT NULL,
    latest bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE {schema}.shared_claims (
    name text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    instance text COLLATE "C" NOT NULL,
    life text COLLATE "C" NOT NULL,
    execution bigint NOT NULL,
    command text COLLATE "C" NOT NULL,
    size bigint NOT NULL,
    granted bigint NOT NULL,
    event bytea NOT NULL,
    PRIMARY KEY (name, number)
);
CREATE INDEX shared_claims_instance ON {schema}.shared_claims (instance);
"""

# For those who look: since when a worker runs, and which trioflow (null and empty in the rows of
# older ones); when an instance was leased, or something of it committed; pages by status and by
# workflow, what ended lately, and activities that are tried again.
_LOOKING = """
ALTER TABLE {schema}.workers ADD COLUMN started_at float8,
    ADD COLUMN version text NOT NULL DEFAULT '';
ALTER TABLE {schema}.instances ADD COLUMN held_at float8;
CREATE INDEX instances_status ON {schema}.instances (status, seq);
CREATE INDEX instances_workflow ON {schema}.instances (workflow, status, seq);
CREATE INDEX instances_ended ON {schema}.instances (status, finished_at)
    WHERE finished_at IS NOT NULL;
CREATE INDEX activities_retried ON {schema}.activities (instance) WHERE attempt > 1;
"""

# Instances that wait for a place of their workflow's limit, in their order; see
# `sql.operations.admission`. The priority is negated, so that an index has that order.
_WAITING = """
CREATE TABLE {schema}.waiting (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    life text COLLATE "C" NOT NULL,
    workflow text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    negated_priority bigint NOT NULL,
    ready_at float8 NOT NULL,
    seq bigint NOT NULL,
    wake_at float8
);
CREATE INDEX waiting_order ON {schema}.waiting
    (workflow, queue, negated_priority, ready_at, seq);
CREATE INDEX waiting_wake ON {schema}.waiting (queue, wake_at) WHERE wake_at IS NOT NULL;
"""

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
)

# So that of several processes one makes the tables; any number that nobody else uses.
_LOCK = 7_409_130_262_814_001


class PostgresMigrations(Migrations[PgConnection, str]):
    """The migrations of one schema.

    Args:
        schema: Its name.
        place: The server and the database, for messages.
    """

    def __init__(self, schema: str, place: str) -> None:
        super().__init__(_MIGRATIONS, place=f"{place}, schema {schema!r},", own="schema")
        self._schema = schema
        self._name = qualified(schema)

    def _tables(self, connection: PgConnection) -> set[Any]:
        query = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = ?"
        return {name for (name,) in connection.execute(query, (self._schema,)).fetchall()}

    def _stamps(self, connection: PgConnection, tables: Collection[str]) -> list[str] | None:
        if "migrations" not in tables:
            return None
        rows = connection.execute(f"SELECT name FROM {self._name}.migrations ORDER BY name")  # noqa: S608 - a quoted name
        return [name for (name,) in rows.fetchall()]

    @contextmanager
    def _lock(self, connection: PgConnection) -> Generator[None]:
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = 0")
            connection.execute("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            yield

    def _prepare(self, connection: PgConnection) -> None:
        exists = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = ?"
        if not connection.execute(exists, (self._schema,)).fetchone():
            connection.execute(f"CREATE SCHEMA {self._name}")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._name}.migrations "
            "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )

    def _run(self, connection: PgConnection, script: str) -> None:
        for statement in script.replace("{schema}", self._name).split(";\n"):
            if statement.strip():
                connection.execute(statement)

    def _stamp(self, connection: PgConnection, name: str) -> None:
        connection.execute(f"INSERT INTO {self._name}.migrations (name) VALUES (?)", (name,))  # noqa: S608 - a quoted name
