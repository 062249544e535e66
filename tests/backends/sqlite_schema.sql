CREATE TRIGGER workers_gone AFTER DELETE ON workers BEGIN
    UPDATE counters SET latest_at = OLD.heartbeat_at
    WHERE name = 'inbox' AND latest_at < OLD.heartbeat_at;
END;
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
    priority INTEGER NOT NULL DEFAULT 0, progress BLOB NOT NULL DEFAULT x'', limit_key TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (instance, execution, command, life)
) WITHOUT ROWID;
CREATE TABLE admitted (
    workflow TEXT NOT NULL,
    instance TEXT NOT NULL,
    life TEXT NOT NULL,
    PRIMARY KEY (instance, life)
) WITHOUT ROWID;
CREATE TABLE attributes (
    seq INTEGER NOT NULL,
    name TEXT NOT NULL,
    word BLOB NOT NULL,
    quantity REAL,
    PRIMARY KEY (seq, name, word)
) WITHOUT ROWID;
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
, latest_at REAL NOT NULL DEFAULT 0) WITHOUT ROWID;
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
CREATE TABLE inbox (
    instance TEXT NOT NULL,
    seq INTEGER NOT NULL,
    execution INTEGER,
    event BLOB NOT NULL, arrived_at REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (instance, seq)
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
, priority INTEGER NOT NULL DEFAULT 0, life TEXT NOT NULL DEFAULT '', parent_life TEXT NOT NULL DEFAULT '', first_execution INTEGER NOT NULL DEFAULT 1, level INTEGER NOT NULL DEFAULT 0, deaths INTEGER NOT NULL DEFAULT 0, start_at REAL NOT NULL DEFAULT 0, options BLOB NOT NULL DEFAULT x'', attributes BLOB NOT NULL DEFAULT x'', held_at REAL);
CREATE TABLE kept_slots (
    worker TEXT NOT NULL,
    id TEXT NOT NULL,
    queue TEXT NOT NULL,
    activity TEXT NOT NULL,
    limit_key TEXT NOT NULL,
    PRIMARY KEY (worker, id)
) WITHOUT ROWID;
CREATE TABLE limits (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    settings BLOB NOT NULL,
    state BLOB NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE questions (
    id TEXT NOT NULL PRIMARY KEY,
    instance TEXT NOT NULL,
    life TEXT NOT NULL,
    question BLOB NOT NULL,
    expires_at REAL NOT NULL,
    worker TEXT,
    answer BLOB
) WITHOUT ROWID;
CREATE TABLE requests (
    instance TEXT NOT NULL,
    life TEXT NOT NULL,
    id TEXT NOT NULL,
    answer BLOB,
    PRIMARY KEY (instance, life, id)
) WITHOUT ROWID;
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
CREATE TABLE turns (
    instance TEXT NOT NULL,
    execution INTEGER NOT NULL,
    number INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (instance, execution, number)
) WITHOUT ROWID;
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
CREATE TABLE workers (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    heartbeat_at REAL NOT NULL
, queues TEXT, activity_queues TEXT, lease REAL, limits TEXT NOT NULL DEFAULT '', started_at REAL, version TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE INDEX activities_cancelled ON activities (worker) WHERE cancel IS NOT NULL;
CREATE INDEX activities_retried ON activities (instance) WHERE attempt > 1;
CREATE INDEX activities_visible ON activities
    (worker, queue, limit_key, priority, visible_at, scheduled_at);
CREATE INDEX admitted_workflow ON admitted (workflow);
CREATE INDEX attributes_quantity ON attributes (name, quantity, seq) WHERE quantity IS NOT NULL;
CREATE INDEX attributes_word ON attributes (name, word, seq);
CREATE INDEX executions_finished ON executions (finished_at);
CREATE INDEX instances_ended ON instances (status, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX instances_finished ON instances (finished_at, worker, queue, status, ready_at);
CREATE INDEX instances_parent ON instances (parent) WHERE parent IS NOT NULL;
CREATE INDEX instances_ready ON instances (queue, level, ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX instances_status ON instances (status, seq);
CREATE INDEX instances_workflow ON instances (workflow, status, seq);
CREATE INDEX shared_claims_instance ON shared_claims (instance);
CREATE INDEX waiting_order ON waiting (workflow, queue, negated_priority, ready_at, seq);
CREATE INDEX waiting_wake ON waiting (queue, wake_at) WHERE wake_at IS NOT NULL;
