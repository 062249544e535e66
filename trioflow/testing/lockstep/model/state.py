"""All rows of the model, and what several of its methods do with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from trioflow._model.limits import Limit
from trioflow.backends._common.notices import (
    asked_by,
    child_cancelled,
    child_terminated,
    run_has_ended,
)
from trioflow.backends.commits import Message, NewInstance
from trioflow.backends.records import ENDED, ActivityKey, EndedExecution, RequestKey
from trioflow.testing.claims import Claimant, SharedClaims
from trioflow.testing.lockstep.model.limiting import Limiting
from trioflow.testing.lockstep.model.rows import Activity, Instance, Mail, Question, Worker

__all__ = ["State"]


@dataclass
class State:
    """What is stored. ``turns`` are those of each execution; instances are in order of creation."""

    workers: dict[str, Worker] = field(default_factory=dict[str, Worker])
    instances: dict[str, Instance] = field(default_factory=dict[str, Instance])
    turns: dict[tuple[str, int], list[bytes]] = field(
        default_factory=dict[tuple[str, int], list[bytes]]
    )
    activities: dict[ActivityKey, Activity] = field(default_factory=dict[ActivityKey, Activity])
    requests: dict[RequestKey, bytes | None] = field(default_factory=dict[RequestKey, bytes | None])
    executions: dict[tuple[str, int], EndedExecution] = field(
        default_factory=dict[tuple[str, int], EndedExecution]
    )
    questions: dict[str, Question] = field(default_factory=dict[str, Question])
    shared: SharedClaims[bytes] = field(init=False)
    limiting: Limiting = field(default_factory=Limiting)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.now = 0.0
        self.shared = SharedClaims(self._is_there, self._grant)

    def _is_there(self, who: Claimant) -> bool:
        return self.unfinished(who.instance, who.execution, who.life) is not None

    def _grant(self, who: Claimant, event: bytes) -> None:
        message = Message(who.instance, event, execution=who.execution, life=who.life)
        self.deliver(message, self.now)

    # --- instances ----------------------------------------------------------------------

    def unfinished(
        self, id: str, execution: int | None = None, life: str | None = None
    ) -> Instance | None:
        """Return the unfinished instance that is meant, if there is one."""
        row = self.instances.get(id)
        if row is None or row.status in ENDED:
            return None
        if execution not in (None, row.execution) or life not in (None, row.new.life):
            return None
        return row

    def insert(self, new: NewInstance, now: float) -> Instance:
        """Add an instance; a finished one that has the id is replaced."""
        old = self.instances.pop(new.id, None)
        execution = 1
        if old is not None:
            self.keep("ended", old)
            execution = old.execution + 1
            self.stop_activities(new.id)
        row = Instance(new, execution, execution, now, new.input, attributes=new.attributes)
        row.wake_at = new.first_wake_at(now)
        self.instances[new.id] = row
        return row

    def create(self, new: NewInstance, now: float, *, reuse: bool) -> bool:
        """Create an instance that nobody holds; return whether its id was free."""
        if new.id in self.instances and (not reuse or self.unfinished(new.id) is not None):
            return False
        row = self.insert(new, now)
        row.ready_at = row.first_ready(now)
        return True

    def terminate(self, id: str, outcome: bytes, life: str | None, now: float) -> bool:
        """End an instance and its unfinished descendants; return whether it was unfinished."""
        row = self.unfinished(id, life=life)
        if row is None:
            return False
        family = [row]
        for parent in family:  # it grows meanwhile
            family += [one for one in self._children(parent) if one not in family]
        for one in family:
            one.end("terminated", outcome, now)
            self.stop_activities(one.new.id)
        self.now = now
        self.shared.forget(one.new.id for one in family)
        if row.new.parent is not None:
            self.deliver(child_terminated(outcome, row.new.parent), now)
        else:
            self._tell_schedule(row, "terminated", now)
        return True

    def _tell_schedule(self, row: Instance, status: str, now: float) -> None:
        notice = run_has_ended(row.new.options, row.new.id, status)
        if notice is not None:
            self.deliver(notice, now)

    def _children(self, parent: Instance) -> list[Instance]:
        """Return the unfinished children of an instance."""
        return [
            row
            for row in self.instances.values()
            if row.status not in ENDED
            and (ref := row.new.parent) is not None
            and (ref.instance, ref.life) == (parent.new.id, parent.new.life)
        ]

    def keep(
        self, how: Literal["continued", "reset", "ended"], row: Instance, **differing: Any
    ) -> None:
        """Keep the row of an execution that ended, but for some fields that differ."""
        record = msgspec.structs.replace(
            row.record(), unread=0, ready_at=None, worker=None, **differing
        )
        self.executions[row.new.id, row.execution] = EndedExecution(how, record)

    # --- limits -------------------------------------------------------------------------

    def set_limit(self, limit: Limit) -> None:
        """Set a limit; of a workflow, count what has begun."""
        limiting, named = self.limiting, (limit.kind, limit.name)
        before = limiting.limits.get(named)
        if before is not None and before.per != limit.per:
            limiting.begun.pop(named, None)
        limiting.limits[named] = limit
        if before is not None and limit.key is None:
            self.forget_keys(before)
        limiting.changes += 1
        if limit.kind == "workflow" and before is None:  # otherwise it is known who has begun
            for row in self.instances.values():
                if row.new.workflow == limit.name:
                    begun = bool(row.turns) or row.worker is not None or row.suspect
                    if begun or row.execution > row.first_execution:
                        limiting.admitted.add((row.new.id, row.new.life))

    def remove_limit(self, kind: str, name: str) -> bool:
        """Remove a limit; return whether there was one."""
        limiting = self.limiting
        before = limiting.limits.pop((kind, name), None)
        if before is None:
            return False
        limiting.begun.pop((kind, name), None)
        limiting.changes += 1
        self.forget_keys(before)
        if kind == "workflow":
            for row in self.instances.values():
                if row.new.workflow == name:
                    limiting.admitted.discard((row.new.id, row.new.life))
        return True

    def forget_keys(self, limit: Limit) -> None:
        """Make activities forget the keys that they have by a limit which has none any more."""
        if limit.key is None:
            return
        for one in self.activities.values():
            own = self.limiting.limits.get(("activity", one.new.activity))
            kept = limit.kind == "queue" and own is not None and own.key is not None
            if limit.name == getattr(one.new, limit.kind) and not kept:
                one.new = msgspec.structs.replace(one.new, limit_key="")

    # --- inboxes ------------------------------------------------------------------------

    def deliver(self, message: Message, now: float, at: float | None = None) -> bool:
        """Put an event into an inbox; return whether its target is there and unfinished.

        ``at`` is when it came, ``None`` for ``now``. What else the message says does not matter.
        """
        row = self.unfinished(message.instance, message.execution, message.life)
        if row is None:
            return False
        mail = Mail(message.event, message.execution, now if at is None else at)
        row.inbox[next(self.numbers)] = mail
        if row.status == "running" and row.first_ready(now) == now:
            row.ready_by(now)
        return True

    def deliver_or_end(self, message: Message, now: float, at: float | None = None) -> bool:
        """Do the same, but end a target that has not begun, if the message is such a cancel."""
        row = self.unfinished(message.instance, message.execution, message.life)
        if not message.unstarted or row is None or not _unbegun(row):
            return self.deliver(message, now, at)
        parent, asked = row.new.parent, asked_by(message.event)
        if asked not in (None, parent):
            return self.deliver(message, now, at)
        row.end("cancelled", message.unstarted, now)
        if parent is not None:
            self.deliver(child_cancelled(message.unstarted, parent), now)
        else:
            self._tell_schedule(row, "cancelled", now)
        return True

    # --- activities ---------------------------------------------------------------------

    def free_activities(
        self, worker: str, keys: Iterable[ActivityKey], now: float, *, attempts: int = 0
    ) -> None:
        """Free those that a worker holds; end those of them whose cancellation was asked for."""
        for key in list(keys):
            activity = self.activities[key]
            if activity.worker != worker:
                continue
            if activity.cancel is not None:
                self.end_cancelled(key, activity.cancel, now)
            else:
                activity.worker, activity.visible_at = None, now
                activity.attempt += attempts

    def end_cancelled(self, key: ActivityKey, event: bytes, now: float) -> None:
        """Delete an activity; ``event``, if not empty, tells its instance that it was cancelled."""
        del self.activities[key]
        if event:
            message = Message(key.instance, event, execution=key.execution, life=key.life)
            self.deliver(message, now)

    def stop_activities(self, id: str) -> None:
        """Delete the activities of an ended instance; mark those that a worker runs."""
        for key in [key for key in self.activities if key.instance == id]:
            if self.activities[key].worker is None:
                del self.activities[key]
            else:
                self.activities[key].cancel = b""


def _unbegun(row: Instance) -> bool:
    first = row.execution == row.first_execution and not row.turns
    return row.status == "running" and row.worker is None and first
