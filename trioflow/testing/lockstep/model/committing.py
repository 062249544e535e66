"""What the model does with a batch of units: judge them all, then write those that can be stored.

First everything that the units say of their own instances and activities is written, then messages
are delivered, then activities cancelled, then activities given back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trioflow.backends._common.notices import id_taken
from trioflow.backends.commits import (
    ActivityRetry,
    CommitFailure,
    InstanceCommit,
    Message,
    SharedClaim,
    Unit,
)
from trioflow.backends.records import ENDED, ActivityKey, RequestKey
from trioflow.testing.claims import Claimant
from trioflow.testing.lockstep.model.rows import Activity, Instance
from trioflow.testing.lockstep.model.state import State

__all__ = ["commit"]


class _Sent(NamedTuple):
    """A message on its way: the id of its sender, and when it came."""

    sender: str
    message: Message
    at: float


class _Judged(NamedTuple):
    """Why a unit cannot be stored, or which of its children are not born, by their places in it."""

    failure: CommitFailure | None
    unborn: frozenset[int] = frozenset()


def commit(
    state: State, worker: str, units: Sequence[Unit], now: float
) -> list[CommitFailure | None]:
    """Write what can be stored of a living worker's batch; return what `Backend.commit` does."""
    born: set[str] = set()
    judged = [_judge(state, worker, unit, born) for unit in units]
    stored = [(unit, each) for unit, each in zip(units, judged, strict=True) if not each.failure]
    sent: list[_Sent] = []
    cancels: list[tuple[ActivityKey, bytes]] = []
    for unit, (_, unborn) in stored:
        for place, one in enumerate(unit.instances):
            if place in unborn:
                sent += _refusal(one, now)
                continue
            row = _write(state, worker, one, now)
            cancels += [(row.key(asked.command), asked.event) for asked in one.cancelled]
            _settle(state, worker, row, one, now)
            sent += [_Sent(one.id, message, now) for message in one.messages]
        state.limiting.keep(worker, unit)
        _note_progress(state, worker, unit)
        sent += _results(state, worker, unit, now)
    for each in sent:
        _send(state, each, now)
    for key, event in cancels:
        _cancel(state, key, event, now)
    for unit, _ in stored:
        for retry in unit.retries:
            _retry(state, worker, retry, now)
    failures = [each.failure for each in judged]
    for failure in failures:
        for id in failure.unseen if failure else ():
            state.instances[id].ready_by(now)
    return failures


# --- judging ------------------------------------------------------------------------------------


def _judge(state: State, worker: str, unit: Unit, born: set[str]) -> _Judged:
    """Judge a unit by what was stored before the batch.

    Args:
        state: What is stored.
        worker: Who commits it.
        unit: The unit.
        born: The ids of what the units before it create. Those of this one are added if it can be
            stored.
    """
    limited = [one.id for one in unit.instances if state.limiting.is_over(one)]
    failure = CommitFailure(limited=limited)
    unborn: set[int] = set()
    before: dict[str, InstanceCommit] = {}
    for place, one in enumerate(unit.instances):
        row = state.instances.get(one.id)
        first = before.setdefault(one.id, one)
        if one.new is None:
            _judge_step(worker, one, row, failure)
            continue
        finished = row is not None and row.status in ENDED
        free = (row is None or finished) and first is one and one.id not in born
        ended_before = first is not one and first.closing is not None
        may_be_refused = one.new.parent is not None and not one.turns
        if ended_before or (finished and one.turns) or not (free or may_be_refused):
            failure.taken_ids.append(one.id)
        elif not free:
            unborn.add(place)
    if failure != CommitFailure():
        return _Judged(failure)
    born.update(one.id for one in unit.instances if one.new is not None)
    return _Judged(None, frozenset(unborn))


def _judge_step(
    worker: str, one: InstanceCommit, row: Instance | None, failure: CommitFailure
) -> None:
    consumed = set(one.consumed)
    if (
        row is None
        or row.status != "running"
        or row.worker != worker
        or (row.execution, row.turns) != (one.execution, one.number)
        or row.new.life != one.life
        or len(consumed) < len(one.consumed)
        or not consumed <= row.inbox.keys()
    ):
        failure.lost.append(one.id)
    elif one.closing is not None and consumed != row.inbox.keys():
        failure.unseen.append(one.id)


# --- writing ------------------------------------------------------------------------------------


