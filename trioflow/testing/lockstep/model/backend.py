"""The model as a backend."""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import get_args

from anyio.lowlevel import checkpoint

from trioflow._model.attributes import index_rows
from trioflow._model.limits import Limit, LimitKind, Limits
from trioflow.backends._common.watching import Watcher
from trioflow.backends.commits import Answer, CommitFailure, Message, NewInstance, NewQuestion, Unit
from trioflow.backends.filters import Group, InstanceFilter
from trioflow.backends.outbox import (
    ActivityTransaction,
    CallerTransaction,
    no_transactions,
    refused,
)
from trioflow.backends.records import (
    COUNTED,
    ENDED,
    ActivityKey,
    ActivityTask,
    Effect,
    EndedExecution,
    Execution,
    Heartbeat,
    InstanceRecord,
    QueueStats,
    Reached,
    RequestKey,
    SharedState,
    StoredMessage,
    TakenActivities,
    TakenInstances,
    TakenQuestion,
    TakenQuestions,
    Trouble,
    WorkerInfo,
)
from trioflow.backends.resets import Beginning, Reset, ResetResult
from trioflow.errors import InstanceNotFound, LeaseLost
from trioflow.testing.lockstep.model import resetting
from trioflow.testing.lockstep.model.committing import commit
from trioflow.testing.lockstep.model.filtering import meant, own_activities
from trioflow.testing.lockstep.model.rows import Instance, Question, Worker
from trioflow.testing.lockstep.model.state import State
from trioflow.testing.lockstep.model.taking import (
    take_activities,
    take_instances,
    take_own,
    take_suspect,
)

__all__ = ["Model"]


