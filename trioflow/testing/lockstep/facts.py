"""Track what a run knows from the model's answers: what is there, who holds it, and since when.

The contract does not show who holds an activity, nor since when it can be taken; a run needs both
to choose what is worth trying, and to see where the contract promises no order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from trioflow.backends.commits import CommitFailure, InstanceCommit, Message, NewActivity, Unit
from trioflow.backends.records import ActivityKey, ActivityTask, InstanceRecord, TakenInstance

__all__ = ["FUTURE", "PAST", "Clock", "Facts", "Task"]

PAST = 1_000.0
"""Times that a run sets itself begin here: long before every clock…"""
FUTURE = 4_000_000_000.0
"""…or here, long after."""


class Clock:
    """The model's clock: a second for each step, so that only what happens in one step is equal."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        """Return the time, epoch seconds."""
        return self.now


@dataclass
class Task:
    """An activity that may be there. ``since``: when it could be taken, if ``holder`` is none."""

    queue: str
    activity: str
    priority: int
    holder: str | None
    since: float


@dataclass
class Facts:
    """See the module.

    Attributes:
        workers: All that were ever registered; those that are gone are in ``dead``.
        records: Rows by id.
        commands: The unfinished activities of each instance's current execution.
        tasks: Activities that may be there.
        suspects: Instances that may be suspects.
        claims: What was asked for of something shared.
    """

    clock: Clock
    workers: list[str] = field(default_factory=list[str])
    dead: set[str] = field(default_factory=set[str])
    records: dict[str, InstanceRecord] = field(default_factory=dict[str, InstanceRecord])
    commands: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    tasks: dict[ActivityKey, Task] = field(default_factory=dict[ActivityKey, Task])
    suspects: set[str] = field(default_factory=set[str])
    claims: list[Message] = field(default_factory=list[Message])
    number: int = 0

    def next_number(self) -> int:
        """Return a number that was not given before in this run."""
        self.number += 1
        return self.number

    # --- what happened --------------------------------------------------------------------

    def see(
        self, records: Sequence[InstanceRecord], activities: dict[str, list[ActivityTask]]
    ) -> None:
        """Learn what is visible now."""
        self.records = {record.id: record for record in records}
        self.commands = {
            id: [task.key.command for task in tasks] for id, tasks in activities.items()
        }
        for key in list(self.tasks):
            record = self.records.get(key.instance)
            if record is None or record.life != key.life:
                # One that is held is told to its worker until that has ended it.
                gone = self.tasks[key].holder is None
            else:
                current = record.execution == key.execution
                gone = current and key.command not in self.commands[key.instance]
            if gone:
                del self.tasks[key]

    def born(self, worker: str, commit: InstanceCommit, new: NewActivity) -> None:
        """An activity was stored."""
        self.tasks[ActivityKey(commit.id, commit.execution, new.command, commit.life)] = Task(
            new.queue,
            new.activity,
            new.priority,
            worker if new.leased else None,
            self.clock(),
        )

    def freed(
        self, worker: str, *, keep: Iterable[ActivityKey] = (), of: str | None = None
    ) -> None:
        """A worker's activities were given back, or those of one instance."""
        kept = set(keep)
        for key, task in self.tasks.items():
            if task.holder == worker and key not in kept and of in (None, key.instance):
                task.holder, task.since = None, self.clock()

    def died(self, worker: str, *, suspect: bool = False) -> None:
        """A worker's row is gone, and what it held is ``suspect`` or not."""
        if suspect:
            self.suspects.update(self.held_by(worker))
        self.dead.add(worker)
        self.freed(worker)

    def stored(
        self, worker: str, units: Sequence[Unit], results: Sequence[CommitFailure | None]
    ) -> None:
        """A batch was committed."""
        for unit, failure in zip(units, results, strict=True):
            if failure is not None:
                continue
            for commit in unit.instances:
                for new in commit.activities:
                    self.born(worker, commit, new)
            for retry in unit.retries:
                task = self.tasks.get(retry.key)
                if task is not None and task.holder == worker:
                    task.holder, task.since = None, retry.visible_at
            for result in unit.results:
                task = self.tasks.get(result.key)
                if task is not None and task.holder == worker:
                    del self.tasks[result.key]

    # --- what there is to choose from -----------------------------------------------------

    @property
    def living(self) -> list[str]:
        """The workers whose rows are there."""
        return [worker for worker in self.workers if worker not in self.dead]

    def held_by(self, worker: str) -> list[str]:
        """Return the instances that a worker holds."""
        return [id for id, record in self.records.items() if record.worker == worker]

    def tasks_of(self, worker: str) -> list[ActivityKey]:
        """Return the activities that a worker holds."""
        return [key for key, task in self.tasks.items() if task.holder == worker]

    # --- where the contract promises no order ---------------------------------------------

    def instance_ranks(self, taken: Sequence[TakenInstance]) -> dict[str, tuple[int, float]]:
        """Return what orders instances that the model gave; equal ones may come in any order."""
        return {one.id: (-one.priority, one.ready_at) for one in taken}

    def no_ranks(self, taken: Sequence[TakenInstance]) -> dict[str, tuple[int, float]]:
        """Return the same where any order will do."""
        return {one.id: (0, 0.0) for one in taken}

    def task_ranks(self, taken: Sequence[ActivityTask]) -> dict[ActivityKey, tuple[int, float]]:
        """Return the same for activities."""
        return {
            one.key: (-one.priority, self.tasks[one.key].since)
            for one in taken
            if one.key in self.tasks
        }

    def tied_instances(self, worker: str, queues: Sequence[str]) -> bool:
        """Return whether a limit might have to choose between equals."""
        return _repeated(
            (record.priority, record.ready_at)
            for record in self.records.values()
            if record.queue in queues
            and record.status == "running"
            and record.worker in (None, worker)
            and record.ready_at is not None
            and record.ready_at <= self.clock()
        )

    def tied_suspects(self, queues: Sequence[str]) -> bool:
        """Return whether one suspect might have to be chosen from equals."""
        return _repeated(
            (record.priority, record.ready_at)
            for record in self.records.values()
            if record.id in self.suspects
            and record.queue in queues
            and record.status == "running"
            and record.worker is None
        )

    def tied_tasks(self, queues: Sequence[str]) -> bool:
        """Return the same for activities."""
        return _repeated(
            (task.priority, task.since)
            for task in self.tasks.values()
            if task.holder is None and task.queue in queues
        )

    def tied_ends(self) -> bool:
        """Return whether several instances finished at the same time."""
        ended = (record.finished_at for record in self.records.values())
        return _repeated(at for at in ended if at is not None)


def _repeated(values: Iterable[object]) -> bool:
    seen = list(values)
    return len(set(seen)) < len(seen)