def _write(state: State, worker: str, one: InstanceCommit, now: float) -> Instance:
    """Write the rows that an instance's commit adds and deletes; return the instance's own."""
    if one.new is not None:
        state.insert(one.new, now).worker = worker
    row = state.instances[one.id]
    if one.turns:
        state.turns.setdefault((one.id, row.execution), []).extend(one.turns)
        row.turns += len(one.turns)
        row.events = one.events
    for seq in one.consumed:
        del row.inbox[seq]
    for command in one.finished:
        state.activities.pop(row.key(command), None)
    for answer in one.answers:
        request = RequestKey(one.id, row.new.life, answer.request)
        if request in state.requests and state.requests[request] is None:
            state.requests[request] = answer.data
    for new in one.activities:
        holder = worker if new.leased else None
        state.activities[row.key(new.command)] = Activity(new, now, now, holder)
    return row


def _settle(state: State, worker: str, row: Instance, one: InstanceCommit, now: float) -> None:
    """Write what becomes of the instance itself."""
    if one.status is not None:
        row.custom_status = one.status
    if one.attributes is not None:
        row.attributes = one.attributes
    if one.turns:
        row.suspect, row.deaths = False, 0
    if one.closing is not None:
        row.end(one.closing.status, one.closing.outcome, now)
        return
    row.wake_at, row.held_at = one.wake_at, now
    if one.new is not None and one.new.timeout and not one.turns and one.continued is None:
        row.wake_at = one.new.first_wake_at(now)
    if one.suspended is not None or not one.leased:
        row.give_back()
    if one.suspended is not None:
        row.status, row.outcome, row.ready_at = "suspended", one.suspended, None
        return
    if not one.leased and (one.new is None or one.turns):
        row.sticky_worker = worker
    if one.continued is not None:
        state.keep("continued", row, input=b"", metadata=b"", finished_at=now)
        _continue(row, one.continued, one.carried)
    unbegun = not row.turns and (one.new is not None or one.continued is not None)
    due = one.due or bool(row.inbox) or (unbegun and not one.leased)
    row.ready_at = row.first_ready(now) if due else one.wake_at


def _continue(row: Instance, input: bytes, carried: bytes) -> None:
    for seq in [seq for seq, mail in row.inbox.items() if mail.execution == row.execution]:
        del row.inbox[seq]
    row.execution += 1
    row.turns = row.events = 0
    row.input, row.carried = input, carried


def _note_progress(state: State, worker: str, unit: Unit) -> None:
    for each in unit.progress:
        activity = state.activities.get(each.key)
        if activity is not None and activity.worker == worker:
            activity.progress = each.progress


def _results(state: State, worker: str, unit: Unit, now: float) -> Iterator[_Sent]:
    for result in unit.results:
        key = result.key
        activity = state.activities.get(key)
        if activity is not None and activity.worker == worker:
            del state.activities[key]
            at = now if result.at is None else min(result.at, now)
            event = Message(key.instance, result.event, execution=key.execution, life=key.life)
            yield _Sent(key.instance, event, at)


def _refusal(one: InstanceCommit, now: float) -> Iterator[_Sent]:
    if one.new is not None and one.new.parent is not None:
        yield _Sent(one.id, id_taken(one.id, one.new.parent), now)


def _send(state: State, sent: _Sent, now: float) -> None:
    message = sent.message
    if message.claim is not None:
        _claim(state, message, message.claim, now)
        return
    if message.new is not None:
        if message.replacing is not None:
            state.terminate(message.instance, message.replacing, None, now)
        done = state.create(message.new, now, reuse=message.reuse)
    elif message.terminated:
        done = state.terminate(message.instance, message.terminated, message.life, now)
    else:
        done = state.deliver_or_end(message, now, sent.at)
    reply = message.sent if done else message.failed
    if reply:
        state.deliver(Message(sent.sender, reply), now)


def _claim(state: State, message: Message, claim: SharedClaim, now: float) -> None:
    who = Claimant(message.instance, message.life or "", message.execution or 0, claim.command)
    state.now = now
    match claim.how:
        case "take":
            state.shared.take(claim.name, who, claim.size, message.event)
        case "free":
            state.shared.free(claim.name, who)
        case _:
            state.deliver(message, now)
            state.shared.put(claim.name, value=claim.how == "set")


def _cancel(state: State, key: ActivityKey, event: bytes, now: float) -> None:
    activity = state.activities.get(key)
    if activity is None:
        return  # it has ended: its result is in the inbox
    if activity.worker is None:
        state.end_cancelled(key, event, now)
    else:
        activity.cancel = event


def _retry(state: State, worker: str, retry: ActivityRetry, now: float) -> None:
    activity = state.activities.get(retry.key)
    if activity is None or activity.worker != worker:
        return
    if activity.cancel is not None:
        state.end_cancelled(retry.key, activity.cancel, now)
        return
    activity.worker, activity.attempt = None, retry.attempt
    activity.visible_at, activity.failure = retry.visible_at, retry.failure