class Model:
    """A `trioflow.backends.abc.Backend` for one event loop; `heartbeat` must be called there too.

    Args:
        clock: The store's clock, epoch seconds; it must never go back.

    Attributes:
        state: What is stored.
    """

    name = "model"
    shared = False

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self.state = State()
        self._clock = clock
        self._watcher = Watcher()

    async def open(self) -> None:
        await checkpoint()

    async def aclose(self) -> None:
        await checkpoint()

    def now(self) -> float:
        return self._clock()

    def changes(self) -> int:
        return self._watcher.number

    async def wait_change(self, seen: int, timeout: float) -> None:
        await self._watcher.wait(seen, timeout)

    # --- workers ------------------------------------------------------------------------

    async def register_worker(
        self,
        worker: str,
        name: str,
        *,
        queues: Sequence[str] = (),
        activity_queues: Sequence[str] = (),
        lease: float | None = None,
        version: str = "",
    ) -> None:
        await checkpoint()
        now = self.now()
        row = Worker(name, now, now, queues, activity_queues, lease, version)
        self.state.workers[worker] = row

    async def workers(self) -> list[WorkerInfo]:
        await checkpoint()
        state, now = self.state, self.now()
        holders = Counter(row.worker for row in state.instances.values())
        runners = Counter(one.worker for one in state.activities.values())
        found = [
            WorkerInfo(
                id=id,
                name=row.name,
                queues=sorted({*row.queues}),
                activity_queues=sorted({*row.activity_queues}),
                lease=row.lease,
                heartbeat_at=row.heartbeat_at,
                alive=row.alive(now),
                instances=min(holders[id], COUNTED),
                activities=min(runners[id], COUNTED),
                started_at=row.started_at,
                version=row.version,
            )
            for id, row in state.workers.items()
        ]
        return sorted(found, key=lambda one: (one.name, one.id))

    def heartbeat(self, worker: str) -> Heartbeat:
        row = self.state.workers.get(worker)
        if row is None:
            return Heartbeat(alive=False)
        row.heartbeat_at = self.now()
        activities = self.state.activities.items()
        marks = {
            key: one.cancel
            for key, one in activities
            if one.worker == worker and one.cancel is not None
        }
        return Heartbeat(alive=True, cancelled=list(marks), events=list(marks.values()))

    async def reclaim(self, lease: float) -> list[str]:
        await checkpoint()
        state, limit = self.state, self.now() - lease
        dead = {id for id, row in state.workers.items() if row.heartbeat_at < limit}
        holders = {row.worker for row in state.instances.values()}
        holders |= {activity.worker for activity in state.activities.values()}
        dead |= {worker for worker in holders if worker is not None} - state.workers.keys()
        for worker in dead:
            state.workers.pop(worker, None)
            self._free(worker, died=True)
        self._watcher.notify()
        return list(dead)

    async def release_worker(self, worker: str, *, died: bool = False) -> None:
        await checkpoint()
        if self.state.workers.pop(worker, None) is not None:
            self._free(worker, died=died)
            self._watcher.notify()

    def _free(self, worker: str, *, died: bool) -> None:
        state, now = self.state, self.now()
        state.limiting.free(worker)
        held = [row for row in state.instances.values() if row.worker == worker]
        blamed = any(row.suspect for row in held)
        for row in held:
            if died:
                row.suspect, row.worker, row.sticky_worker = True, None, None
            else:
                row.give_back()
            row.ready_by(now)
        attempts = int(died and not blamed)
        state.free_activities(worker, state.activities, now, attempts=attempts)

    # --- work ---------------------------------------------------------------------------

    async def take_instances(
        self,
        worker: str,
        queues: Sequence[str],
        limit: int,
        *,
        exclude: Sequence[str] = (),
        exclude_ids: Sequence[str] = (),
        sticky: float = 0.0,
        suspect: bool = False,
    ) -> TakenInstances:
        await checkpoint()
        state, now = self.state, self.now()
        if worker not in state.workers:
            return TakenInstances([], None)
        if suspect:
            return take_suspect(state, worker, queues, (exclude, exclude_ids), now=now)
        if not limit:
            return take_own(state, worker, now)
        options = {"sticky": sticky, "now": now}
        unwanted = (exclude, exclude_ids)
        return take_instances(state, worker, queues, limit, unwanted, **options)

    async def take_activities(
        self, worker: str, queues: Sequence[str], limit: int, *, exclude: Sequence[str] = ()
    ) -> TakenActivities:
        await checkpoint()
        if worker not in self.state.workers:
            return TakenActivities([], None)
        now = self.now()
        return take_activities(self.state, worker, queues, limit, exclude=exclude, now=now)

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        await checkpoint()
        row, now = self.state.workers.get(worker), self.now()
        if row is None:
            raise LeaseLost(f"worker {worker!r} has no row")
        row.heartbeat_at = now
        failures = commit(self.state, worker, units, now)
        self._watcher.notify()
        return failures

    async def set_limit(self, limit: Limit) -> None:
        await checkpoint()
        self.state.set_limit(limit)
        self._watcher.notify()

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        await checkpoint()
        removed = self.state.remove_limit(kind, name)
        self._watcher.notify()
        return removed

    async def limits(self) -> Limits:
        await checkpoint()
        return self.state.limiting.seen()

    async def shared_state(self, name: str) -> SharedState:
        await checkpoint()
        return self.state.shared.state(name)

    async def release_instances(self, worker: str, instances: Sequence[str]) -> list[str]:
        await checkpoint()
        state, now = self.state, self.now()
        released: list[str] = []
        for id in instances:
            row = state.instances.get(id)
            if row is None or row.worker != worker:
                continue
            row.give_back()
            row.ready_at = now
            life = (id, row.new.life)
            own = [key for key in state.activities if (key.instance, key.life) == life]
            state.free_activities(worker, own, now)
            released.append(id)
        self._watcher.notify()
        return released

    async def recall(self, worker: str, keep: Sequence[ActivityKey]) -> None:
        await checkpoint()
        state, now = self.state, self.now()
        for row in state.instances.values():
            if row.worker == worker:
                row.ready_by(now)
        state.free_activities(worker, [key for key in state.activities if key not in keep], now)
        self._watcher.notify()

    async def load(self, ids: Sequence[tuple[str, int]]) -> list[list[bytes]]:
        await checkpoint()
        return [list(self.state.turns.get(each, [])) for each in ids]

    async def turns_from(
        self, instance: str, execution: int, first: int, *, limit: int
    ) -> list[bytes]:
        await checkpoint()
        return self.state.turns.get((instance, execution), [])[first : first + limit]

    # --- what clients ask for -----------------------------------------------------------

    async def create(
        self,
        instances: Sequence[NewInstance],
        *,
        reuse: bool = True,
        replacing: bytes | None = None,
    ) -> list[bool]:
        await checkpoint()
        now = self.now()
        for id in dict.fromkeys(new.id for new in instances) if replacing is not None else ():
            self.state.terminate(id, replacing or b"", None, now)
        created = [self.state.create(new, now, reuse=reuse) for new in instances]
        self._watcher.notify()
        return created

    async def send(
        self, instance: str, event: bytes, *, life: str | None = None, request: str = ""
    ) -> Effect:
        await checkpoint()
        row = self.state.instances.get(instance)
        if not request or row is None or life not in (None, row.new.life):
            return self._send(Message(instance, event, life=life))
        key = RequestKey(instance, row.new.life, request)
        if key in self.state.requests:
            return "unchanged"
        update = self._send(Message(instance, event, life=life))
        if update == "done":
            self.state.requests[key] = None
        return update

    async def create_and_send(
        self, new: NewInstance, event: bytes, *, request: str = ""
    ) -> Reached:
        await checkpoint()
        state, now = self.state, self.now()
        row = state.instances.get(new.id)
        if row is not None and RequestKey(new.id, row.new.life, request) in state.requests:
            return Reached(row.new.life, repeated=True)
        row = state.unfinished(new.id)
        created = row is None
        if row is None:
            row = state.insert(new, now)
            row.ready_at = row.first_ready(now)
        state.deliver(Message(new.id, event), now)
        if request:
            state.requests[RequestKey(new.id, row.new.life, request)] = None
        self._watcher.notify()
        return Reached(row.new.life, created=created)

    async def answers(self, requests: Sequence[RequestKey]) -> list[bytes | None]:
        await checkpoint()
        return [self.state.requests.get(key) for key in requests]

    async def cancel(
        self, instance: str, event: bytes, outcome: bytes, *, life: str | None = None
    ) -> Effect:
        await checkpoint()
        return self._send(Message(instance, event, life=life, unstarted=outcome))

    def _send(self, message: Message) -> Effect:
        if not self.state.deliver_or_end(message, self.now()):
            return self._missing(message.instance)
        self._watcher.notify()
        return "done"

    def _missing(self, instance: str) -> Effect:
        return "finished" if instance in self.state.instances else "not found"

    async def terminate(self, instance: str, outcome: bytes, *, life: str | None = None) -> Effect:
        await checkpoint()
        if not self.state.terminate(instance, outcome, life, self.now()):
            return self._missing(instance)
        self._watcher.notify()
        return "done"

    async def suspend(self, instance: str, report: bytes, *, life: str | None = None) -> Effect:
        await checkpoint()
        row = self.state.unfinished(instance, life=life)
        if row is None:
            return self._missing(instance)
        if row.status == "suspended":
            return "unchanged"
        if row.worker is not None:
            row.give_back()
        row.sticky_worker = None
        row.status, row.outcome, row.ready_at = "suspended", report, None
        self._watcher.notify()
        return "done"

    async def resume(self, instance: str, *, life: str | None = None) -> Effect:
        await checkpoint()
        row = self.state.unfinished(instance, life=life)
        if row is None:
            return self._missing(instance)
        if row.status == "running":
            return "unchanged"
        row.status, row.outcome, row.deaths = "running", b"", 0
        row.ready_at = row.first_ready(self.now())
        self._watcher.notify()
        return "done"

    async def retry_now(
        self, instance: str, *, activity: str | None = None, life: str | None = None
    ) -> Effect:
        await checkpoint()
        row, now = self.state.unfinished(instance, life=life), self.now()
        if row is None:
            return self._missing(instance)
        waiting = [
            one
            for key, one in self.state.activities.items()
            if (key.instance, key.life) == (instance, row.new.life)
            and one.worker is None
            and one.visible_at > now
            and activity in (None, one.new.activity)
        ]
        for one in waiting:
            one.visible_at = now
        self._watcher.notify()
        return "done" if waiting else "unchanged"

    async def reset(self, reset: Reset) -> ResetResult:
        await checkpoint()
        done = resetting.reset(self.state, reset, self.now())
        self._watcher.notify()
        return done

    async def fork(self, new: NewInstance, beginning: Beginning) -> bool:
        await checkpoint()
        created = resetting.fork(self.state, new, beginning, self.now())
        self._watcher.notify()
        return created

    async def inbox(self, instance: str) -> list[StoredMessage]:
        await checkpoint()
        row = self.state.instances.get(instance)
        mails = {} if row is None else row.inbox
        return [StoredMessage(seq, mail.event, mail.at) for seq, mail in mails.items()]

    async def remove(
        self, where: InstanceFilter, *, ids: Sequence[str] | None = None, limit: int
    ) -> int:
        await checkpoint()
        state = self.state
        found = [
            (row.finished_at, id)
            for id, row in state.instances.items()
            if row.finished_at is not None
            and meant(state, row, where, self.now())
            and (ids is None or id in ids)
        ]
        gone = [id for _, id in sorted(found)[:limit]]
        for id in gone:
            del state.instances[id]
            state.stop_activities(id)
        state.turns = {key: turns for key, turns in state.turns.items() if key[0] not in gone}
        for kept in [kept for kept in state.executions if kept[0] in gone]:
            del state.executions[kept]
        for key in [key for key in state.requests if key.instance in gone]:
            del state.requests[key]
        self._watcher.notify()
        return len(gone)

    # --- questions ----------------------------------------------------------------------

    async def ask(self, question: NewQuestion) -> Effect:
        await checkpoint()
        row = self.state.instances.get(question.instance)
        if row is None or row.new.life != question.life:
            return "not found"
        self.state.questions[question.id] = Question(question)
        self._watcher.notify()
        return "done"

    async def take_questions(
        self,
        worker: str,
        queues: Sequence[str],
        workflows: Sequence[str],
        limit: int,
        *,
        exclude_ids: Sequence[str] = (),
    ) -> TakenQuestions:
        await checkpoint()
        state, now = self.state, self.now()
        taken: list[TakenQuestion] = []
        waiting = False
        if worker not in state.workers:
            return TakenQuestions(taken)
        asked = [one for one in state.questions.values() if one.new.expires_at >= now]
        for one in sorted(asked, key=lambda one: (one.new.expires_at, one.new.id)):
            row = state.instances.get(one.new.instance)
            if one.given or row is None or row.new.life != one.new.life:
                continue
            held = row.worker in state.workers
            begun = row.turns > 0 or row.status in ENDED
            known = row.new.workflow in workflows
            served = row.new.queue in queues and one.new.instance not in exclude_ids
            if not begun or (held and not (known and row.worker == worker)):
                waiting = True
            elif known and (held or served):
                waiting |= len(taken) == limit
                if len(taken) < limit:
                    one.given = True
                    taken.append(one.taken(row))
        return TakenQuestions(taken, waiting)

    async def answer_questions(self, answers: Sequence[Answer]) -> None:
        await checkpoint()
        for answer in answers:
            if answer.request in self.state.questions:
                self.state.questions[answer.request].answer = answer.data
        self._watcher.notify()

    async def replies(self, questions: Sequence[str]) -> list[bytes | None]:
        await checkpoint()
        asked = self.state.questions
        return [asked[id].answer if id in asked else None for id in questions]

    async def withdraw(self, questions: Sequence[str]) -> None:
        await checkpoint()
        for id in questions:
            self.state.questions.pop(id, None)

    # --- reading ------------------------------------------------------------------------

    async def get(self, instance: str) -> InstanceRecord | None:
        await checkpoint()
        row = self.state.instances.get(instance)
        return None if row is None else row.record()

    async def not_running(
        self, instances: Sequence[str], *, lives: Sequence[str] | None = None
    ) -> list[str]:
        await checkpoint()
        rows = [self.state.instances.get(id) for id in instances]
        if lives is None:
            ended = [row is not None and row.status != "running" for row in rows]
        else:
            ended = [
                row is None or row.status != "running" or row.new.life != life
                for row, life in zip(rows, lives, strict=True)
            ]
        return [id for id, over in zip(instances, ended, strict=True) if over]

    async def history(self, instance: str) -> list[Execution]:
        await checkpoint()
        turns = {key[1]: data for key, data in self.state.turns.items() if key[0] == instance}
        row = self.state.instances.get(instance)
        if row is not None:
            turns.setdefault(row.execution, [])
        return [Execution(number, list(data)) for number, data in sorted(turns.items())]

    async def executions(self, instance: str) -> list[EndedExecution]:
        await checkpoint()
        kept = self.state.executions
        return [kept[key] for key in sorted(kept) if key[0] == instance]

    async def remove_executions(self, ended_before: float, *, limit: int) -> int:
        await checkpoint()
        ended = {key: one.record.finished_at or 0.0 for key, one in self.state.executions.items()}
        old = sorted((at, key) for key, at in ended.items() if at < ended_before)[:limit]
        for _, key in old:
            del self.state.executions[key]
            self.state.turns.pop(key, None)
        return len(old)

    async def activities(self, instance: str) -> list[ActivityTask]:
        await checkpoint()
        row = self.state.instances.get(instance)
        activities = self.state.activities.items()
        tasks = [
            one.unfinished(key) for key, one in activities if row and row.key(key.command) == key
        ]
        return sorted(tasks, key=lambda task: task.key.command)

    async def count(self, where: InstanceFilter, *, most: int | None = None) -> int:
        await checkpoint()
        number = len(self._meant(where))
        return number if most is None else min(number, most)

    def _meant(self, where: InstanceFilter) -> list[Instance]:
        rows = self.state.instances.values()
        return [row for row in rows if meant(self.state, row, where, self.now())]

    async def troubles(self, after: float) -> dict[Trouble, int]:
        await checkpoint()
        kinds: tuple[Trouble, ...] = get_args(Trouble)
        found: dict[Trouble, int] = {}
        for kind in kinds:
            where = InstanceFilter(trouble=kind, trouble_after=after)
            found[kind] = min(len(self._meant(where)), 1000)
        return found

    async def tried_again(self, instances: Sequence[str]) -> list[ActivityTask]:
        await checkpoint()
        found: list[ActivityTask] = []
        for id in instances:
            row = self.state.instances.get(id)
            if row is not None and row.status == "running":
                own = own_activities(self.state, row)
                again = [one.unfinished(key) for key, one in own.items() if one.attempt > 1]
                found += sorted(again, key=lambda task: (-task.attempt, task.key.command))[:1]
        return found

    async def count_by(
        self, where: InstanceFilter, by: str, *, attribute: bool = False
    ) -> list[Group]:
        await checkpoint()
        numbers: Counter[tuple[str, str]] = Counter()
        for row in self._meant(where):
            if attribute:
                numbers.update(
                    (each.name, each.word)
                    for each in index_rows(row.attributes)
                    if each.name[1:] == by
                )
            else:
                numbers["", getattr(row.record(), by)] += 1
        return [Group(*key, number) for key, number in numbers.items()]

    def in_transaction(self, connection: object) -> CallerTransaction:
        raise refused(self.name)

    def activity_transaction(
        self, worker: str, key: ActivityKey, attempt: int
    ) -> ActivityTransaction:
        raise no_transactions(self.name)

    async def stats(self) -> list[QueueStats]:
        await checkpoint()
        state, now = self.state, self.now()
        instances = [row for row in state.instances.values() if row.status not in ENDED]
        activities = list(state.activities.values())
        living = [row for row in state.workers.values() if row.alive(now)]
        found: list[QueueStats] = []
        queues = {row.new.queue for row in instances} | {one.new.queue for one in activities}
        for queue in queues:
            own = [row for row in instances if row.new.queue == queue]
            tasks = [one for one in activities if one.new.queue == queue]
            suspended = sum(row.status == "suspended" for row in own)
            held = sum(one.worker is not None for one in tasks)
            ready = [row.ready_at for row in own if row.worker is None and row.ready(now)]
            visible = [
                one.visible_at for one in tasks if one.worker is None and one.visible_at <= now
            ]
            numbers = QueueStats(
                queue=queue,
                running=len(own) - suspended,
                suspended=suspended,
                pending_instances=len(ready),
                oldest_instance_at=min((at for at in ready if at is not None), default=None),
                oldest_activity_at=min(visible, default=None),
                pending_activities=len(tasks) - held,
                running_activities=held,
                workers=sum(queue in row.queues for row in living),
                activity_workers=sum(queue in row.activity_queues for row in living),
            )
            found.append(numbers)
        return sorted(found, key=lambda one: one.queue)

    # Last, since its name hides the built-in type in what follows it.
    async def list(
        self, where: InstanceFilter, *, limit: int, after: str | None = None
    ) -> list[InstanceRecord]:
        await checkpoint()
        newest = [*reversed(self.state.instances.values())]
        now = self.now()
        if after is not None:
            ids = [row.new.id for row in newest]
            if after not in ids:
                raise InstanceNotFound(after)
            newest = newest[ids.index(after) + 1 :]
        return [row.record() for row in newest if meant(self.state, row, where, now)][:limit]
