"""Move what a Redis store holds: the fence, and instances as the scripts give and take them."""

# ruff: noqa: D102 - what each method promises is said in `MovableBackend`

from __future__ import annotations

import abc
import secrets
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from typing import Any, TypeVar, cast

import msgspec

from trioflow._model.limits import Limit
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
from trioflow.backends.records import Execution, InstanceRecord
from trioflow.backends.redis import rows, wire
from trioflow.errors import BackendError, CorruptStore, DataRefused, InstanceNotFound

__all__ = ["RedisMoves"]

R = TypeVar("R")

_OWN_FIELDS = ("wake_at", "carried", "first", "options", "deaths")
_FIELDS = (*rows.RECORD_FIELDS, *_OWN_FIELDS)
_RECORD_FIELDS = wire.pack(rows.RECORD_FIELDS)
_PACKED_FIELDS = wire.pack(_FIELDS)
# So few that no script keeps the server to itself for long.
_AT_MOST = 100
_LOOKED_AT = 1000
_ROOM = 2 * 1024 * 1024
_NAMED = 5

_decode_fence = msgspec.json.Decoder(Fence).decode
_encode = msgspec.json.Encoder().encode


class RedisMoves(abc.ABC):
    """The methods of a `MovableBackend` that are about moves."""

    @abc.abstractmethod
    async def _write(self, name: str, *arguments: Any, decode: Callable[[Any], R]) -> R:
        """Call a script that changes something."""

    @abc.abstractmethod
    async def _read(self, name: str, *arguments: Any, decode: Callable[[Any], R]) -> R:
        """Call a script that changes nothing."""

    @abc.abstractmethod
    def _told(self) -> None:
        """Wake those of this process who wait for changes."""

    @property
    @abc.abstractmethod
    def _largest(self) -> int:
        """How many bytes the server takes as one argument."""

    # --- the fence ----------------------------------------------------------------------

    async def fenced(self) -> Fence | None:
        known = await self._read("fence_of", decode=_same)
        return _decode_fence(known) if known else None

    async def fence(self, fence: Fence) -> Fence | None:
        while True:
            before = await self.fenced()
            after = closed_again(before, fence)
            if after is None:
                return before
            if await self._know(before, after):
                return None

    async def lift_fence(self, move: str, *, forget: bool = False) -> bool:
        while True:
            before = await self.fenced()
            if before is None or before.move != move or (before.clearing and not forget):
                return False
            if await self._know(before, None if forget else opened(before)):
                return True

    async def _know(self, before: Fence | None, after: Fence | None) -> bool:
        """Change what the store knows of its last move; False if somebody else has.

        Raises:
            BackendError: It is to be closed, and workers of an older trioflow would go on.
        """
        text = filling = emptying = ""
        if after is not None and after.closed:
            text = fence_text(after)
            if after.clearing:
                emptying = after.move
            elif after.role == "destination":
                filling = after.move
        known = [b"" if one is None else _encode(one) for one in (after, before)]
        wanted = (known[0], text, filling, known[1], emptying)
        done = await self._write("fence", *wanted, decode=_same)
        if isinstance(done, list):
            names = cast("list[bytes]", done)
            raise BackendError(_not_kept_out([name.decode() for name in sorted(names)]))
        self._told()
        return bool(done)

    # --- out of a store -----------------------------------------------------------------

    async def export(
        self, *, limit: int, after: str | None = None, unfinished_only: bool = False
    ) -> list[MovedInstance]:
        most = min(limit, _AT_MOST)
        wanted = (after or "", most, int(unfinished_only), _ROOM, _PACKED_FIELDS, _RECORD_FIELDS)
        found = await self._read("export", *wanted, decode=_same)
        if found == b"gone":
            raise InstanceNotFound(after or "", "the page cannot begin after it")
        return [_instance(*one) for one in found]

    async def export_common(self) -> MovedCommon:
        names: set[bytes] = set()
        for status in ("running", "suspended"):
            after = b"-inf"
            while after:
                found = await self._read("export_names", status, after, _LOOKED_AT, decode=_same)
                after, *some = found
                names.update(some)
        limits = await self._read("export_limits", decode=_same)
        return MovedCommon(
            [one async for one in self._shared_of(sorted(names)) if one.is_set or one.claims],
            sorted((_limit(*one) for one in limits), key=_by_limit),
        )

    async def _shared_of(self, names: Sequence[bytes]) -> AsyncGenerator[MovedShared]:
        """Yield what is known of names, some of it at a time."""
        at, known = 0, 0
        claims: list[Any] = []
        while at < len(names):
            packed = wire.pack([name.decode() for name in names[at : at + _AT_MOST]])
            wanted = (packed, known, _LOOKED_AT)
            found, known = await self._read("export_shared", *wanted, decode=_same)
            for is_set, some in found[: len(found) - bool(known)]:
                yield _shared(names[at], is_set, [*claims, *some])
                claims, at = [], at + 1
            if known:  # of the last one there may be more
                claims += found[-1][1]

    # --- into a store -------------------------------------------------------------------

    async def import_instances(self, move: str, instances: Sequence[MovedInstance]) -> bool:
        for part in _parts(instances):
            if not await self._write("import", move, part, decode=bool):
                return False
        return True

    async def check_import(self, instances: Sequence[MovedInstance]) -> list[Refusal]:
        refused: list[Refusal] = []
        for one in instances:
            try:
                size = len(wire.pack([_wire(one)]))
            except DataRefused as exc:
                refused.append(Refusal(one.id, str(exc)))
                continue
            if size > self._largest:
                why = f"{size} bytes at once, and it takes {self._largest}; see proto-max-bulk-len"
                refused.append(Refusal(one.id, str(wire.refused(why))))
            elif await self._read("get", one.id, _RECORD_FIELDS, decode=_same):
                refused.append(Refusal(one.id, "there is an instance of that id"))
        return refused

    async def import_common(self, move: str, common: MovedCommon) -> bool:
        shared = wire.pack([_shared_wire(one) for one in common.shared])
        limits = wire.pack([_limit_wire(one) for one in common.limits])
        wanted = (move, secrets.token_hex(8), shared, limits)
        return await self._write("import_common", *wanted, decode=bool)

    async def clear(self, move: str) -> bool:
        before = await self.fenced()
        if before is None or (before.move, before.role) != (move, "destination"):
            return False
        after = msgspec.structs.replace(before, completed=False, clearing=True)
        if not before.closed or not await self._know(before, after):
            return False
        onwards = b"0"
        while True:
            onwards = await self._write("clear", move, onwards, decode=_same)
            if onwards in (b"", b"0"):
                self._told()
                return onwards == b"0"


