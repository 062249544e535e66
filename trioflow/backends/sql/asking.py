"""The clients' side of the SQL store: what they change, and every reading."""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import msgspec

from trioflow.backends._common.notices import child_terminated
from trioflow.backends.records import (
    ActivityTask,
    Execution,
    InstanceFilter,
    InstanceRecord,
    Message,
    NewInstance,
    QueueStats,
    Update,
)
from trioflow.backends.sql.batch_rows import new_instance_row
from trioflow.backends.sql.committing import Committing
from trioflow.backends.sql.dialect import Write
from trioflow.backends.sql.queries import (
    CREATE_INSTANCES,
    EMPTY_INBOXES,
    FORGET_ACTIVITIES,
    FORGET_INSTANCES,
    FORGET_TURNS,
    LOCK_INSTANCES,
    MARK_FORGOTTEN,
)
from trioflow.backends.sql.working import activity_task
from trioflow.errors import InstanceNotFound

__all__ = ["Asking"]

_OPEN = ("running", "suspended")
_IDS_AT_ONCE = 500
_TRIES = 5
_FORGET = (FORGET_TURNS, EMPTY_INBOXES, FORGET_ACTIVITIES, FORGET_INSTANCES)
_NO_EVENT = b""
_names = msgspec.json.Decoder(list[str])
_SURROGATES = range(0xD800, 0xE000)


