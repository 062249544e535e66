"""Pack commits and new instances for the scripts, as MessagePack without unset fields.

The servers' MessagePack knows no binary strings, so payloads go as text: as they are if they are
UTF-8, which JSON is, and otherwise with a header that says text though they are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from trioflow._model.attributes import index_rows
from trioflow._model.events import ParentRef
from trioflow.backends._common.notices import asked_by, child_cancelled, child_terminated, id_taken
from trioflow.backends.commits import (
    ActivityResult,
    Answer,
    InstanceCommit,
    Message,
    NewActivity,
    NewInstance,
    NewQuestion,
    Unit,
)
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.records import ActivityKey
from trioflow.backends.resets import Beginning, Reset
from trioflow.errors import DataRefused

__all__ = [
    "TakeRequest",
    "meant",
    "notices_of",
    "pack",
    "pack_answers",
    "pack_beginning",
    "pack_filter",
    "pack_new",
    "pack_notices",
    "pack_parts",
    "pack_question",
    "pack_reset",
    "pack_units",
    "pack_unstarted",
    "parts_of_notice",
    "refused",
]

_packed = msgspec.msgpack.Encoder().encode
_encoded = msgspec.json.Encoder().encode
_COMMAND = "the command"
# Fields of a new instance that are sent though they are empty.
_ALWAYS = {"id", "workflow", "queue", "input"}


class TakeRequest(msgspec.Struct):
    """What the scripts that take work are asked for.

    Attributes:
        suspect: Whether one suspect is wanted, and nothing else.
        fields: Of an instance's row, that the answer is to have.
    """

    worker: str
    queues: Sequence[str]
    limit: int
    exclude: Sequence[str]
    exclude_ids: Sequence[str] = ()
    sticky: float = 0.0
    suspect: bool = False
    fields: Sequence[str] = ()


def pack(value: Any) -> bytes:
    """Pack a value as the scripts read it.

    Raises:
        DataRefused: It has text that is no Unicode, or a number of more than 64 bits.
    """
    try:
        return _packed(value)
    except (UnicodeError, OverflowError) as exc:
        raise refused(exc) from exc


def pack_parts(ids: Sequence[str] | None, size: int) -> Iterator[bytes]:
    """Pack the ids that are to be looked through, in parts; one empty part means all."""
    if ids is None:
        yield b""
        return
    for at in range(0, len(ids), size):
        yield pack(list(ids[at : at + size]))


def refused(why: object) -> DataRefused:
    """Return the error for what cannot be sent, or what the server would never take."""
    return DataRefused(f"Redis cannot take these data: {why}")


def pack_units(units: Iterable[Unit]) -> bytes:
    """Pack the units of a commit."""
    return pack([_unit(unit) for unit in units])


def pack_new(instances: Iterable[NewInstance]) -> bytes:
    """Pack instances to be created."""
    return pack([_new_instance(new) for new in instances])


def pack_beginning(begin: Beginning) -> bytes:
    """Pack what an execution begins with."""
    return pack(_beginning(begin))


def pack_reset(reset: Reset) -> bytes:
    """Pack a reset."""
    wire = msgspec.structs.asdict(reset)
    for name in ("ending", "outcome"):
        wire[name] = _payload(wire[name])
    wire["beginning"] = _beginning(reset.beginning)
    return pack(wire)


def _beginning(begin: Beginning) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "turns": [_payload(turn) for turn in begin.turns],
        "events": begin.events,
        "inbox": [
            {"event": _payload(one.event), "at": _time(one.at), "own": one.own}
            for one in begin.inbox
        ],
        "activities": [_new_activity(new) for new in begin.activities],
        "children": [_new_instance(new) for new in begin.children],
        "taken": [
            _payload(id_taken(new.id, new.parent).event) if new.parent is not None else ""
            for new in begin.children
        ],
        "attributes": _payload(begin.attributes),
    }
    if begin.carried is not None:
        wire["carried"] = _payload(begin.carried)
    if begin.wake_at is not None:
        wire["wake_at"] = _time(begin.wake_at)
    if begin.attributes:
        wire["indexed"] = _indexed(begin.attributes)
    return wire


def pack_question(new: NewQuestion) -> bytes:
    """Pack a question."""
    wire = msgspec.structs.asdict(new)
    wire.update(question=_payload(new.question), expires_at=_time(new.expires_at))
    return pack(wire)


def pack_answers(answers: Iterable[Answer]) -> bytes:
    """Pack answers to requests or to questions."""
    return pack(_answers(answers))


def _answers(answers: Iterable[Answer]) -> list[dict[str, Any]]:
    return [{"request": each.request, "data": _payload(each.data)} for each in answers]


def notices_of(units: Iterable[Unit]) -> dict[ParentRef, bytes]:
    """Return what each parent of a new instance is told if that one's id is taken."""
    return {
        commit.new.parent: id_taken(commit.id, commit.new.parent).event
        for unit in units
        for commit in unit.instances
        if commit.new is not None and commit.new.parent is not None
    }


