"""Resets and forks: another try from a turn of an instance's history; see `resetting`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import anyio
import msgspec

from trioflow._client.description import decode_report
from trioflow._client.failing import failed_calls, first_turn_to_drop, has_failed
from trioflow._client.resetting import Plan
from trioflow._codec.failures.failures import Failure
from trioflow._codec.limits import check_reason
from trioflow._codec.values import Codec, seal_text
from trioflow._model.commands import ClaimShared, ReleaseShared, StartOptions
from trioflow._model.events import (
    ParentRef,
    RequestDone,
    SignalReceived,
    Started,
    decode_event,
)
from trioflow._model.info import SuspendReport
from trioflow._model.shared import shared_words
from trioflow._model.turns import Failed, Reset, Turn, decode_turn, encode_turn
from trioflow.backends.commits import NewInstance
from trioflow.backends.records import Effect, InstanceRecord, StoredMessage
from trioflow.backends.resets import Reset as NewExecution
from trioflow.errors import (
    ArgumentError,
    CorruptStore,
    InstanceAlreadyExists,
    InstanceNotFound,
    InstanceTerminated,
    TrioflowError,
)

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["fork_instance", "reset_instance", "resume_instance"]

_encode = msgspec.json.Encoder().encode

_PATIENT = 3  # tries until an instance that makes turns all the time is paused for it
_TRIES = 20
_LETTING_GO = 10.0  # seconds
_HELD = _encode(SuspendReport(kind="paused", message="it is being reset; resume() lets it go on"))


async def resume_instance(
    client: Client, id: str, life: str | None, without: str | None = None
) -> Effect:
    """Let a suspended instance try again; see `Handle.resume`."""
    if without is not None:
        await _resume_without(client, id, life, without)
        return "done"
    revived: set[str] = set()
    for _ in range(_TRIES):
        record = await client.backend.get(id)
        if record is None or life not in (None, record.life):
            break  # the store says whether it is missing or has ended
        report = _report(record)
        if report is None or (not report.failed and report.began is None):
            break
        # The failure of the call waits in the inbox, or what was raised is in a turn that is
        # stored: it would be raised again at once. Only another execution can be without it.
        why = "resumed, to try again what had failed"
        if report.failed:
            why += f": {', '.join(report.failed)}"
        try:
            sealed = seal_text(client.codec, why)
            if await _try_reset(client, record, None, None, sealed, revived):
                client.waiter.look_again(id)
                return "done"
        except ArgumentError:
            break  # it has a lock: then it has to do with the failure
    return await client.backend.resume(id, life=life)


async def _resume_without(client: Client, id: str, life: str | None, signal: str) -> None:
    """Let a suspended instance go on, in another execution, without some unread signals."""
    why = seal_text(client.codec, f"resumed without its unread signals {signal!r}")
    for _ in range(_TRIES):
        record = await _record(client, id, life)
        if record.status != "suspended":
            raise ArgumentError(
                f"instance {id!r} is {record.status}: only of one that is suspended signals can be "
                "left out, since a worker may be receiving them; call pause() before"
            )
        stored, turns = await _turns_of(client, record)
        inbox = await client.backend.inbox(id)
        rest = [message for message in inbox if not _is_signal(message, signal)]
        if len(rest) == len(inbox):
            raise ArgumentError(
                f"instance {id!r} has no signal {signal!r} in its inbox. One that came in a turn "
                "that is stored is part of its history: reset(turn=…) goes back to before a turn"
            )
        _check_shared(record, turns)
        plan = Plan(record, stored, turns, len(turns), rest)
        if await _store(client, record, plan, inbox, len(turns), why):
            client.waiter.look_again(id)
            return
    raise TrioflowError(f"instance {id!r} was not resumed: its inbox changed all the time")


def _is_signal(message: StoredMessage, name: str) -> bool:
    event = decode_event(message.event)
    return isinstance(event, SignalReceived) and event.name == name


def _report(record: InstanceRecord) -> SuspendReport | None:
    """Return why an instance is suspended by its own code, ``None`` for anything else."""
    if record.status != "suspended":
        return None
    report = decode_report(record.outcome)
    return report if report.kind == "raised" else None


async def reset_instance(  # noqa: PLR0917 - what `Handle.reset` has
    client: Client,
    id: str,
    life: str | None,
    turn: int | None,
    execution: int | None,
    reason: str | None,
) -> None:
    """Let an instance go on from before a turn; see `Handle.reset`."""
    why = seal_text(client.codec, check_reason(reason))
    held = False
    revived: set[str] = set()
    try:
        for attempt in range(_TRIES):
            record = await _record(client, id, life)
            life = record.life
            if attempt >= _PATIENT and record.status == "running":
                held = True
                await client.backend.suspend(id, _HELD, life=life)
                record = await _record(client, id, life)
            if await _try_reset(client, record, turn, execution, why, revived):
                held = False
                client.waiter.look_again(id)
                return
    finally:
        if held:
            with anyio.move_on_after(_LETTING_GO, shield=True):
                await _let_go(client, id, life)
    raise TrioflowError(
        f"instance {id!r} was not reset: each time when its history was read, it had changed until "
        "the reset was to be stored. Try again when less happens to it"
    )


async def _let_go(client: Client, id: str, life: str | None) -> None:
    """Resume an instance that was held for a reset which was not made."""
    record = await client.backend.get(id)
    if record is not None and record.life == life and record.outcome == _HELD:
        await client.backend.resume(id, life=life)


async def _try_reset(  # noqa: PLR0917 - what `reset_instance` has
    client: Client,
    record: InstanceRecord,
    turn: int | None,
    execution: int | None,
    why: str | None,
    revived: set[str],
) -> bool:
    """Reset an instance as it was just read; return False if it has changed since.

    Args:
        client: The client.
        record: The instance.
        turn: As in `Handle.reset`.
        execution: As in `Handle.reset`.
        why: The sealed reason.
        revived: The sub-workflows that earlier tries have reset. They are not reset once more: one
            that has failed again has had its try, and its parent goes on with that failure.
    """
    _check_execution(record, execution)
    stored, turns = await _turns_of(client, record)
    keep, again = _checked(record, turns, turn, client.codec)
    _check_shared(record, turns[:keep])
    inbox = await client.backend.inbox(record.id)
    plan = Plan(record, stored, turns, keep, inbox, again=again)
    for child, parent in plan.failed_children():
        if child not in revived:
            await _revive(client, child, parent, why, revived)
    return await _store(client, record, plan, inbox, keep, why)


async def _revive(
    client: Client, id: str, parent: ParentRef, why: str | None, revived: set[str]
) -> None:
    """Reset a sub-workflow by which its parent has failed; the parent's own reset follows.

    If this breaks off before that, the sub-workflow goes on alone, and the next reset of the parent
    finds it, or its end.
    """
    for _ in range(_TRIES):
        record = await client.backend.get(id)
        if record is None or record.parent != parent or not has_failed(record):
            return
        try:
            if await _try_reset(client, record, None, None, why, revived):
                revived.add(id)
                client.waiter.look_again(id)
                return
        except ArgumentError as exc:
            raise ArgumentError(
                f"instance {parent.instance!r} has failed by its sub-workflow {id!r}, and that "
                f"cannot be reset with it: {exc}. Reset the sub-workflow first, with turn=…; then "
                "a reset of this one waits for it"
            ) from exc
    raise TrioflowError(f"sub-workflow {id!r} was not reset: it was changed all the time")


async def _keeps_parent(client: Client, record: InstanceRecord) -> bool:
    """Whether a parent has failed, or is suspended, by an instance that had ended.

    Such a parent was told, but a reset of its own lets it wait for the next end.
    """
    ref = record.parent
    parent = (
        None if ref is None or not has_failed(record) else await client.backend.get(ref.instance)
    )
    if ref is None or parent is None:
        return False
    if (parent.life, parent.execution) != (ref.life, ref.execution):
        return False
    report = _report(parent)
    if report is not None:
        return ref.command in report.failed
    if parent.status != "failed":
        return False
    _, turns = await _turns_of(client, parent)
    return ref.command in failed_calls(
        turns, _to_be_mended(parent, turns, client.codec), client.codec
    )


async def _store(  # noqa: PLR0917 - what is planned, and of what
    client: Client,
    record: InstanceRecord,
    plan: Plan,
    inbox: Sequence[StoredMessage],
    keep: int,
    why: str | None,
) -> bool:
    """Store a reset if nothing has changed since it was planned; return whether."""
    found = [await client.backend.get(child) for child in plan.open_children()]
    plan.reset({child.id: child for child in found if child is not None}, client.random)
    left = Turn(now=client.backend.now(), events=[], reset=Reset(keep, why))
    error = InstanceTerminated(record.id, "its parent was reset to before it was started")
    done = await client.backend.reset(
        NewExecution(
            id=record.id,
            life=record.life,
            execution=record.execution,
            turns=record.turns,
            inbox=[message.seq for message in inbox],
            ending=encode_turn(left),
            beginning=plan.beginning,
            adopted=plan.adopted,
            keeps_parent=await _keeps_parent(client, record),
            outcome=_encode(Failed(Failure.of(error, client.codec))),
        )
    )
    return done == "done"


async def fork_instance(client: Client, id: str, turn: int | None, new_id: str) -> NewInstance:
    """Create an instance with the first turns of another, and return it; see `Client.fork`."""
    record = await _record(client, id, None)
    for _ in range(_TRIES):
        stored, turns = await _turns_of(client, record)
        inbox = await client.backend.inbox(id)
        seen, record = record, await _record(client, id, None)
        # Or a message that was read from the inbox in between would be in neither of the two.
        if _place(record) == _place(seen):
            break
    else:
        raise TrioflowError(
            f"instance {id!r} makes turns all the time, so that its history could not be read as "
            "of one moment: pause() first, then fork(), then resume()"
        )
    keep, again = _checked(record, turns, turn, client.codec)
    _check_shared(record, turns[:keep])
    plan = Plan(record, stored, turns, keep, inbox, again=again)
    new = NewInstance(
        new_id,
        record.workflow,
        record.queue,
        record.input,
        metadata=record.metadata,
        priority=record.priority,
        life=client.random.new_life(),
        options=_options(record, turns, keep, client.backend.now()),
    )
    new = plan.fork(new, client.random)
    if not await client.backend.fork(new, plan.beginning):
        raise InstanceAlreadyExists(new_id)
    return new


def _place(record: InstanceRecord) -> tuple[str, int, int]:
    """Return how far an instance is."""
    return record.life, record.execution, record.turns


def _options(record: InstanceRecord, turns: list[Turn], keep: int, now: float) -> bytes:
    """Return the start options of a fork, as the first turn of the other one shows them.

    One that begins anew has as long as the other one had. Else both have the same deadline, which
    its next executions take from here.
    """
    first = turns[0].events[0] if turns else None
    if not isinstance(first, Started):
        return b""
    timeout = None
    if first.deadline_at is not None:
        # A worker that starts an instance itself takes the time of its first turn, not the row's.
        began_at = min(turns[0].now, max(record.created_at, record.start_at))
        timeout = max(first.deadline_at - (now if keep else began_at), 0.0)
    options = StartOptions(timeout, first.max_events or None, first.schedule)
    return b"" if options == StartOptions() else _encode(options)


async def _record(client: Client, id: str, life: str | None) -> InstanceRecord:
    record = await client.backend.get(id)
    if record is None or life not in (None, record.life):
        raise InstanceNotFound(id)
    return record


async def _turns_of(client: Client, record: InstanceRecord) -> tuple[list[bytes], list[Turn]]:
    (stored,) = await client.backend.load([(record.id, record.execution)])
    stored = stored[: record.turns]
    try:
        return stored, [decode_turn(data) for data in stored]
    except msgspec.MsgspecError as exc:
        raise CorruptStore(f"the history of instance {record.id!r} cannot be read: {exc}") from exc


def _check_execution(record: InstanceRecord, execution: int | None) -> None:
    """Refuse turns of an execution that is not the last one.

    What came after it, was done by others: their activities and sub-workflows have the ids of its
    own, and the messages to it have been received elsewhere.
    """
    if execution is None:
        return
    last = record.execution
    if type(execution) is not int or not 1 <= execution <= last:
        raise ArgumentError(
            f"instance {record.id!r} has no execution {execution!r}: its last one is {last}"
        )
    if execution != last:
        raise ArgumentError(
            f"execution {execution} of instance {record.id!r} is not its last one any more, that "
            f"is {last}. Only the last execution can be reset: another one has gone on with what "
            "it left. Reset that, or start an instance with the arguments of the earlier one; "
            "handle.history() shows them"
        )


def _checked(
    record: InstanceRecord, turns: list[Turn], turn: int | None, codec: Codec
) -> tuple[int, Collection[str]]:
    """Return how many turns are kept: those before ``turn``, or before what is to be mended.

    And the ids of the activities whose failure that was: they are tried again. Whoever names a turn
    gets what has come since as it came.
    """
    if turn is None:
        keep = _to_be_mended(record, turns, codec)
        if record.status == "failed":
            return keep, failed_calls(turns, keep, codec)
        report = _report(record)
        return keep, () if report is None else report.failed
    if type(turn) is not int:
        raise ArgumentError(
            f"reset() takes the number of a turn, not {turn!r}; a reason is given by its name: "
            "reset(reason=…)"
        )
    last = len(turns) - 1 if turns and turns[-1].outcome is not None else len(turns)
    if not 0 <= turn <= last:
        raise ArgumentError(
            f"instance {record.id!r} has no turn {turn} to go back to: turns are numbered from 0, "
            f"and its execution {record.execution} can go on from before turn 0 to {last}"
        )
    return turn, ()


def _check_shared(record: InstanceRecord, kept: list[Turn]) -> None:
    """Refuse turns after which something shared is held, or waited for: that was the execution's.

    Another execution that began in the middle of a block would do as if it had the lock.
    """
    claims = _open_claims(kept)
    if not claims:
        return
    number = len(kept)
    while open_ := _open_claims(kept[:number]):
        number = min(turn for turn, _ in open_)
    which = shared_words(min(name for _, name in claims))
    raise ArgumentError(
        f"instance {record.id!r} holds or waits for {which} when turn {len(kept)} begins, and by "
        f"now others may have it. So it can only go on from a turn before it asked "
        f"for it, the last of which is that of "
        f"client.handle({record.id!r}).reset(turn={number})"
    )


def _open_claims(turns: list[Turn]) -> list[tuple[int, str]]:
    """Return what is held or waited for after these turns, each with the turn that asked for it."""
    claims: dict[str, tuple[int, str]] = {}
    answered = {
        event.id for turn in turns for event in turn.events if isinstance(event, RequestDone)
    }
    for number, turn in enumerate(turns):
        for command in turn.commands:
            if isinstance(command, ClaimShared):
                if command.size or command.id not in answered:
                    claims[command.id] = number, command.name
            elif isinstance(command, ReleaseShared):
                claims.pop(command.id, None)
    return list(claims.values())


def _to_be_mended(record: InstanceRecord, turns: list[Turn], codec: Codec) -> int:
    if record.status == "failed" and turns:
        return first_turn_to_drop(turns, codec)
    if record.status == "suspended":
        report = decode_report(record.outcome)
        if report.kind == "raised" and report.began is not None:
            return min(report.began, len(turns))
        return min(report.turn, len(turns)) if report.kind == "diverged" else len(turns)
    if record.status == "terminated":
        return len(turns)
    raise ArgumentError(
        f"instance {record.id!r} is {record.status}, so nothing says where it went wrong: name the "
        "turn from which it is to go on, turn=…; handle.history() shows them"
    )