class Asking(Committing):
    """See `Backend` for what each promises."""

    def create(self, instances: Sequence[NewInstance]) -> list[bool]:
        tries = 0
        while True:
            try:
                with self.dialect.transaction(self.connection):
                    return self._create(instances)
            except self.dialect.conflict:
                # Somebody else created one of them meanwhile; now it is seen.
                tries += 1
                if tries == _TRIES:
                    raise

    def _create(self, instances: Sequence[NewInstance]) -> list[bool]:
        ids = [new.id for new in instances]
        found = self.dialect.among(self.connection, self.queries.taken_ids, ids)
        known = {id: (status, execution) for id, status, execution in found}
        now = self.clock()
        values: list[Any] = []
        created: list[bool] = []
        for new in instances:
            status, execution = known.get(new.id, ("", 0))
            created.append(status not in _OPEN)
            if created[-1]:
                if status:
                    self._forget_finished(new.id)
                known[new.id] = ("running", 0)
                values += new_instance_row(new, execution + 1, now, ready_at=now)
        if values:
            self.dialect.write(self.connection, CREATE_INSTANCES, values)
        return created

    def send(self, instance: str, event: bytes, life: str | None = None) -> Update:
        return self._send(Message(instance, event, life=life))

    def cancel(
        self, instance: str, event: bytes, outcome: bytes, life: str | None = None
    ) -> Update:
        return self._send(Message(instance, event, life=life, unstarted=outcome))

    def _send(self, message: Message) -> Update:
        with self.dialect.transaction(self.connection):
            now = self.clock()
            if message.unstarted and self._end_unstarted(message, now):
                return "done"
            if self._deliver(message, now):
                return "done"
            row = self._execute(self.queries.status_of, message.instance).fetchone()
            return "not found" if row is None else "finished"

    def terminate(self, instance: str, outcome: bytes, life: str | None = None) -> Update:
        with self.dialect.transaction(self.connection):
            row = self._execute(self.queries.parent_of, instance).fetchone()
            if row is None:
                return "not found"
            if row[0] not in _OPEN or life not in (None, row[1]):
                return "finished"
            parent = self._parent(*row[2:])
            notice = None if parent is None else child_terminated(outcome, parent)
            now = self.clock()
            for id in self._family(instance):
                self._execute(self.queries.end_instance, "terminated", outcome, now, id)
                self._execute(self.queries.delete_inbox, id)
                self._drop_activities(id)
            if notice is not None:
                self._deliver(notice, now)
            return "done"

    def _family(self, instance: str) -> list[str]:
        """Return the ids of an instance and its unfinished descendants, locked."""
        ids: list[str] = []
        while True:
            rows = self._execute(self.queries.family, instance).fetchall()
            before, ids = ids, sorted(row[0] for row in rows)
            if ids == before or not self.dialect.for_update:
                return ids
            # Then look again: who was not locked may have started another one.
            self.dialect.write(self.connection, LOCK_INSTANCES, ids)

    def not_running(self, instances: Sequence[str], lives: Sequence[str] | None) -> list[str]:
        rows = self.dialect.among(self.connection, self.queries.statuses, instances)
        if lives is None:
            stopped = {id for id, status, _ in rows if status != "running"}
            return [id for id in instances if id in stopped]
        running = {id: life for id, status, life in rows if status == "running"}
        asked = zip(instances, lives, strict=True)
        return [id for id, life in asked if running.get(id) != life]

    def resume(self, instance: str, life: str | None = None) -> Update:
        with self.dialect.transaction(self.connection):
            given = (b"", self.clock(), instance, life)
            if self._execute(self.queries.resume_instance, *given).rowcount:
                return "done"
            row = self._execute(self.queries.status_of, instance).fetchone()
            if row is None:
                return "not found"
            return "unchanged" if row[0] in _OPEN and life in (None, row[1]) else "finished"

    def remove(self, where: InstanceFilter, ids: Sequence[str] | None, limit: int) -> int:
        clauses, parameters = _conditions(where)
        clauses.append("finished_at IS NOT NULL")
        removed = 0
        with self.dialect.transaction(self.connection):
            chunks: list[Sequence[str]] = [()]
            if ids is not None:
                chunks = [ids[at : at + _IDS_AT_ONCE] for at in range(0, len(ids), _IDS_AT_ONCE)]
            for chunk in chunks:
                given = [f"id IN ({', '.join('?' * len(chunk))})"] if chunk else []
                found = self._select(
                    self.queries.ids,
                    [*clauses, *given],
                    [*parameters, *chunk, limit - removed],
                    "ORDER BY finished_at LIMIT ?",
                ).fetchall()
                gone = [row[0] for row in found]
                if gone:
                    marks = [value for id in gone for value in (id, _NO_EVENT)]
                    writes: list[tuple[Write, list[Any]]] = [(MARK_FORGOTTEN, marks)]
                    writes += [(statement, gone) for statement in _FORGET]
                    self.dialect.write_all(self.connection, writes)
                removed += len(gone)
        return removed

    # --- reading ------------------------------------------------------------------------

    def load(self, ids: Sequence[tuple[str, int]]) -> list[list[bytes]]:
        found = self.dialect.each(self.connection, self.queries.turns, ids)
        return [[row[0] for row in rows] for rows in found]

    def get(self, instance: str) -> InstanceRecord | None:
        row = self._select(self.queries.records, ["id = ?"], [instance]).fetchone()
        return None if row is None else self._record(row)

    def history(self, instance: str) -> list[Execution]:
        with self.dialect.transaction(self.connection):
            current = self._execute(self.queries.current_execution, instance).fetchone()
            rows = self._execute(self.queries.executions, instance).fetchall()
        executions = [
            Execution(number, [row[1] for row in group])
            for number, group in groupby(rows, key=lambda row: row[0])
        ]
        if current is not None and (not executions or executions[-1].number < current[0]):
            executions.append(Execution(current[0], []))
        return executions

    def activities(self, instance: str) -> list[ActivityTask]:
        rows = self._execute(self.queries.activities, instance).fetchall()
        return [activity_task(row) for row in rows]

    def count(self, where: InstanceFilter) -> int:
        counted = self._select(self.queries.count, *_conditions(where)).fetchone()
        return int(counted[0])

    def stats(self) -> list[QueueStats]:
        numbers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        with self.dialect.transaction(self.connection):
            now = self.clock()
            instances = self._execute(self.queries.instance_stats, now).fetchall()
            pending_activities = self._execute(self.queries.pending_stats).fetchall()
            held = self._execute(self.queries.held_stats).fetchall()
            workers = self._execute(self.queries.living_workers, now).fetchall()
        for queue, status, worker, number, ready in instances:
            numbers[queue][status] += number
            if worker is None:
                numbers[queue]["pending_instances"] += int(ready)
        for queue, number in pending_activities:
            numbers[queue]["pending_activities"] = number
        for queue, number in held:
            numbers[queue]["running_activities"] = number
        for queues, activity_queues in workers:
            for each in _served(queues, numbers):
                numbers[each]["workers"] += 1
            for each in _served(activity_queues, numbers):
                numbers[each]["activity_workers"] += 1
        return [QueueStats(queue=queue, **numbers[queue]) for queue in sorted(numbers)]

    def _select(
        self, query: str, clauses: Sequence[str], parameters: Sequence[Any], tail: str = ""
    ) -> Any:
        condition = f"WHERE {' AND '.join(clauses)}" if clauses else ""
        translated = self.dialect.query(f"{condition} {tail}")
        return self._execute(query.replace("{where}", translated), *parameters)

    def _record(self, row: Sequence[Any]) -> InstanceRecord:
        id, execution, workflow, queue, status, *parent = row[:9]
        turns, events, unread, ready_at, worker, input, metadata = row[9:16]
        outcome, custom_status, created_at, finished_at, priority, life = row[16:]
        return InstanceRecord(
            id=id,
            execution=execution,
            workflow=workflow,
            queue=queue,
            status=status,
            parent=self._parent(*parent),
            turns=turns,
            events=events,
            unread=unread,
            ready_at=ready_at,
            worker=worker,
            input=input,
            metadata=metadata,
            outcome=outcome,
            custom_status=custom_status,
            created_at=created_at,
            finished_at=finished_at,
            priority=priority,
            life=life,
        )

    # Last, since its name hides the built-in type in what follows it.
    def list(self, where: InstanceFilter, limit: int, after: str | None) -> list[InstanceRecord]:
        clauses, parameters = _conditions(where)
        if after is not None:
            row = self._execute(self.queries.seq_of, after).fetchone()
            if row is None:
                raise InstanceNotFound(after, "the page cannot begin after it; list from the start")
            clauses.append("seq < ?")
            parameters.append(row[0])
        rows = self._select(
            self.queries.records, clauses, [*parameters, limit], "ORDER BY seq DESC LIMIT ?"
        ).fetchall()
        return [self._record(row) for row in rows]


