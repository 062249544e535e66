"""Move what a store holds: the fence, and whole instances out of one store and into another.

The row that says which move a store takes part in lies in the table of limits, beside that with
their version: so a store that has never been moved has no table more. Putting up a fence and
writing that row are several transactions, as one database ends a transaction when a trigger is
made. The row is first in both directions, and removed last: what broke off is done again by the
same call.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import msgspec

from trioflow._model.limits import Limit
from trioflow.backends._common.budgets import LimitState
from trioflow.backends.moves import (
    Fence,
    MovedActivity,
    MovedClaim,
    MovedCommon,
    MovedInstance,
    MovedLimit,
    MovedMessage,
    MovedRequest,
    MovedShared,
    Refusal,
    closed_again,
    fence_text,
    opened,
)
from trioflow.backends.records import Execution
from trioflow.backends.sql.dialect import Insert
from trioflow.backends.sql.move_queries import (
    INSTANCES,
    MOVED_ACTIVITIES,
    MOVED_COLUMNS,
    MOVED_EXECUTIONS,
    MOVED_INSTANCES,
    MOVED_REQUESTS,
    OF_INSTANCES,
    OF_NUMBERS,
)
from trioflow.backends.sql.operations.attributes import write_attributes
from trioflow.backends.sql.operations.keeping import ended_execution, execution_row
from trioflow.backends.sql.operations.leases import end_workers
from trioflow.backends.sql.operations.limited import forget_version, set_limit
from trioflow.backends.sql.rows import RECORD_COLUMNS, instance_record, key_of, record_row
from trioflow.backends.sql.statements import DELIVER, NEW_TURNS, SUSPECT, WAITING_BELOW
from trioflow.backends.sql.store import SqlStore
from trioflow.errors import BackendUnavailable, InstanceNotFound, TrioflowError

__all__ = [
    "check_import",
    "clear",
    "export",
    "export_common",
    "fence",
    "fenced",
    "import_common",
    "import_instances",
    "lift_fence",
]

_THERE = "there is an instance of that id"
_PAGE_BYTES = 8 * 1024 * 1024
_MEASURED_FIRST = 8  # instances
_CLEARED_AT_ONCE = 200  # instances

_decode_fence = msgspec.json.Decoder(Fence).decode
_decode_limit = msgspec.json.Decoder(Limit).decode
_decode_state = msgspec.json.Decoder(LimitState).decode
_encode = msgspec.json.Encoder().encode


class _Undo(Exception):
    """Nothing was wrong, and nothing is to stay."""


# --- the fence ----------------------------------------------------------------------------------


def fenced(store: SqlStore) -> Fence | None:
    """See `MovableBackend.fenced`."""
    row = store.execute(store.move_queries.fence).fetchone()
    return None if row is None else _decode_fence(bytes(row[0]))


def fence(store: SqlStore, wanted: Fence) -> Fence | None:
    """See `MovableBackend.fence`. No transaction is open."""
    fences = store.dialect.fences
    with store.transaction():
        before = fenced(store)
        after = closed_again(before, wanted)
        if after is None:
            return before
        text = fence_text(after)
        if after != before:
            with fences.passing(store.connection, text):  # one that broke off may be there yet
                _note(store, after)
    fences.put_up(store.connection, text)
    with store.transaction(), fences.passing(store.connection, text):
        end_workers(store)
    return None


def lift_fence(store: SqlStore, move: str, forget: bool) -> bool:  # noqa: FBT001 - passed on
    """See `MovableBackend.lift_fence`. No transaction is open."""
    fences = store.dialect.fences
    with store.transaction():
        before = fenced(store)
        if before is None or before.move != move or (before.clearing and not forget):
            return False
        # What is to be forgotten has not been open to work; so it is known what was being done.
        after = msgspec.structs.replace(before, closed=False) if forget else opened(before)
        if before.closed:
            with fences.passing(store.connection, fence_text(before)):
                _note(store, after)
    fences.take_down(store.connection)
    if forget:
        with store.transaction():
            known = fenced(store)
            if known is not None and known.move == move and not known.closed:
                _note(store, None)
    return True


def _note(store: SqlStore, fence: Fence | None) -> None:
    store.execute(store.move_queries.drop_fence)
    if fence is not None:
        text = fence_text(fence).encode()
        store.execute(store.move_queries.add_fence, _encode(fence), text)


def _destination_of(store: SqlStore, move: str) -> Fence | None:
    """Return the fence of a store that is the closed destination of a move."""
    found = fenced(store)
    is_it = found is not None and found.closed and found.role == "destination"
    return found if is_it and found is not None and found.move == move else None


# --- out of a store -----------------------------------------------------------------------------


def export(
    store: SqlStore,
    limit: int,
    after: str | None,
    unfinished_only: bool,  # noqa: FBT001 - passed on
) -> list[MovedInstance]:
    """See `MovableBackend.export`."""
    with store.snapshot():
        return _exported(store, limit, after, unfinished_only)


def _exported(
    store: SqlStore,
    limit: int,
    after: str | None,
    unfinished_only: bool,  # noqa: FBT001 - passed on
) -> list[MovedInstance]:
    queries = store.move_queries
    seq = 0
    if after is not None:
        row = store.execute(store.queries.seq_of, after).fetchone()
        if row is None:
            raise InstanceNotFound(after, "the page cannot begin after it")
        seq = row[0]
    page = queries.page_of_unfinished if unfinished_only else queries.page
    ids = _fitting(store, [id for (id,) in store.execute(page, seq, limit).fetchall()])
    rows = {row[0]: row for row in store.among(queries.rows, ids)}
    turns = _by_instance(store, queries.turns, ids)
    inboxes = _by_instance(store, queries.inbox, ids)
    activities = _by_instance(store, queries.activities, ids)
    ended = _by_instance(store, queries.executions, ids)
    requests = _by_instance(store, queries.requests, ids)
    return [
        _moved(
            row,
            executions=[
                Execution(number, [data for _, data in group])
                for number, group in groupby(turns[row[0]], key=lambda turn: turn[0])
            ],
            inbox=[MovedMessage(*message) for message in inboxes[row[0]]],
            activities=sorted(map(_moved_activity, activities[row[0]]), key=_by_command),
            ended=[ended_execution(row[0], kept) for kept in ended[row[0]]],
            requests=[MovedRequest(*request) for request in sorted(requests[row[0]])],
        )
        for row in map(rows.__getitem__, ids)
    ]


def _fitting(store: SqlStore, ids: list[str]) -> list[str]:
    """Return the first of some instances that are not too large together, but at least one."""
    size, at, some = 0, 0, _MEASURED_FIRST
    while at < len(ids):
        sizes = _sizes_of(store, ids[at : at + some])
        for id in ids[at : at + some]:
            size += sizes[id]
            if at and size > _PAGE_BYTES:
                return ids[:at]
            at += 1
        some *= 2  # large ones are few, and small ones are many
    return ids


def _sizes_of(store: SqlStore, ids: list[str]) -> Counter[str]:
    """Return how many bytes there are of each instance."""
    queries = store.move_queries
    sizes: Counter[str] = Counter()
    for query in (
        *(queries.page_sizes, queries.sizes_of_turns, queries.sizes_of_inbox),
        *(queries.sizes_of_activities, queries.sizes_of_executions, queries.sizes_of_requests),
    ):
        sizes.update({id: int(size) for id, size in store.among(query, ids)})
    return sizes


def _by_instance(
    store: SqlStore, query: str, ids: Sequence[str]
) -> defaultdict[str, list[tuple[Any, ...]]]:
    found: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for instance, *rest in store.among(query, ids):
        found[instance].append(tuple(rest))
    return found


def _moved(row: Sequence[Any], **more: Any) -> MovedInstance:
    record = instance_record(row[: len(RECORD_COLUMNS)])
    wake_at, carried, first_execution, options, deaths, level = row[len(RECORD_COLUMNS) :]
    return MovedInstance(
        record=msgspec.structs.replace(record, worker=None),
        wake_at=wake_at,
        carried=carried,
        first_execution=first_execution,
        options=options,
        deaths=deaths if WAITING_BELOW < level < record.priority else None,
        **more,
    )


def _moved_activity(row: Sequence[Any]) -> MovedActivity:
    moved = MovedActivity(**dict(zip(MOVED_ACTIVITIES.columns[1:], row, strict=True)))
    return msgspec.structs.replace(moved, limit_key=key_of(moved.limit_key))


def _by_command(activity: MovedActivity) -> tuple[int, str, str]:
    return activity.execution, activity.command, activity.life


def export_common(store: SqlStore) -> MovedCommon:
    """See `MovableBackend.export_common`."""
    with store.snapshot():
        return _common(store)


def _common(store: SqlStore) -> MovedCommon:
    queries = store.move_queries
    claims: defaultdict[str, list[MovedClaim]] = defaultdict(list)
    for name, *values in store.execute(queries.claims).fetchall():
        instance, life, execution, command, size, granted, event = values
        claims[name].append(
            MovedClaim(
                instance=instance,
                life=life,
                execution=execution,
                command=command,
                size=size,
                granted=bool(granted),
                event=event,
            )
        )
    shared = [
        MovedShared(name, bool(is_set), claims[name])
        for name, is_set in store.execute(queries.shared).fetchall()
        if is_set or claims[name]
    ]
    limits: list[MovedLimit] = []
    for settings, state in store.execute(queries.limits).fetchall():
        kept = _decode_state(state)
        limits.append(MovedLimit(_decode_limit(settings), kept.begun, kept.turns))
    return MovedCommon(shared, limits)


# --- into a store -------------------------------------------------------------------------------


def import_instances(store: SqlStore, move: str, instances: Sequence[MovedInstance]) -> bool:
    """See `MovableBackend.import_instances`."""
    with store.transaction():
        found = _destination_of(store, move)
        if found is None or found.clearing:
            return False
        ids = [one.id for one in instances]
        there = {id for id, *_ in store.among(store.queries.statuses, ids)}
        missing = [one for one in instances if one.id not in there]
        if missing:
            with store.dialect.fences.passing(store.connection, fence_text(found)):
                _write(store, missing)
    return True


def check_import(store: SqlStore, instances: Sequence[MovedInstance]) -> list[Refusal]:
    """See `MovableBackend.check_import`: they are written, and rolled back."""
    there = {id for id, *_ in store.among(store.queries.statuses, [one.id for one in instances])}
    refused = [Refusal(one.id, _THERE) for one in instances if one.id in there]
    missing = [one for one in instances if one.id not in there]
    return [*refused, *(_try_to_write(store, missing) if missing else [])]


def _try_to_write(store: SqlStore, instances: Sequence[MovedInstance]) -> list[Refusal]:
    failures: tuple[type[Exception], ...] = (*store.dialect.errors, TrioflowError)
    try:
        with suppress(_Undo), store.transaction():
            _write(store, instances)
            raise _Undo
    except failures as exc:
        error = store.dialect.error(exc) if isinstance(exc, store.dialect.errors) else exc
        if isinstance(error, BackendUnavailable):
            raise
        if len(instances) == 1:
            return [Refusal(instances[0].id, str(error))]
    else:
        return []
    half = len(instances) // 2
    return [*_try_to_write(store, instances[:half]), *_try_to_write(store, instances[half:])]


def _write(store: SqlStore, instances: Sequence[MovedInstance]) -> None:
    rows: list[Any] = []
    turns: list[Any] = []
    messages: list[Any] = []
    for one in instances:
        id = one.id
        rows += _row(one)
        for execution in one.executions:
            for at, data in enumerate(execution.turns):
                turns += (id, execution.number, at, data)
        for message in one.inbox:
            messages += (id, 0, message.execution, message.event, message.at)
    if messages:
        count = len(messages) // len(DELIVER.columns)
        first = store.dialect.allocate(store.connection, count, store.clock())
        messages[1 :: len(DELIVER.columns)] = range(first, first + count)
    for statement, values in (
        (MOVED_INSTANCES, rows),
        (NEW_TURNS, turns),
        (DELIVER, messages),
        *_belongings(instances),
    ):
        if values:
            store.write(statement, values)
    attributes = {one.id: one.record.attributes for one in instances if one.record.attributes}
    if attributes:
        write_attributes(store, attributes)


def _belongings(instances: Sequence[MovedInstance]) -> list[tuple[Insert, list[Any]]]:
    """Return the rows of activities, ended executions and requests."""
    activities: list[Any] = []
    ended: list[Any] = []
    requests: list[Any] = []
    for one in instances:
        for activity in one.activities:
            activities += (one.id, *(getattr(activity, n) for n in MOVED_ACTIVITIES.columns[1:]))
        for kept in one.ended:
            ended += (one.id, kept.how, *execution_row(kept.record))
        for request in one.requests:
            requests += (one.id, request.life, request.id, request.answer)
    return [
        (MOVED_ACTIVITIES, activities),
        (MOVED_EXECUTIONS, ended),
        (MOVED_REQUESTS, requests),
    ]


def _row(one: MovedInstance) -> tuple[Any, ...]:
    suspect = one.deaths is not None
    level = one.record.priority - SUSPECT if suspect else one.record.priority
    values = (*record_row(one.record), one.wake_at, one.carried, one.first_execution, one.options)
    row = (*values, one.deaths or 0, level)
    assert len(row) == len(MOVED_COLUMNS)
    return row


def import_common(store: SqlStore, move: str, common: MovedCommon) -> bool:
    """See `MovableBackend.import_common`."""
    queries = store.move_queries
    with store.transaction():
        found = _destination_of(store, move)
        if found is None or found.clearing:
            return False
        with store.dialect.fences.passing(store.connection, fence_text(found)):
            for table in ("shared_claims", "shared"):
                store.execute(queries.clear_of[table])
            for shared in common.shared:
                count = len(shared.claims)
                store.execute(queries.add_shared, shared.name, int(shared.is_set), count)
                for at, claim in enumerate(shared.claims, 1):
                    values = (claim.instance, claim.life, claim.execution, claim.command)
                    store.execute(
                        queries.add_claim,
                        *(shared.name, at, *values, claim.size, int(claim.granted), claim.event),
                    )
            for moved in common.limits:
                set_limit(store, moved.limit)
                state = _encode(LimitState(moved.begun, moved.turns))
                named = (moved.limit.kind, moved.limit.name)
                store.execute(store.limit_queries.save, state, *named)
    return True


def clear(store: SqlStore, move: str) -> bool:
    """See `MovableBackend.clear`. No transaction is open: each part is one of its own."""
    queries = store.move_queries
    begun = False
    while True:
        with store.transaction():
            found = _destination_of(store, move)
            if found is None or (begun and not found.clearing):
                return False
            with store.dialect.fences.passing(store.connection, fence_text(found)):
                if not begun:
                    _note(store, msgspec.structs.replace(found, completed=False, clearing=True))
                    begun = True
                rows = store.execute(queries.oldest, _CLEARED_AT_ONCE).fetchall()
                if not rows:
                    for query in queries.clear_of.values():
                        store.execute(query)
                    store.execute(queries.clear_limits)
                    forget_version(store)
                    return True
                ids = [id for id, _ in rows]
                for statement in OF_INSTANCES:
                    store.write(statement, ids)
                store.write(OF_NUMBERS, [seq for _, seq in rows])
                store.write(INSTANCES, ids)
