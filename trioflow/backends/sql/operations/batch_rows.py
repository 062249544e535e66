"""A batch of units as flat rows, one list per kind of statement. Nothing is written here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

from trioflow._model.events import ParentRef
from trioflow.backends.commits import ActivityRetry, InstanceCommit, Message, Unit
from trioflow.backends.records import ActivityKey
from trioflow.backends.sql.dialect import Write
from trioflow.backends.sql.limit_queries import FREE_SLOTS, KEEP_SLOTS
from trioflow.backends.sql.operations.delivery import Mail
from trioflow.backends.sql.rows import new_instance_row
from trioflow.backends.sql.statements import (
    ANSWER_REQUESTS,
    CLOSE_INSTANCES,
    CONSUME,
    CREATE_INSTANCES,
    FINISH_ACTIVITIES,
    LOCK_INSTANCES,
    NEW_ACTIVITIES,
    NEW_TURNS,
    RETURN_ACTIVITIES,
    STEP_INSTANCES,
    STORE_PROGRESS,
)

__all__ = ["BatchRows", "Refusals", "life_of"]


def life_of(commit: InstanceCommit) -> str:
    """Return the life that a commit is for."""
    return commit.life if commit.new is None else commit.new.life


Refusals: TypeAlias = Mapping[tuple[str, ParentRef], Message]
"""What is sent to a parent in place of its child: by the child's id and who its parent is."""


_LIMIT_KEY = NEW_ACTIVITIES.columns.index("limit_key")