def _same(reply: Any) -> Any:
    return reply


def _not_kept_out(workers: Sequence[str]) -> str:
    named = ", ".join(map(repr, workers[:_NAMED]))
    more = f" and {len(workers) - _NAMED} more" if len(workers) > _NAMED else ""
    return (
        f"the store cannot be closed: {named}{more} would go on, as workers of an older trioflow "
        "are not kept out of a Redis store; stop them first"
    )


# --- what the scripts give --------------------------------------------------------------------


def _instance(  # noqa: PLR0917 - as the script has them
    id: bytes,
    row: Sequence[Any],
    ready_at: bytes,
    inbox: Sequence[bytes],
    activities: Sequence[Any],
    executions: Sequence[Any],
    ended: Sequence[Any],
    requests: Sequence[bytes],
) -> MovedInstance:
    try:
        found = dict(zip(_FIELDS, row, strict=True))
        # What is damaged is shown to people as well as can be, but not moved.
        for name in ("execution", "turns", "events"):
            int(found[name])
        for name in ("status", "workflow", "queue", "input", "created_at"):
            len(found[name])
        messages = [_message(inbox[at], inbox[at + 1]) for at in range(0, len(inbox), 2)]
        record = rows.instance_record((id, row[: len(rows.RECORD_FIELDS)], len(messages), ready_at))
        return MovedInstance(
            record=msgspec.structs.replace(record, worker=None),
            wake_at=float(found["wake_at"]) if found["wake_at"] else None,
            carried=found["carried"] or b"",
            first_execution=int(found["first"] or 1),
            options=found["options"] or b"",
            deaths=int(found["deaths"]) if found["deaths"] else None,
            executions=[Execution(number, list(turns)) for number, turns in executions],
            inbox=[message for _, message in sorted(messages, key=lambda one: one[0])],
            activities=sorted(map(_activity, activities), key=_by_command),
            ended=rows.ended_executions(ended),
            requests=_requests(requests),
        )
    except (ValueError, TypeError, AttributeError) as exc:
        raise CorruptStore(
            f"the stored row of instance {id.decode(errors='replace')!r} cannot be read: {exc}; "
            "mend it in the store, or terminate and remove it"
        ) from exc


def _message(number: bytes, stored: bytes) -> tuple[int, MovedMessage]:
    header, colon, event = stored.partition(b":")
    if not colon:
        raise ValueError(f"message {number!r} of the inbox has no header")
    execution, _, at = header.partition(b"@")
    sent_for = int(execution) if execution else None
    return int(number), MovedMessage(event, float(at or 0), sent_for)


def _activity(row: Sequence[Any]) -> MovedActivity:
    if row[-1]:
        raise ValueError(f"that of its activity {row[2].decode()} is damaged")
    task = rows.activity_task(row[:-2])
    return MovedActivity(
        execution=task.key.execution,
        command=task.key.command,
        life=task.key.life,
        activity=task.activity,
        queue=task.queue,
        input=task.input,
        options=task.options,
        attempt=task.attempt,
        visible_at=float(row[-2]),
        scheduled_at=task.scheduled_at,
        failure=task.failure,
        priority=task.priority,
        progress=task.progress,
        limit_key=task.limit_key,
    )


