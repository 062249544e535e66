"""Turn plans into arguments of calls, with ids, numbers and times of the run's present state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._model.commands import StartOptions
from trioflow._model.events import CancelRequested, ParentRef, ScheduleRef, encode_event
from trioflow._model.turns import Cancelled, Failed
from trioflow.backends.commits import (
    ActivityProgress,
    ActivityResult,
    ActivityRetry,
    Answer,
    CancelledActivity,
    Closing,
    InstanceCommit,
    Message,
    NewActivity,
    NewInstance,
    SharedClaim,
    Unit,
)
from trioflow.backends.records import ActivityKey
from trioflow.testing.lockstep.comparing import CANCELLED
from trioflow.testing.lockstep.facts import FUTURE, PAST, Facts
from trioflow.testing.lockstep.plans import (
    ATTRIBUTES,
    IDS,
    ActivityPlan,
    BirthPlan,
    Consume,
    Life,
    MessagePlan,
    NewPlan,
    StepPlan,
    TaskPlan,
    UnitPlan,
    When,
)
from trioflow.testing.lockstep.sides import Place, Side

__all__ = ["TERMINATED", "UNSTARTED", "Batch", "Draft"]

T = TypeVar("T")

UNSTARTED = msgspec.json.encode(Cancelled("not begun"))
TERMINATED = msgspec.json.encode(Failed(Failure(type="Terminated", message="enough")))


def _chosen(several: Sequence[T], pick: int) -> T | None:
    return several[pick % len(several)] if several else None


class Draft:
    """Turns plans into arguments. Every id of a run begins with ``prefix``."""

    def __init__(self, prefix: str, facts: Facts, model: Side) -> None:
        self.prefix = prefix
        self._facts = facts
        self._model = model

    # --- words ----------------------------------------------------------------------------

    def id(self, name: str) -> str:
        """Return the id of an instance of this run."""
        return f"{self.prefix}-{name}"

    def event(self, what: bytes = b"event") -> bytes:
        """Return an event that is like no other."""
        return b"%s %d" % (what, self._facts.next_number())

    def when(self, when: When) -> float | None:
        """Return a time that is like no other."""
        if when == "never":
            return None
        return (PAST if when == "past" else FUTURE) + self._facts.next_number()

    def worker(self, pick: int, *, dead: bool = False) -> str:
        """Return one of the workers that live, or else of those that are dead, if there is any."""
        living = self._facts.living
        gone = [worker for worker in self._facts.workers if worker not in living]
        found = _chosen(gone, pick) if dead or not living else None
        return found or _chosen(living, pick) or f"{self.prefix}-never"

    def busy_worker(self, pick: int, *, activities: bool = False) -> str:
        """Return one of the workers that hold instances (or activities), if there is any."""
        holds = self._facts.tasks_of if activities else self._facts.held_by
        busy = [worker for worker in self._facts.living if holds(worker)]
        return _chosen(busy, pick) or self.worker(pick)

    def instance(self, pick: int, *, stray: bool) -> str:
        """Return the id of an instance that has not ended, or of any if it is to be ``stray``."""
        records = self._facts.records.values()
        unfinished = [record.id for record in records if record.finished_at is None]
        every = [self.id(name) for name in (*IDS, "nobody")]
        return _chosen(every if stray else unfinished, pick) or every[0]

    def new(self, plan: NewPlan, parent: ParentRef | None = None) -> NewInstance:
        """Return an instance to be created."""
        if parent is None and plan.parent:
            record = self._facts.records.get(self.id(plan.parent))
            execution, life = (1, "") if record is None else (record.execution, record.life)
            parent = ParentRef(self.id(plan.parent), execution, "0:0", life)
        planned: dict[str, Any] = {**vars(plan), "id": self.id(plan.id), "parent": parent}
        start_at = self.when(planned.pop("start"))
        planned["attributes"] = ATTRIBUTES[plan.attributes]
        return NewInstance(
            **planned,
            input=b"[%d]" % self._facts.next_number(),
            metadata=b'{"plan":"1"}' if plan.workflow == "grow" else b"",
            life=f"life {self._facts.next_number()}",
            start_at=start_at or 0.0,
            options=self._options(start_at, parent),
        )

    def _options(self, start_at: float | None, parent: ParentRef | None) -> bytes:
        """Return the options of a start; those of a schedule's run if it begins at once."""
        if start_at is None and parent is not None:
            return b""
        number = self._facts.next_number()
        if start_at is not None:
            return b'{"timeout":%d}' % number
        schedule = self.id(IDS[0])
        record = self._facts.records.get(schedule)
        ref = ScheduleRef(schedule, "" if record is None else record.life, float(number))
        return msgspec.json.encode(StartOptions(schedule=ref))

    def life(self, id: str, plan: Life) -> str | None:
        """Return which life of an id is meant."""
        record = self._facts.records.get(id)
        if plan == "any":
            return None
        return record.life if record is not None and plan == "right" else "life of another"

    def batch(self, worker: str, plans: Sequence[UnitPlan]) -> Batch:
        """Return what a worker commits."""
        batch = Batch(self, worker, self._facts, self._model)
        for plan in plans:
            batch.add(plan)
        return batch