class BatchRows:
    """The rows of one batch.

    Args:
        worker: Who commits it.
        now: The store's time.
        refusals: Of children that cannot be created.
    """

    def __init__(self, worker: str, now: float, refusals: Refusals) -> None:
        self.worker = worker
        self.now = now
        self.refusals = refusals
        self.created: list[Any] = []
        self.steps: list[Any] = []
        self.closings: list[Any] = []
        self.turns: list[Any] = []
        self.activities: list[Any] = []
        self.finished: list[Any] = []
        self.consumed: list[Any] = []
        self.returned: list[Any] = []
        self.answers: list[Any] = []
        self.mails: list[Mail] = []
        self.endings: list[InstanceCommit] = []
        self.cancelling: list[InstanceCommit] = []
        self.retries: list[ActivityRetry] = []
        self.attributes: dict[str, bytes] = {}
        self.changed_attributes: list[str] = []
        self.progress: dict[ActivityKey, bytes] = {}
        self.kept: list[Any] = []
        self.freed: list[Any] = []

    def add(self, unit: Unit) -> None:
        """Add all that a unit says."""
        for commit in unit.instances:
            parent = None if commit.new is None else commit.new.parent
            refusal = None
            if parent is not None and self.refusals:
                refusal = self.refusals.get((commit.id, parent))
            if refusal is None:
                self._add_instance(commit)
            else:
                self.mails.append(Mail(commit.id, refusal, self.now))
        for result in unit.results:
            key = result.key
            self.returned += (key.instance, key.execution, key.command, key.life, self.worker)
            message = Message(key.instance, result.event, execution=key.execution, life=key.life)
            at = self.now if result.at is None else min(result.at, self.now)
            self.mails.append(Mail(key.instance, message, at))
        if unit.retries:
            self.retries += unit.retries
        if unit.kept or unit.freed:
            self.kept += [
                value
                for one in unit.kept
                for value in (self.worker, one.id, one.queue, one.activity, one.limit_key)
            ]
            self.freed += [value for id in unit.freed for value in (self.worker, id)]
        for each in unit.progress:
            self.progress[each.key] = each.progress

    def _add_instance(self, commit: InstanceCommit) -> None:
        id, execution, number, now = commit.id, commit.execution, commit.number, self.now
        life = commit.life if commit.new is None else commit.new.life
        turns = number
        for data in commit.turns:
            self.turns += (id, execution, turns, data)
            turns += 1
        ends = commit.closing is not None or commit.continued is not None
        if ends or commit.suspended is not None:
            if commit.new is not None:
                # Born as if running, then ended like any other.
                row = new_instance_row(
                    commit.new, execution, now, ready_at=None, worker=self.worker
                )
                self.created += row
            self._end(commit, turns, life)
        else:
            self._go_on(commit, turns)
        for new in commit.activities:
            holder = self.worker if new.leased else None
            self.activities += (
                *(id, execution, new.command, life, new.queue, new.activity, new.input),
                *(new.options, now, now, holder, new.priority, new.limit_key),
            )
        for command in commit.finished:
            self.finished += (id, execution, command, life)
        if commit.cancelled:
            self.cancelling.append(commit)
        if commit.attributes is not None or (commit.new is not None and commit.new.attributes):
            self._add_attributes(commit)
        for answer in commit.answers:
            self.answers += (id, life, answer.request, answer.data)
        for message in commit.messages:
            self.mails.append(Mail(id, message, now))

    def _add_attributes(self, commit: InstanceCommit) -> None:
        if commit.attributes is not None:
            self.attributes[commit.id] = commit.attributes
            self.changed_attributes.append(commit.id)
        elif commit.new is not None:
            self.attributes[commit.id] = commit.new.attributes

    def _go_on(self, commit: InstanceCommit, turns: int) -> None:
        now, new = self.now, commit.new
        wake_at = commit.wake_at
        keeper = self.worker if commit.leased else None
        if new is not None:
            unstarted = not turns and not commit.leased
            self.created += new_instance_row(
                new,
                commit.execution,
                now,
                turns=turns,
                events=commit.events,
                ready_at=max(now, new.start_at) if commit.due or unstarted else wake_at,
                wake_at=wake_at,
                worker=keeper,
                sticky_worker=self.worker if turns else None,
                custom_status=commit.status or b"",
            )
            return
        self.steps += (
            *(commit.id, self.worker, commit.execution, commit.number, commit.life, turns),
            commit.events if commit.turns else None,
            len(commit.consumed),
            now,
            now if commit.due else wake_at,
            wake_at,
            keeper,
            commit.status,
        )
        for seq in commit.consumed:
            self.consumed += (commit.id, seq)

    def _end(self, commit: InstanceCommit, turns: int, life: str) -> None:
        for seq in commit.consumed:
            self.consumed += (commit.id, seq)
        closing = commit.closing
        if closing is None:
            self.endings.append(commit)
            return
        self.closings += (
            *(commit.id, self.worker, commit.execution, commit.number, life, turns),
            commit.events if commit.turns else None,
            len(commit.consumed),
            *(closing.status, closing.outcome, self.now, commit.status),
        )

    def has_keys(self) -> bool:
        """Return whether an activity has a key."""
        return any(self.activities[_LIMIT_KEY :: len(NEW_ACTIVITIES.columns)])

    def writes(self, concerned: Collection[str] = ()) -> list[tuple[Write, list[Any]]]:
        """Return what is written together, in its order; ``concerned`` is locked with it."""
        own = [*self.steps[:: len(STEP_INSTANCES.columns)]]
        own += self.closings[:: len(CLOSE_INSTANCES.columns)]
        own += [commit.id for commit in self.endings]
        own += [mail.message.instance for mail in self.mails]
        progress: list[Any] = []
        for key, data in self.progress.items():
            own.append(key.instance)
            progress += (key.instance, key.execution, key.command, key.life, self.worker, data)
        own += concerned
        locked = sorted(set(own)) if len(own) > 1 else []
        writes: list[tuple[Write, list[Any]]] = [
            (LOCK_INSTANCES, locked),
            (CREATE_INSTANCES, self.created),
            (STEP_INSTANCES, self.steps),
            (CLOSE_INSTANCES, self.closings),
            (CONSUME, self.consumed),
            (NEW_TURNS, self.turns),
            (STORE_PROGRESS, progress),
            (FINISH_ACTIVITIES, self.finished),
            (NEW_ACTIVITIES, self.activities),
            (RETURN_ACTIVITIES, self.returned),
            (KEEP_SLOTS, self.kept),
            (FREE_SLOTS, self.freed),
            (ANSWER_REQUESTS, self.answers),
        ]
        return [(statement, values) for statement, values in writes if values]
