"""Plan what an execution begins with that takes over a part of another one's history.

Theory. A history is a list of turns; a reset keeps the first ones, the *prefix*, and drops the
rest. The code will replay the prefix, and wait then for what it waited for at that time. So all has
to be there that it waits for, and nothing may be done again that was done:

====================================  ==========================================================
of the prefix, or come after it        what becomes of it
====================================  ==========================================================
a command's answer, come in a          goes back into the inbox, in its order and with its time
dropped turn or unread
a signal, an update, a promise's       likewise (not in a fork: those were for the original)
value, in a dropped turn or unread
a cancel, in a dropped turn            likewise, if the instance has not ended; else forgotten,
                                       for it has done what it was for
an activity's failure, come in a       it is tried again from the beginning, under its idempotency
dropped turn, that has failed the      key, if no turn was named: see `failing`
instance, or suspended it
the same of a sub-workflow             that is reset as well, before this one, and goes on; or it
                                       begins anew, under its id, if it was removed, or that was
                                       another's
a sub-workflow's failure, and it was   that is none any more: it goes on, or its end is the answer
reset by itself since
an activity without an answer          its row is moved to the new execution, with its attempts,
                                       and keeps its idempotency key; if a worker runs it, that
                                       attempt is stopped and its result not taken
the same, and the prefix has           it has ended as cancelled
cancelled it
the same, and a dropped turn has       it begins anew, though it may have ended as cancelled
cancelled it
a sub-workflow without an answer       it goes on, with the new execution as its parent; if it has
                                       ended unheard, since its parent had, its end is the answer
the same, terminated unheard (with     it begins anew, under its id
its parent), or cancelled by a
dropped turn
the same, in a fork                    it begins anew, under an id that is derived from the fork's;
                                       the turn that called it is changed to name that
an activity of a dropped turn          it is cancelled; its result is not taken, whenever it comes
a sub-workflow of a dropped turn       it is terminated, if it has not ended
an update's answer in a dropped turn   the client has it; the second one of the request is dropped
a signal to another instance, or what  it counts as done: its turn has done it, or met nobody to
else was asked of one, without answer  do it to; the answer has gone with a terminate
a deadline                             the code sets it again when it replays; an overdue one has
                                       passed at its time
====================================  ==========================================================

What the dropped turns have done elsewhere is done: activities, signals to others, detached starts.

The planner reads, decides, and hands all of it to the store in one call, which takes it only if
nothing has changed meanwhile. In the first turn of the new history, `Started.origins` says whose
turns these were, for what code may have seen of that (`info()`, seeds).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import inf
from typing import Any

import msgspec

from trioflow._client.failing import has_failed
from trioflow._model import events as ev
from trioflow._model.attributes import encode_attributes
from trioflow._model.commands import (
    ActivityOptions,
    CancelActivity,
    CancelChild,
    CancelInstance,
    Command,
    RunActivity,
    SendSignal,
    SetShared,
    StartChild,
    StartDetached,
    TerminateInstance,
)
from trioflow._model.events import ParentRef, decode_event, encode_event
from trioflow._model.ids import derived_id
from trioflow._model.randomness import RandomSource
from trioflow._model.turns import Outcome, Turn, child_end, decode_turn, encode_turn
from trioflow._model.workflows import timeout_of
from trioflow.backends.commits import NewActivity, NewInstance
from trioflow.backends.records import ENDED, InstanceRecord, StoredMessage
from trioflow.backends.resets import Beginning, Returned

__all__ = ["Plan"]

_encode = msgspec.json.Encoder().encode
_decode_outcome: Any = msgspec.json.Decoder(Outcome).decode

_Answer = ev.ActivityAnswer | ev.ChildAnswer | ev.SignalAnswer | ev.RequestAnswer
_Failed = ev.ActivityFailed | ev.ChildFailed
_Asked = SendSignal | StartDetached | CancelInstance | TerminateInstance | SetShared
_ForAll = ev.Message | ev.PromiseResolved | ev.PromiseRejected


class Plan:
    """What an execution begins with that takes over the first turns of another one.

    Args:
        record: The row of the instance whose history it is.
        stored: All turns of its execution, in their stored form.
        turns: The same, decoded.
        keep: How many of them are kept.
        inbox: What is in its inbox.
        again: Ids of calls that are tried again if they have failed since.

    Attributes:
        beginning: What the store is to be given.
        adopted: The sub-workflows that go on.
    """

    def __init__(
        self,
        record: InstanceRecord,
        stored: Sequence[bytes],
        turns: Sequence[Turn],
        keep: int,
        inbox: Sequence[StoredMessage],
        *,
        again: Collection[str] = (),
    ) -> None:
        self._again = {*again}
        self._record = record
        self._stored, self._turns, self._dropped = stored[:keep], turns[:keep], turns[keep:]
        self._first = turns[0].events[0] if turns else None
        self._unread = [(decode_event(each.event), each.at) for each in inbox]
        self._later = self._when_it_came()
        self._given: dict[str, Command] = {}
        self._turn_of: dict[str, int] = {}
        self._cancels: dict[str, CancelActivity | CancelChild] = {}
        self._undone: set[str] = set()
        self._answered: set[str] = set()
        self.beginning = Beginning(attributes=record.attributes)
        self.adopted: list[str] = []
        self._look()

    def open_children(self) -> list[str]:
        """Return the ids of the sub-workflows whose rows `reset` has to know."""
        later = {
            event.id
            for event, _ in self._later
            if isinstance(event, _Answer) and not isinstance(event, ev.ChildFailed)
        }
        return [
            command.instance
            for command in self._open()
            if isinstance(command, StartChild) and command.id not in later
        ]

    def failed_children(self) -> list[tuple[str, ParentRef]]:
        """Return which sub-workflows are tried again, each with what its parent has to be."""
        return [
            (command.instance, self._parent(command))
            for command in self._open()
            if isinstance(command, StartChild)
            and command.id in self._again
            and command.id not in self._cancels
            and command.id not in self._undone
        ]

    def reset(self, children: Mapping[str, InstanceRecord], random: RandomSource) -> None:
        """Plan the next execution of the same instance.

        Args:
            children: The rows of `open_children` that there are.
            random: For the lives of sub-workflows that begin.
        """
        record = self._record
        me = (record.id, record.execution + 1, record.life)
        self._again.update(
            command.id
            for command in self._open()
            if isinstance(command, StartChild)
            and (row := children.get(command.instance)) is not None
            and row.parent == self._parent(command)
            and not has_failed(row)
            and command.id not in self._undone
        )
        self._keep_turns()
        self._return(messages=True)
        for command in self._open():
            if isinstance(command, RunActivity):
                self._restore(command, called_in=self._made_by(command.id).execution)
            else:
                self._keep_child(children.get(command.instance), command, me, random)

    def fork(self, new: NewInstance, random: RandomSource) -> NewInstance:
        """Plan the first execution of another instance; return that with its attributes."""
        self._keep_turns()
        self._return(messages=False)
        for command in self._open():
            if isinstance(command, RunActivity):
                self._restore(command, called_in=None)
            else:
                mine = derived_id(new.id, 1, command.id)
                own = msgspec.structs.replace(command, instance=mine)
                self._new_child(own, (new.id, 1, new.life), random)
                if own.id not in self._cancels:
                    self._call_instead(own)
        return msgspec.structs.replace(new, attributes=self.beginning.attributes)

    # --- reading ------------------------------------------------------------------------

    def _look(self) -> None:
        for number, turn in enumerate(self._turns):
            self._answered.update(each.id for each in turn.events if isinstance(each, _Answer))
            for command in turn.commands:
                if isinstance(command, CancelActivity | CancelChild):
                    self._cancels[command.id] = command
                else:
                    self._given[command.id] = command
                    self._turn_of[command.id] = number
        for turn in self._dropped:
            self._undone.update(
                command.id
                for command in turn.commands
                if isinstance(command, CancelActivity | CancelChild)
            )

    def _when_it_came(self) -> list[tuple[ev.Event, float]]:
        """Return what has come after the prefix, in its order, each with its time.

        That of a turn is its worker's, and may be later than the times of what came after it, by
        the store's clock. The order counts, and that of the times must be the same.
        """
        came = [
            (event, turn.at[number] if turn.at else turn.now)
            for turn in self._dropped
            for number, event in enumerate(turn.events)
        ]
        came += self._unread
        latest = inf
        for number in range(len(came) - 1, -1, -1):
            event, at = came[number]
            latest = min(at or inf, latest)  # 0 is not known
            if at > latest:
                came[number] = event, latest
        return came

    def _open(self) -> list[RunActivity | StartChild]:
        return [
            command
            for id, command in self._given.items()
            if id not in self._answered and isinstance(command, RunActivity | StartChild)
        ]

    def _parent(self, command: StartChild) -> ParentRef:
        """Return what a sub-workflow of the prefix has as its parent."""
        record = self._record
        return ParentRef(record.id, record.execution, command.id, record.life)

    def _made_by(self, command: str) -> ev.Origin:
        """Return which execution has given a command of the prefix."""
        number = self._turn_of[command]
        return next(origin for origin in self._origins() if number < origin.turns)

    def _origins(self) -> list[ev.Origin]:
        """Return who has made the turns of the prefix."""
        record, keep = self._record, len(self._turns)
        before = self._first.origins if isinstance(self._first, ev.Started) else []
        older = [
            msgspec.structs.replace(origin, turns=min(origin.turns, keep)) for origin in before
        ]
        origins = [*older, ev.Origin(record.id, record.execution, keep)]
        return [
            origin
            for number, origin in enumerate(origins)
            if number == 0 or origin.turns > origins[number - 1].turns
        ]

    # --- planning -----------------------------------------------------------------------

    def _keep_turns(self) -> None:
        begin, first = self.beginning, self._first
        if not isinstance(first, ev.Started):
            return  # it has not begun: its row has all
        begin.attributes = encode_attributes(first.attributes)
        begin.carried = _encode(first.carried) if first.carried else b""
        if not self._turns:
            return
        started = msgspec.structs.replace(first, origins=self._origins())
        one = self._turns[0]
        one = msgspec.structs.replace(one, events=[started, *one.events[1:]])
        begin.turns = [encode_turn(one), *self._stored[1:]]
        begin.wake_at = self._turns[-1].now
        begin.events = sum(len(turn.events) + len(turn.commands) for turn in self._turns)

    def _call_instead(self, command: StartChild) -> None:
        """Have the prefix call another sub-workflow than it did."""
        number = self._turn_of[command.id]
        turn = decode_turn(self.beginning.turns[number])
        commands = [command if each.id == command.id else each for each in turn.commands]
        self.beginning.turns[number] = encode_turn(msgspec.structs.replace(turn, commands=commands))

    def _return(self, *, messages: bool) -> None:
        """Put back into the inbox what has come after the prefix and is not undone."""
        ended = self._record.status in ENDED
        dropped = sum(len(turn.events) for turn in self._dropped)
        self._take_for_done()
        for number, (event, at) in enumerate(self._later):
            own = isinstance(event, ev.ActivityAnswer | ev.ChildAnswer)
            if isinstance(event, _Answer):
                if not self._counts(event):
                    continue
                self._answered.add(event.id)
            elif isinstance(event, ev.CancelRequested):
                if not messages or (ended and number < dropped):
                    continue
            elif not messages or not isinstance(event, _ForAll):
                continue
            self.beginning.inbox.append(Returned(encode_event(event), at, own=own))

    def _take_for_done(self) -> None:
        """Answer what other instances were asked, and whose answer went with a terminate."""
        later = {event.id for event, _ in self._later if isinstance(event, _Answer)}
        for id, command in self._given.items():
            if isinstance(command, _Asked) and id not in self._answered | later:
                signal = isinstance(command, SendSignal)
                done = ev.SignalSent(id) if signal else ev.RequestDone(id)
                at = min([self._turns[-1].now, *(at for _, at in self._later if at)])
                self.beginning.inbox.append(Returned(encode_event(done), at))

    def _counts(self, answer: Any) -> bool:
        """Whether an answer is one to the prefix, and not to a cancel that is undone."""
        if answer.id not in self._given or answer.id in self._answered:
            return False
        if isinstance(answer, _Failed) and answer.id in self._again:
            return answer.id in self._cancels  # a cancel of the prefix is not undone
        stopped = isinstance(answer, ev.ActivityCancelled | ev.ChildCancelled)
        return not (stopped and answer.id in self._undone)

    def _answer(self, event: ev.Event, at: float) -> None:
        self.beginning.inbox.append(Returned(encode_event(event), at, own=True))

    def _restore(self, command: RunActivity, *, called_in: int | None) -> None:
        """Have an activity run that has no result, or say that it was cancelled."""
        if command.id in self._cancels:
            reason = self._cancels[command.id].reason
            self._answer(ev.ActivityCancelled(command.id, reason), self._turns[-1].now)
            return
        options = command.options
        if called_in is not None:
            options = msgspec.structs.replace(options or ActivityOptions(), execution=called_in)
        self.beginning.activities.append(
            NewActivity(
                command.id,
                command.activity,
                command.queue,
                bytes(command.input),
                b"" if options is None else _encode(options),
                leased=False,
                priority=command.priority,
            )
        )

    def _keep_child(
        self,
        found: InstanceRecord | None,
        command: StartChild,
        me: tuple[str, int, str],
        random: RandomSource,
    ) -> None:
        """Keep a sub-workflow that has not answered, or take its end that nobody was told."""
        record = self._record
        mine = found is not None and found.parent == self._parent(command)
        if found is None or not mine or command.id in self._undone:
            self._new_child(command, me, random)
        elif found.status not in ENDED:
            self.adopted.append(found.id)
        elif found.status == "terminated":
            self._new_child(command, me, random)
        else:
            at = found.finished_at or record.created_at
            self._answer(child_end(_decode_outcome(found.outcome), command.id), at)

    def _new_child(
        self, command: StartChild, me: tuple[str, int, str], random: RandomSource
    ) -> None:
        if command.id in self._cancels:
            reason = self._cancels[command.id].reason
            self._answer(ev.ChildCancelled(command.id, reason), self._turns[-1].now)
            return
        id, execution, life = me
        metadata = self._record.metadata if command.metadata is None else _encode(command.metadata)
        self.beginning.children.append(
            NewInstance(
                command.instance,
                command.workflow,
                command.queue,
                bytes(command.input),
                ParentRef(id, execution, command.id, life),
                metadata,
                command.priority,
                random.new_life(),
                command.start_at,
                b"" if command.options is None else _encode(command.options),
                encode_attributes(command.attributes),
                timeout=timeout_of(None, command.options),
            )
        )