class Batch:
    """One commit's units. No instance is in it twice, and no activity.

    Attributes:
        units: With nothing consumed yet: a store has its own numbers.
        places: What each instance consumes; `None` is what never was in an inbox.
    """

    def __init__(self, draft: Draft, worker: str, facts: Facts, model: Side) -> None:
        self._draft = draft
        self._worker = worker
        self._facts = facts
        self._model = model
        self._instances: set[str] = set()
        self._born: set[str] = set()
        self._tasks: set[ActivityKey] = set()
        self.units: list[Unit] = []
        self.places: dict[str, list[Place | None]] = {}

    def add(self, plan: UnitPlan) -> None:
        """Add a unit."""
        steps = [self._step(step) for step in plan.steps]
        commits = [commit for commit in steps if commit is not None]
        top = commits[0] if commits else None
        stepped = {commit.id for commit in commits}
        births = [self._birth(birth, top, stepped) for birth in plan.births]
        commits += [commit for commit in births if commit is not None]
        progress = [self._task(task, ends=False) for task in plan.progress]
        results = [(self._task(task), task) for task in plan.results]
        retries = [(self._task(task), task) for task in plan.retries]
        self.units.append(
            Unit(
                instances=commits,
                results=[self._result(key, task) for key, task in results if key is not None],
                retries=[self._retry(key, task) for key, task in retries if key is not None],
                progress=[self._progress(key) for key in progress if key is not None],
            )
        )

    def _step(self, plan: StepPlan) -> InstanceCommit | None:
        every = [self._draft.id(name) for name in IDS]
        held = self._facts.held_by(self._worker)
        usable = [id for id in held if id not in self._instances]
        if plan.stray:
            # Above all what might be taken for its own: another's, or what nobody holds.
            others = [id for id in every if id not in self._instances and id not in held]
            records = self._facts.records
            usable = [id for id in others if id in records] or others
            usable.sort(key=lambda id: id not in records or records[id].status != "running")
        id = _chosen(usable, plan.pick)
        if id is None:
            return None
        self._instances.add(id)
        record = self._facts.records.get(id)
        execution = max(1, (1 if record is None else record.execution) + plan.execution)
        commands = self._facts.commands.get(id, [])
        life = self._draft.life(id, plan.life) or ""
        finished = self._finished(id, execution, life, commands, plan.finished)
        self.places[id] = self._consumed(id, execution, plan)
        commit = InstanceCommit(
            id=id,
            execution=execution,
            number=max(0, (0 if record is None else record.turns) - plan.late),
            finished=finished,
            cancelled=[
                CancelledActivity(commands[pick % len(commands)], self._draft.event(CANCELLED))
                for pick in sorted(set(plan.cancelled))
                if commands
            ],
            leased=plan.leased,
            life=life,
        )
        return self._filled(commit, plan, plan.turns)

    def _finished(
        self, id: str, execution: int, life: str, commands: Sequence[str], most: int
    ) -> list[str]:
        keys = [ActivityKey(id, execution, command, life) for command in commands]
        keys = [key for key in keys if key not in self._tasks][:most]
        self._tasks.update(keys)
        return [key.command for key in keys]

    def _consumed(self, id: str, execution: int, plan: StepPlan) -> list[Place | None]:
        known = self._model.seen.get((id, execution), [])
        all_of_it: list[Place | None] = [Place(id, execution, index) for index in range(len(known))]
        wrong = plan.consume in ("twice", "unknown", "foreign", "again")
        if wrong and plan.ending in ("completed", "failed", "cancelled"):
            return all_of_it  # it may be told of the one fault or of the other
        seen = self._model.seen.items()
        used = self._model.consumed.get((id, execution))
        foreign = [key for key, seqs in seen if key[0] != id and seqs]
        ways: dict[Consume, list[Place | None]] = {
            "none": [],
            "all": all_of_it,
            "first": all_of_it[:1],
            "last": all_of_it[-1:],
            "twice": all_of_it[:1] * 2,
            "unknown": [None],
            "foreign": [Place(*foreign[0], 0)] if foreign else [],
            "again": [Place(id, execution, 0, consumed=True)] if used else [],
        }
        return ways[plan.consume]

    def _birth(
        self, plan: BirthPlan, top: InstanceCommit | None, stepped: set[str]
    ) -> InstanceCommit | None:
        parent = None
        if plan.child and top is not None and top.new is None:
            command = f"0:{self._facts.next_number()}"
            parent = ParentRef(top.id, top.execution, command, top.life)
        new = self._draft.new(plan.new, parent)
        # A child without turns may have the id of one that was born before it, or is in its unit.
        allowed = parent is not None and not plan.turns and new.id in self._born | stepped
        if new.id in self._instances and not allowed:
            return None
        self._born.add(new.id)
        self._instances.add(new.id)
        if plan.leased or plan.turns:  # it starts at once
            new = msgspec.structs.replace(new, start_at=0.0)
        commit = InstanceCommit(
            id=new.id,
            execution=1,
            number=0,
            new=new,
            leased=plan.leased,
            due=plan.due,
            life=new.life,
        )
        if not plan.turns:
            commit.wake_at = self._draft.when(plan.wake)
            return commit
        return self._filled(commit, plan, plan.turns)

    def _filled(
        self, commit: InstanceCommit, plan: StepPlan | BirthPlan, turns: int
    ) -> InstanceCommit:
        """Add what a step and a birth have in common."""
        number = self._facts.next_number()
        commit.turns = [b"turn %d of %d" % (at, number) for at in range(turns)]
        commit.events = number
        commit.wake_at = self._draft.when(plan.wake)
        commit.due = plan.due
        commit.activities = [self._activity(activity) for activity in plan.activities]
        commit.messages = [self._message(message) for message in plan.messages]
        if isinstance(plan, StepPlan):
            commit.status = b"%d" % number if plan.status else None
            commit.answers = [Answer(one, b"answer %d" % number) for one in plan.answers]
            if plan.attributes is not None:
                commit.attributes = ATTRIBUTES[plan.attributes]
        if plan.ending == "continued":
            commit.continued, commit.carried = b"[%d]" % number, b"[]"
        elif plan.ending == "suspended":
            commit.suspended = b'{"suspended":%d}' % number
        elif plan.ending != "none":
            commit.closing = Closing(plan.ending, b'{"ended":%d}' % number)
        return commit

    def _activity(self, plan: ActivityPlan) -> NewActivity:
        number = self._facts.next_number()
        return NewActivity(
            command=f"0:{number}",
            activity=plan.activity,
            queue=plan.queue,
            input=b"[%d]" % number,
            options=b"{}" if number % 2 else b"",
            leased=plan.leased,
            priority=plan.priority,
        )

    def _message(self, plan: MessagePlan) -> Message:
        target = self._draft.id(plan.to)
        if plan.to in IDS and self._facts.records:
            target = list(self._facts.records)[IDS.index(plan.to) % len(self._facts.records)]
        execution = None
        if plan.execution is not None:
            record = self._facts.records.get(target)
            execution = (1 if record is None else record.execution) + plan.execution
        if plan.claim:
            return self._claim(plan, target)
        sent, failed = self._draft.event(), self._draft.event()
        if plan.new is not None:
            new = self._draft.new(plan.new)
            return Message(
                instance=new.id,
                event=b"",
                sent=sent if plan.replies else b"",
                failed=failed if plan.replies else b"",
                new=new,
                reuse=plan.reuse,
                replacing=TERMINATED if plan.replace else None,
            )
        if plan.terminates:
            return Message(
                instance=target,
                event=b"",
                sent=sent if plan.replies else b"",
                failed=failed if plan.replies else b"",
                life=self._draft.life(target, plan.life),
                terminated=TERMINATED,
            )
        event = self._draft.event()
        if plan.unstarted in ("parent", "stranger"):
            event = self._asked(target, stranger=plan.unstarted == "stranger")
        return Message(
            instance=target,
            event=event,
            execution=execution,
            sent=sent if plan.replies else b"",
            failed=failed if plan.replies else b"",
            life=self._draft.life(target, plan.life),
            unstarted=b"" if plan.unstarted == "nobody" else UNSTARTED,
        )

    def _claim(self, plan: MessagePlan, target: str) -> Message:
        """Return what asks for something shared, for an instance that need not be the sender."""
        assert plan.claim
        claims = self._facts.claims
        if plan.claim == "free" and claims:
            taken = claims.pop()
            assert taken.claim is not None
            freed = msgspec.structs.replace(taken.claim, how="free")
            return msgspec.structs.replace(taken, claim=freed)
        record = self._facts.records.get(target)
        asked = SharedClaim(
            plan.claim,
            f"{self._draft.prefix} {'event' if plan.reuse else 'lock'}",
            f"0:{self._facts.next_number()}",
            0 if plan.reuse else 1,
        )
        message = Message(
            instance=target,
            event=self._draft.event(),
            execution=1 if record is None else record.execution,
            life="" if record is None else record.life,
            claim=asked,
        )
        if plan.claim == "take":
            claims.append(message)
        return message

    def _asked(self, target: str, *, stranger: bool) -> bytes:
        """Return the request for a cancel that an instance's parent sends it, or a stranger."""
        record = self._facts.records.get(target)
        parent = None if record is None else record.parent
        if stranger or parent is None:
            parent = ParentRef(self._draft.id("nobody"), 1, "0:0")
        return encode_event(CancelRequested(f"{self._facts.next_number()}", by=parent))

    def _task(self, plan: TaskPlan, *, ends: bool = True) -> ActivityKey | None:
        own = self._facts.tasks_of(self._worker)
        every = [*self._facts.tasks, ActivityKey(self._draft.id("nobody"), 1, "0:0")]
        keys = [key for key in (every if plan.stray else own) if key not in self._tasks]
        key = _chosen(keys, plan.pick)
        if key is not None and ends:
            self._tasks.add(key)
        return key

    def _result(self, key: ActivityKey, plan: TaskPlan) -> ActivityResult:
        at = self._draft.when("past") if plan.visible == "past" else None
        return ActivityResult(key, self._draft.event(), at)

    def _progress(self, key: ActivityKey) -> ActivityProgress:
        return ActivityProgress(key, b"%d" % self._facts.next_number())

    def _retry(self, key: ActivityKey, plan: TaskPlan) -> ActivityRetry:
        visible_at = self._draft.when(plan.visible)
        assert visible_at is not None
        number = self._facts.next_number()
        failure = b'{"failed":%d}' % number if number % 2 else b""
        return ActivityRetry(key, number, visible_at, failure)