def pack_notices(notices: dict[ParentRef, bytes]) -> bytes:
    """Return events by whom they are for, which the scripts name as they name an activity."""
    return pack({_token_of(parent): _payload(event) for parent, event in notices.items()})


def _token_of(ref: ParentRef) -> str:
    length = len(ref.command.encode())
    if not ref.life:
        return f"{ref.execution}:{length}:{ref.command}{ref.instance}"
    life = len(ref.life.encode())
    return f"{ref.execution}/{life}:{length}:{ref.life}{ref.command}{ref.instance}"


def meant(life: str | None) -> str:
    """Return a life as the scripts compare it; ``None`` means any."""
    return "" if life is None else f"={life}"


def parts_of_notice(
    notice: Callable[[bytes, ParentRef], Message], outcome: bytes
) -> tuple[bytes, bytes]:
    """Return what stands before and after the command in the event that ``notice`` makes.

    The script knows the parent only when it ends the child, and must tell it in the same moment.
    """
    event = notice(outcome, ParentRef("", 0, _COMMAND)).event
    before, _, after = event.partition(_encoded(_COMMAND))
    return before, after


def pack_filter(where: InstanceFilter) -> bytes:
    """Return a filter: what it demands, and what helps to find the instances that may have it."""
    return pack(
        {
            "compared": where.comparisons(),
            "status": where.status,
            "id_prefix": where.id_prefix or None,
            "parent": where.parent,
            "finished_before": where.finished_before,
            "trouble": where.trouble or False,
            "trouble_after": float(where.trouble_after),
            "attributes": [
                (one.name, one.how, one.word, one.quantity)
                for one in sorted(where.attributes, key=lambda one: one.how != "=")
            ],
        }
    )


def _time(at: float) -> float:
    if at != at:  # noqa: PLR0124 - as only NaN is
        raise refused("a time that is no number")  # the script would stop half-way
    return at


def pack_unstarted(event: bytes, outcome: bytes) -> bytes:
    """Pack what a cancel does to an instance that has not begun."""
    return pack(_unstarted(event, outcome))


def _unstarted(event: bytes, outcome: bytes) -> dict[str, Any]:
    before, after = parts_of_notice(child_cancelled, outcome)
    wire: dict[str, Any] = {
        "outcome": _payload(outcome),
        "before": _payload(before),
        "after": _payload(after),
    }
    by = asked_by(event)
    if by is not None:
        wire["by"] = by
    return wire


def _payload(data: bytes) -> str | msgspec.Raw:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return msgspec.Raw(b"\xdb" + len(data).to_bytes(4, "big") + data)


def _unit(unit: Unit) -> dict[str, Any]:
    wire: dict[str, Any] = {"instances": [_commit(commit) for commit in unit.instances]}
    if unit.results:
        wire["results"] = [_result(result) for result in unit.results]
    if unit.retries:
        wire["retries"] = [
            {
                **_key(retry.key),
                "attempt": retry.attempt,
                "visible_at": _time(retry.visible_at),
                "failure": _payload(retry.failure),
            }
            for retry in unit.retries
        ]
    if unit.progress:
        wire["progress"] = [
            {**_key(each.key), "progress": _payload(each.progress)} for each in unit.progress
        ]
    if unit.kept:
        wire["kept"] = [(one.id, one.queue, one.activity, one.limit_key) for one in unit.kept]
    if unit.freed:
        wire["freed"] = unit.freed
    return wire


def _result(result: ActivityResult) -> dict[str, Any]:
    wire = {**_key(result.key), "event": _payload(result.event)}
    if result.at is not None:
        wire["at"] = _time(result.at)
    return wire