def _by_command(activity: MovedActivity) -> tuple[int, str, str]:
    return activity.execution, activity.command, activity.life


def _requests(reply: Sequence[bytes]) -> list[MovedRequest]:
    found: list[MovedRequest] = []
    for at in range(0, len(reply), 2):
        life, _, id = reply[at].decode().partition(":")
        stored = reply[at + 1]
        found.append(MovedRequest(life, id, stored[1:] if stored else None))
    return sorted(found, key=lambda one: (one.life, one.id))


def _shared(name: bytes, is_set: int, claims: Sequence[Any]) -> MovedShared:
    return MovedShared(
        name.decode(),
        bool(is_set),
        [
            MovedClaim(
                instance=instance.decode(),
                execution=execution,
                life=life.decode(),
                command=command.decode(),
                size=size,
                event=event,
                granted=bool(granted),
            )
            for instance, execution, life, command, size, event, granted in claims
        ],
    )


def _limit(packed: bytes, state: bytes) -> MovedLimit:
    kept: dict[str, Any] = msgspec.msgpack.decode(state) if state else {}
    # An empty table is an array to the server.
    begun = [(part, number) for part, number in kept.get("begun") or ()]
    return MovedLimit(
        msgspec.msgpack.decode(packed, type=Limit), begun, dict(kept.get("turns") or {})
    )


def _by_limit(one: MovedLimit) -> tuple[str, str]:
    return one.limit.kind, one.limit.name


# --- what they are given ----------------------------------------------------------------------


def _parts(instances: Sequence[MovedInstance]) -> Generator[bytes]:
    """Pack instances, in parts that are not too large."""
    part: list[Any] = []
    size = 0
    for one in instances:
        packed = wire.pack(_wire(one))
        if part and size + len(packed) > _ROOM:
            yield wire.pack(part)
            part, size = [], 0
        part.append(msgspec.Raw(packed))
        size += len(packed)
    if part:
        yield wire.pack(part)


def _wire(one: MovedInstance) -> dict[str, Any]:
    row = {**_hash(one.record), "worker": "", "sticky": ""}
    if one.wake_at is not None:
        row["wake_at"] = repr(one.wake_at)
    for name, data in (("carried", one.carried), ("options", one.options)):
        if data:
            row[name] = wire.payload(data)
    if one.first_execution > 1:
        row["first"] = str(one.first_execution)
    if one.deaths is not None:
        row["deaths"] = str(one.deaths)
    if one.record.attributes:
        row["indexed"] = wire.indexed(one.record.attributes)
    packed: dict[str, Any] = {
        "id": one.id,
        "row": row,
        "executions": [
            (each.number, [wire.payload(turn) for turn in each.turns]) for each in one.executions
        ],
        "inbox": [(each.execution or "", each.at, wire.payload(each.event)) for each in one.inbox],
        "activities": [_activity_wire(each) for each in one.activities],
        "ended": [(each.how, _hash(each.record)) for each in one.ended],
        "requests": [
            field
            for each in one.requests
            for field in (
                f"{each.life}:{each.id}",
                "" if each.answer is None else wire.payload(b"=" + each.answer),
            )
        ],
    }
    if one.record.ready_at is not None:
        packed["ready_at"] = repr(one.record.ready_at)
    return packed


def _hash(record: InstanceRecord) -> dict[str, Any]:
    """Return the fields of the hash of a row; what is empty is left out, but for a few."""
    fields: dict[str, Any] = {"input": wire.payload(record.input)}
    for name in rows.RECORD_FIELDS:
        value = getattr(record, name, None)
        if name in ("execution", "turns", "events", "created_at") or (value and name != "parent"):
            fields.setdefault(name, _field(value))
    if record.parent is not None:
        parent = record.parent
        fields["parent"] = parent.instance
        fields["parent_execution"] = str(parent.execution)
        fields["parent_command"] = parent.command
        if parent.life:
            fields["parent_life"] = parent.life
    return fields


def _field(value: Any) -> Any:
    if isinstance(value, bytes):
        return wire.payload(value)
    return value if isinstance(value, str) else repr(value)


def _activity_wire(activity: MovedActivity) -> dict[str, Any]:
    return {
        name: wire.payload(value) if isinstance(value, bytes) else value
        for name, value in msgspec.structs.asdict(activity).items()
    }


def _shared_wire(shared: MovedShared) -> tuple[Any, ...]:
    claims = [
        (
            *(claim.instance, claim.execution, claim.life, claim.command, claim.size),
            *(wire.payload(claim.event), claim.granted),
        )
        for claim in shared.claims
    ]
    return shared.name, shared.is_set, claims


def _limit_wire(moved: MovedLimit) -> tuple[Any, ...]:
    limit = moved.limit
    packed = wire.packed_limit(limit)
    state = wire.pack({"begun": moved.begun, "turns": moved.turns})
    named = limit.kind, limit.name
    return (
        *named,
        wire.payload(packed),
        float(limit.per),
        limit.key is not None,
        wire.payload(state),
    )
