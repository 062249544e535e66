"""What is read and changes nothing."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from itertools import groupby
from typing import Any, get_args

import msgspec

from trioflow.backends.filters import Group, InstanceFilter
from trioflow.backends.records import (
    COUNTED,
    ActivityTask,
    Execution,
    InstanceRecord,
    QueueStats,
    RequestKey,
    Status,
    WorkerInfo,
)
from trioflow.backends.sql.dialect import Cursor
from trioflow.backends.sql.operations.attributes import (
    MANY,
    Lead,
    attribute_clauses,
    count_some,
    lead_of,
    names_in_index,
    range_of,
)
from trioflow.backends.sql.operations.served import queues_of
from trioflow.backends.sql.operations.troubles import (
    MOST_TROUBLES,
    candidates,
    newest_before,
    trouble_clauses,
)
from trioflow.backends.sql.rows import instance_record, unfinished_activity
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import InstanceNotFound

__all__ = [
    "activities",
    "conditions",
    "count",
    "count_by",
    "get",
    "history",
    "list_instances",
    "load",
    "not_running",
    "select",
    "stats",
    "tried_again",
    "turns_from",
    "workers",
]

_OPEN = ("running", "suspended")
_STATUSES: tuple[Status, ...] = get_args(Status)
_SURROGATES = range(0xD800, 0xE000)


def load(store: SqlStore, ids: Sequence[tuple[str, int]]) -> list[list[bytes]]:
    """See `Backend.load`."""
    found = store.each(store.queries.turns, ids)
    return [[row[0] for row in rows] for rows in found]


def turns_from(
    store: SqlStore, instance: str, execution: int, first: int, limit: int
) -> list[bytes]:
    """See `Backend.turns_from`."""
    rows = store.execute(store.queries.turns_from, instance, execution, first, limit).fetchall()
    return [row[0] for row in rows]


def get(store: SqlStore, instance: str) -> InstanceRecord | None:
    """See `Backend.get`."""
    row = select(store, store.queries.records, ["id = ?"], [instance]).fetchone()
    return None if row is None else instance_record(row)


def not_running(
    store: SqlStore, instances: Sequence[str], lives: Sequence[str] | None
) -> list[str]:
    """See `Backend.not_running`."""
    rows = store.among(store.queries.statuses, instances)
    if lives is None:
        stopped = {id for id, status, _ in rows if status != "running"}
        return [id for id in instances if id in stopped]
    running = {id: life for id, status, life in rows if status == "running"}
    asked = zip(instances, lives, strict=True)
    return [id for id, life in asked if running.get(id) != life]


def history(store: SqlStore, instance: str) -> list[Execution]:
    """See `Backend.history`."""
    with store.snapshot():
        current = store.execute(store.queries.current_execution, instance).fetchone()
        rows = store.execute(store.queries.executions, instance).fetchall()
    executions = [
        Execution(number, [row[1] for row in group])
        for number, group in groupby(rows, key=lambda row: row[0])
    ]
    if current is not None and (not executions or executions[-1].number < current[0]):
        executions.append(Execution(current[0], []))
    return executions


def activities(store: SqlStore, instance: str) -> list[ActivityTask]:
    """See `Backend.activities`."""
    rows = store.execute(store.queries.activities, instance).fetchall()
    return [unfinished_activity(row) for row in rows]


def tried_again(store: SqlStore, instances: Sequence[str]) -> list[ActivityTask]:
    """See `Backend.tried_again`."""
    found = store.each(store.queries.tried_again, [(id,) for id in instances])
    return [unfinished_activity(row) for rows in found for row in rows]


def answers(store: SqlStore, requests: Sequence[RequestKey]) -> list[bytes | None]:
    """See `Backend.answers`."""
    found = store.each(store.queries.request, [msgspec.structs.astuple(key) for key in requests])
    return [rows[0][0] if rows else None for rows in found]


def count(store: SqlStore, where: InstanceFilter, most: int | None) -> int:
    """See `Backend.count`."""
    few = _few_in_trouble(store, where)
    clauses, parameters = conditions(store, _among(where, few))
    if few is not None:
        clauses.append(_named(few))
        parameters += few
    if most is None:
        counted = select(store, store.queries.count, clauses, parameters)
    else:
        counted = select(store, store.queries.count_some, clauses, [*parameters, most], "LIMIT ?")
    return int(counted.fetchone()[0])


def _few_in_trouble(store: SqlStore, where: InstanceFilter) -> list[str] | None:
    """Return those that are in the trouble that a filter means; ``None`` if they are many."""
    if where.trouble is None:
        return None
    found = candidates(store, where.trouble, where.trouble_after, MOST_TROUBLES + 1)
    return found if len(found) <= MOST_TROUBLES else None


def _among(where: InstanceFilter, few: list[str] | None) -> InstanceFilter:
    """Return what is left to ask of the few that are known to be in trouble."""
    return where if few is None else msgspec.structs.replace(where, trouble=None)


def _named(ids: Sequence[str]) -> str:
    """Return the clause that means these instances."""
    return f"id IN ({', '.join('?' * len(ids))})" if ids else "1 = 0"


def list_instances(
    store: SqlStore, where: InstanceFilter, limit: int, after: str | None
) -> list[InstanceRecord]:
    """See `Backend.list`."""
    if (statuses := _listed_by_status(where)) is not None:
        return _merged(store, where, statuses, limit, after)
    query, seq, lead = store.queries.records, "instances.seq", lead_of(store, where)
    clauses: list[str] = []
    parameters: list[Any] = []
    if lead.condition is not None and lead.condition.how == "=":
        query, seq = store.queries.records_by_attribute, "a.seq"
        inside, parameters = range_of(lead.condition)
        clauses = ["instances.seq = a.seq", *inside]
        lead = Lead(None, lead.others)
    elif lead.condition is not None and count_some(store, lead.condition) == MANY:
        lead = Lead(None, [lead.condition, *lead.others])
    few = _few_in_trouble(store, where)
    others, values = conditions(store, _among(where, few), lead)
    clauses += others
    parameters += values
    if after is not None:
        clauses.append(f"{seq} < ?")
        parameters.append(_seq_of(store, after))
    newest = f"ORDER BY {seq} DESC LIMIT ?"
    if few is not None:
        clauses.append(_named(few))
        parameters += few
        newest = f"ORDER BY {seq} + 0 DESC LIMIT ?"  # sorted, since they are few
    elif where.trouble == "overdue" and seq == "instances.seq":
        query = store.queries.records_by_status
        clauses.insert(0, f"{seq} <= ?")
        parameters.insert(0, newest_before(store, store.clock() - where.trouble_after))
    rows = select(store, query, clauses, [*parameters, limit], newest)
    return [instance_record(row) for row in rows.fetchall()]


def _seq_of(store: SqlStore, after: str) -> int:
    row = store.execute(store.queries.seq_of, after).fetchone()
    if row is None:
        raise InstanceNotFound(after, "the page cannot begin after it; list from the start")
    return int(row[0])


def _listed_by_status(where: InstanceFilter) -> tuple[Status, ...] | None:
    """Return the statuses that a list is read by, one after the other; ``None`` if it is not.

    The indexes of statuses and workflows are in the order of the list within each status.
    """
    if where.attributes or where.trouble is not None or where.parent:
        return None
    if len(where.status) > 1:
        return where.status
    return None if where.workflow is None else where.status or _STATUSES


def _merged(
    store: SqlStore,
    where: InstanceFilter,
    statuses: Sequence[Status],
    limit: int,
    after: str | None,
) -> list[InstanceRecord]:
    """Return the newest of what each status has."""
    since = None if after is None else _seq_of(store, after)
    parts: list[str] = []
    parameters: list[Any] = []
    query = store.queries.newest_of
    if where.workflow is not None and not _is_narrow(where):
        query = store.queries.newest_of_workflow
    for status in dict.fromkeys(statuses):
        one = msgspec.structs.replace(where, status=(status,))
        clauses, values = conditions(store, one)
        if since is not None:
            clauses.append("seq < ?")
            values.append(since)
        condition = f"WHERE {' AND '.join(clauses)} ORDER BY seq DESC LIMIT ?"
        part = query.replace("{where}", store.dialect.query(condition))
        parts.append(part)
        parameters += [*values, limit]
    query = store.queries.records_in_order.replace("{parts}", " UNION ALL ".join(parts))
    rows = store.execute(query, *parameters, limit).fetchall()
    return [instance_record(row) for row in rows]


def _is_narrow(where: InstanceFilter) -> bool:
    """Return whether there is more than a workflow for which an index may be of use."""
    finished = where.finished_before is not None or where.finished_after is not None
    return finished or bool(where.id_prefix) or where.queue is not None


def count_by(
    store: SqlStore,
    where: InstanceFilter,
    by: str,
    attribute: bool,  # noqa: FBT001 - one of the arguments that a thread is given
) -> list[Group]:
    """See `Backend.count_by`."""
    clauses, parameters = conditions(store, where)
    if attribute:
        names = names_in_index(by)
        clauses += ["instances.seq = a.seq", f"a.name IN ({', '.join('?' * len(names))})"]
        rows = select(store, store.queries.count_by_attribute, clauses, [*parameters, *names])
        return [Group(name, word.decode(), number) for name, word, number in rows.fetchall()]
    query = {
        "status": store.queries.count_by_status,
        "workflow": store.queries.count_by_workflow,
        "queue": store.queries.count_by_queue,
    }[by]
    rows = select(store, query, clauses, parameters)
    return [Group(*row) for row in rows.fetchall()]


def stats(store: SqlStore) -> list[QueueStats]:
    """See `Backend.stats`."""
    queries = store.queries
    numbers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with store.snapshot():
        now = store.clock()
        instances = store.execute(queries.instance_stats, now).fetchall()
        pending_activities = store.execute(queries.pending_stats).fetchall()
        held = store.execute(queries.held_stats).fetchall()
        workers = store.execute(queries.living_workers, now).fetchall()
    oldest: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for queue, status, worker, number, ready, since in instances:
        numbers[queue][status] += number
        if worker is None:
            numbers[queue]["pending_instances"] += int(ready)
            if ready:
                oldest[queue]["oldest_instance_at"] = since
    for queue, number, since in pending_activities:
        numbers[queue]["pending_activities"] = number
        if since <= now:
            oldest[queue]["oldest_activity_at"] = since
    for queue, number in held:
        numbers[queue]["running_activities"] = number
    for queues, activity_queues in workers:
        for each in _served(queues, numbers):
            numbers[each]["workers"] += 1
        for each in _served(activity_queues, numbers):
            numbers[each]["activity_workers"] += 1
    return [QueueStats(queue=queue, **numbers[queue], **oldest[queue]) for queue in sorted(numbers)]


def workers(store: SqlStore) -> list[WorkerInfo]:
    """See `Backend.workers`."""
    queries, now = store.queries, store.clock()
    rows = sorted(store.execute(queries.workers).fetchall(), key=lambda row: (row[1], row[0]))
    held = [(row[0], COUNTED) for row in rows]
    instances = store.each(queries.held_instances, held)
    activities = store.each(queries.held_activities, held)
    return [
        WorkerInfo(
            id=id,
            name=name,
            queues=queues_of(queues),
            activity_queues=queues_of(activity_queues),
            lease=lease,
            heartbeat_at=beat,
            alive=lease is None or beat + lease >= now,
            instances=of_instances[0][0],
            activities=of_activities[0][0],
            started_at=started_at,
            version=version,
        )
        for (
            (id, name, beat, queues, activity_queues, lease, started_at, version),
            of_instances,
            of_activities,
        ) in zip(rows, instances, activities, strict=True)
    ]


def _served(stored: str | None, queues: Collection[str]) -> set[str]:
    """Return which of some queues a worker serves: all, where its row does not say."""
    served = queues_of(stored)
    return set(queues) if served is None else set(queues).intersection(served)


# --- filters ------------------------------------------------------------------------------------


def select(
    store: SqlStore,
    query: str,
    clauses: Sequence[str],
    parameters: Sequence[Any],
    tail: str = "",
) -> Cursor:
    """Run a query in which ``{where}`` stands for these clauses, all of which must hold."""
    condition = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    translated = store.dialect.query(f"{condition} {tail}")
    return store.execute(query.replace("{where}", translated), *parameters)


def conditions(
    store: SqlStore, where: InstanceFilter, lead: Lead | None = None
) -> tuple[list[str], list[Any]]:
    """Return the clauses of a filter and their parameters.

    Args:
        store: Whose index of attributes may be looked at.
        where: The filter.
        lead: How its conditions on attributes are looked up; by default the index is read by one.
    """
    clauses: list[str] = []
    parameters: list[Any] = []
    for column, how, value in where.comparisons():
        if value == "" and column == "parent":
            clauses.append("parent IS NULL")
            continue
        clauses.append(f"{column} {how} ?")
        parameters.append(value)
    if where.id_prefix:
        for how, bound in ((">=", where.id_prefix), ("<", _after_all(where.id_prefix))):
            if bound is not None:
                clauses.append(f"id {how} ?")
                parameters.append(bound)
    if where.status:
        # Written out, so that a planner knows which index is of use.
        listed = ", ".join(f"'{known}'" for known in _STATUSES if known in where.status)
        clauses.append(f"status IN ({listed})" if listed else "1 = 0")
        if all(status in _OPEN for status in where.status):
            clauses.append("finished_at IS NULL")  # implied; it makes an index useful
    if where.attributes:
        others, values = attribute_clauses(lead_of(store, where) if lead is None else lead)
        clauses += others
        parameters += values
    in_trouble, values = trouble_clauses(store, where)
    return clauses + in_trouble, parameters + values


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