def _key(key: ActivityKey) -> dict[str, Any]:
    return {
        "instance": key.instance,
        "execution": key.execution,
        "command": key.command,
        "life": key.life,
    }


def _commit(commit: InstanceCommit) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "id": commit.id,
        "execution": commit.execution,
        "number": commit.number,
        "life": commit.life,
        "leased": commit.leased,
    }
    if commit.new is not None:
        wire["new"] = _new_instance(commit.new)
    if commit.consumed:
        wire["consumed"] = commit.consumed
    if commit.messages:
        wire["messages"] = [_message(message) for message in commit.messages]
    if commit.wake_at is not None:
        wire["wake_at"] = _time(commit.wake_at)
    if commit.due:
        wire["due"] = True
    if commit.attributes is not None:
        wire["attributes"] = _payload(commit.attributes)
        wire["indexed"] = _indexed(commit.attributes)
    if commit.status is not None:
        wire["custom_status"] = _payload(commit.status)
    if commit.answers:
        wire["answers"] = _answers(commit.answers)
    _add_turns(wire, commit)
    _add_end(wire, commit)
    return wire


def _add_turns(wire: dict[str, Any], commit: InstanceCommit) -> None:
    if commit.turns:
        wire["turns"] = [_payload(turn) for turn in commit.turns]
        wire["events"] = commit.events
    if commit.finished:
        wire["finished"] = commit.finished
    if commit.activities:
        wire["activities"] = [_new_activity(new) for new in commit.activities]
    if commit.cancelled:
        wire["cancelled"] = [
            {"command": asked.command, "event": _payload(asked.event)} for asked in commit.cancelled
        ]


def _add_end(wire: dict[str, Any], commit: InstanceCommit) -> None:
    if commit.closing is not None:
        wire["status"] = commit.closing.status
        wire["outcome"] = _payload(commit.closing.outcome)
    elif commit.suspended is not None:
        wire["status"] = "suspended"
        wire["outcome"] = _payload(commit.suspended)
    elif commit.continued is not None:
        wire["continued"] = _payload(commit.continued)
        wire["carried"] = _payload(commit.carried)


def _new_instance(new: NewInstance) -> dict[str, Any]:
    wire: dict[str, Any] = {}
    for name in NewInstance.__struct_fields__:
        value = getattr(new, name)
        if value or name in _ALWAYS:
            wire[name] = _payload(value) if isinstance(value, bytes) else value
    if new.attributes:
        wire["indexed"] = _indexed(new.attributes)
    return wire


def _indexed(attributes: bytes) -> str | msgspec.Raw:
    """Pack the rows of the index, which the scripts keep as they are; empty if there are none."""
    rows = [row if row.quantity is not None else row[:2] for row in index_rows(attributes)]
    return _payload(pack(rows)) if rows else ""


def _new_activity(new: NewActivity) -> dict[str, Any]:
    return {
        "command": new.command,
        "activity": new.activity,
        "queue": new.queue,
        "input": _payload(new.input),
        "options": _payload(new.options),
        "leased": new.leased,
        "priority": new.priority,
        "limit_key": new.limit_key,
    }


def _message(message: Message) -> dict[str, Any]:
    wire: dict[str, Any] = {"instance": message.instance, "event": _payload(message.event)}
    if message.execution is not None:
        wire["execution"] = message.execution
    if message.sent:
        wire["sent"] = _payload(message.sent)
    if message.failed:
        wire["failed"] = _payload(message.failed)
    if message.life is not None:
        wire["life"] = message.life
    if message.new is not None:
        wire["new"], wire["reuse"] = _new_instance(message.new), message.reuse
    if message.claim is not None:
        wire["claim"] = msgspec.structs.asdict(message.claim)
    if message.replacing is not None:
        before, after = parts_of_notice(child_terminated, message.replacing)
        parts = {"outcome": message.replacing, "before": before, "after": after}
        wire["replacing"] = {name: _payload(part) for name, part in parts.items()}
    if message.terminated:
        before, after = parts_of_notice(child_terminated, message.terminated)
        parts = {"outcome": message.terminated, "before": before, "after": after}
        wire["terminated"] = {name: _payload(part) for name, part in parts.items()}
    if message.unstarted:
        wire["unstarted"] = _unstarted(message.event, message.unstarted)
    return wire