def _conditions(where: InstanceFilter) -> tuple[list[str], list[Any]]:
    """Return the clauses of a filter and their parameters."""
    comparisons: list[tuple[str, Any]] = [
        ("workflow = ?", where.workflow),
        ("queue = ?", where.queue),
        ("parent = ?", where.parent or None),
        ("id >= ?", where.id_prefix or None),
        ("id < ?", _after_all(where.id_prefix or "")),
        ("created_at < ?", where.created_before),
        ("created_at > ?", where.created_after),
        ("finished_at < ?", where.finished_before),
    ]
    clauses = [clause for clause, value in comparisons if value is not None]
    parameters = [value for _, value in comparisons if value is not None]
    if where.parent == "":
        clauses.append("parent IS NULL")
    if where.status:
        clauses.append(f"status IN ({', '.join('?' * len(where.status))})")
        parameters += where.status
        if all(status in _OPEN for status in where.status):
            clauses.append("finished_at IS NULL")  # implied; it makes an index useful
    return clauses, parameters


def _after_all(prefix: str) -> str | None:
    """Return the least text that is larger than all that begin so; ``None`` if there is none.

    Texts are compared by code points everywhere. (Functions of texts stop at a zero on some.)
    """
    kept = prefix.rstrip(chr(sys.maxunicode))
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    if following in _SURROGATES:
        following = _SURROGATES.stop
    return kept[:-1] + chr(following)


def _served(stored: str | None, queues: Collection[str]) -> set[str]:
    """Return which of some queues a worker serves: all, where its row does not say."""
    if stored is not None:
        with suppress(msgspec.DecodeError):  # damaged, which must hide nothing else
            return set(queues).intersection(_names.decode(stored))
    return set(queues)
