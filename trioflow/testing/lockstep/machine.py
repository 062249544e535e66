"""The state machine: one rule for each thing that a store can be asked."""

# ruff: noqa: FBT001, PLR0917 - rules are called by keyword

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trioflow._model.limits import Limit, LimitKind
from trioflow.testing.lockstep import plans
from trioflow.testing.lockstep.comparing import shown_inbox, taken_activities, taken_instances
from trioflow.testing.lockstep.drafting import TERMINATED, UNSTARTED, Draft
from trioflow.testing.lockstep.facts import FUTURE, PAST, Facts
from trioflow.testing.lockstep.plans import (
    ACTIVITIES,
    IDS,
    QUEUES,
    WORKFLOWS,
    FilterPlan,
    Life,
    NewPlan,
    StepPlan,
    TaskPlan,
    UnitPlan,
)
from trioflow.testing.lockstep.reading import Reader
from trioflow.testing.lockstep.resets import ResetPlan, Resets, numbered, reset_plans
from trioflow.testing.lockstep.sessions import Session
from trioflow.testing.lockstep.sides import ALL, MANY, Each, Shape, plain

__all__ = ["Machine"]

_SERVED = (QUEUES, QUEUES[:1], (), (*QUEUES[1:], *QUEUES[1:]))  # by one worker after the other
_LEASES = (None, 1e6, -1.0)  # none of them ends while an example runs
_STICKY = 1e9  # longer than anything is ready, but for what was ready long before

_pick = plans.picks
_queues = st.sampled_from((QUEUES, QUEUES, QUEUES[:1], QUEUES[::-1], QUEUES[1:], ()))
_limit = st.sampled_from((3, 1, 2, MANY, 0))


class Machine(RuleBasedStateMachine):
    """One example of a run: every step is done by all stores, which are empty at first.

    Args:
        session: Where the stores are.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._sides = session.begin()
        self._facts = Facts(session.clock)
        self._draft = Draft(str(session.number), self._facts, self._sides.model)
        self._reader = Reader(self._sides, self._facts, self._draft)
        self._resets = Resets(self._draft, self._facts)
        self._changed = False
        self._failed = False
        self._limits: dict[tuple[LimitKind, str], Limit] = {}

    def _do(self, step: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> None:
        try:
            self._session.call(step, *args)
        except BaseException:
            self._failed = True
            raise

    # --- what is always true ------------------------------------------------------------------

    @invariant()
    def all_look_the_same(self) -> None:
        """All that can be seen without changing it is the same."""
        if self._changed:
            self._changed = False
            self._do(self._look)

    async def _look(self) -> None:
        self._facts.see(*await self._sides.look())

    async def _change(self, method: str, *args: Any, shape: Shape = plain, **options: Any) -> Any:
        """Call what may change something; return the model's answer."""
        self._changed = True
        return (await self._sides.call(method, *args, shape=shape, **options))[0]

    def teardown(self) -> None:
        """Compare what was not seen until now, and leave the stores empty."""
        try:
            if not self._failed:
                self._do(self._finish)
        finally:
            self._session.end(clean=not self._failed)

    async def _finish(self) -> None:
        for id in (self._draft.id(name) for name in IDS[:2]):
            await self._change("terminate", id, TERMINATED)
        for worker in self._facts.living:
            await self._change("heartbeat", worker)
        await self._look()
        for worker in self._facts.living:
            await self._change("release_worker", worker)
            self._facts.died(worker)
        for record in self._facts.records.values():
            if record.status == "suspended":
                await self._change("resume", record.id)
        await self._register()
        await self._look()
        last = self._facts.workers[-1]
        # Nobody else lives, so nothing is left to anybody.
        if not self._facts.tied_instances(last, QUEUES):
            await self._take_instances(last, QUEUES, 1, {}, _STICKY)
        await self._take_instances(last, QUEUES, MANY, {}, _STICKY)
        await self._take_all_suspects(last)
        if not self._facts.tied_tasks(QUEUES):
            await self._take_activities(last, QUEUES, 1, ())
        await self._take_activities(last, QUEUES, MANY, ())
        await self._change("release_worker", last)
        for named in self._limits:
            await self._change("remove_limit", *named)
        await self._empty()

    async def _take_all_suspects(self, worker: str) -> None:
        """Take suspects one by one; in the end all have been given, whatever their order was."""
        given: dict[str, list[tuple[str, int]]] = {side.name: [] for side in self._sides.sides}
        found: list[Any] = [None]
        while found[0] is None or found[0].instances:
            found = await self._sides.call(
                "take_instances",
                *(worker, QUEUES, 1),
                suspect=True,
                shape=lambda found, _: (len(found.instances), found.suspects),
            )
            for side, answer in zip(self._sides.sides, found, strict=True):
                given[side.name] += [(one.id, one.deaths) for one in answer.instances]
        expected = sorted(given[self._sides.model.name])
        for name, ones in given.items():
            assert sorted(ones) == expected, f"{name}: {ones}, not {expected}"

    async def _empty(self) -> None:
        for record in self._facts.records.values():
            await self._sides.call("history", record.id)
            if record.finished_at is None:
                await self._sides.call("terminate", record.id, TERMINATED)
        await self._look()
        if not self._facts.tied_ends():
            await self._change("remove", ALL, limit=1)
            await self._look()
        await self._change("remove", ALL, limit=MANY)
        for method in ("stats", "count"):
            found = await self._sides.call(method, *(() if method == "stats" else (ALL,)))
            assert not found[0], f"{found[0]} is left in an empty store\n{self._sides.story()}"

    # --- workers ------------------------------------------------------------------------------

    @initialize(
        instances=st.lists(plans.news, min_size=1, max_size=5), limit=st.sampled_from((MANY, 1, 2))
    )
    def begin(self, instances: list[NewPlan], limit: int) -> None:
        """Begin with something to do, and somebody who does it."""
        self._do(self._register)
        self._do(self._register)
        self._do(self._create, instances)
        self._do(self._look)
        self.take_instances(0, False, QUEUES, limit, (), (), 0.0, False)  # noqa: FBT003 - living

    @rule(what=plans.worker_acts, pick=_pick, dead=plans.seldom)
    def worker(self, what: str, pick: int, dead: bool) -> None:
        """A worker starts, lives, or ends; or all of those that have ended are found."""
        worker = self._draft.worker(pick, dead=dead)
        match what:
            case "register" if len(self._facts.living) < len(IDS) - 1:
                self._do(self._register)
            case "release":
                self._do(self._release_worker, worker)
            case "die":
                self._do(self._release_worker, worker, True)  # noqa: FBT003 - it died
            case "reclaim nobody":
                # No store's clock has to be moved for this…
                self._do(self._reclaim, 1e6)
            case "reclaim all":
                # …nor for that.
                self._do(self._reclaim, 0.0)
            case _:
                self._do(self._change, "heartbeat", worker)

    async def _register(self) -> None:
        worker = f"{self._draft.prefix}-w{len(self._facts.workers)}"
        queues = _SERVED[len(self._facts.workers) % len(_SERVED)]
        activity_queues = _SERVED[len(self._facts.workers) // 2 % len(_SERVED)]
        lease = _LEASES[len(self._facts.workers) % len(_LEASES)]
        told: dict[str, Any] = {"queues": queues, "activity_queues": activity_queues}
        await self._change(
            "register_worker", worker, "one of a run", **told, lease=lease, version="1"
        )
        self._facts.workers.append(worker)

    async def _release_worker(self, worker: str, died: bool = False) -> None:  # noqa: FBT002
        await self._change("release_worker", worker, died=died)
        self._facts.died(worker, suspect=died)

    async def _reclaim(self, lease: float) -> None:
        for worker in await self._change("reclaim", lease, shape=lambda found, _: sorted(found)):
            self._facts.died(worker, suspect=True)

    @rule(pick=_pick, busy=st.booleans(), then=plans.heir_acts, step=plans.steps)
    def retry_in_isolation(self, pick: int, busy: bool, then: str, step: StepPlan) -> None:
        """A worker dies that holds one instance; another one takes that, and may die of it too."""
        dead = self._busy(pick, ask=False)
        # Of several that become suspects at once any may be taken first.
        self._do(self._release_instances, dead, self._facts.held_by(dead)[1:])
        self._do(self._release_worker, dead, True)  # noqa: FBT003 - it died
        self._do(self._look)
        if not self._facts.living:
            self._do(self._register)
        heir = self._draft.worker(pick)
        if busy:
            self._do(self._take_activities, heir, QUEUES, MANY, ())
        self._do(self._take_suspect, heir, QUEUES, {})
        self._do(self._look)
        if then in ("die", "release"):
            self._do(self._release_worker, heir, then == "die")
        elif then == "commit":
            unit = UnitPlan(steps=[step], births=[])
            self._do(self._commit, heir, [unit])

    # --- taking -------------------------------------------------------------------------------

    @rule(
        pick=_pick,
        dead=plans.seldom,
        queues=_queues,
        limit=_limit,
        exclude=plans.excluded(WORKFLOWS),
        exclude_ids=plans.excluded(IDS),
        sticky=st.sampled_from((0.0, _STICKY)),
        suspect=plans.suspect,
    )
    def take_instances(
        self,
        pick: int,
        dead: bool,
        queues: tuple[str, ...],
        limit: int,
        exclude: tuple[str, ...],
        exclude_ids: tuple[str, ...],
        sticky: float,
        suspect: bool,
    ) -> None:
        """A worker takes instances, or a suspect."""
        worker = self._draft.worker(pick, dead=dead)
        ids = tuple(self._draft.id(name) for name in exclude_ids)
        unwanted = {"exclude": exclude, "exclude_ids": ids}
        if suspect:
            self._do(self._take_suspect, worker, queues, unwanted)
            return
        if limit and self._facts.tied_instances(worker, queues):
            limit = MANY
        self._do(self._take_instances, worker, queues, limit, unwanted, sticky)

    async def _take_instances(
        self,
        worker: str,
        queues: Sequence[str],
        limit: int,
        unwanted: dict[str, Sequence[str]],
        sticky: float,
    ) -> None:
        self._changed = True
        ranks = self._facts.instance_ranks if limit else self._facts.no_ranks
        alive = worker in self._facts.living
        answers = await self._sides.call(
            "take_instances",
            *(worker, queues, limit),
            **unwanted,
            sticky=sticky,
            shape=lambda found, expected: taken_instances(
                found, ranks(expected.instances), alive=alive
            ),
        )
        for side, answer in zip(self._sides.sides, answers, strict=True):
            side.see(answer.instances)

    async def _take_suspect(
        self, worker: str, queues: Sequence[str], unwanted: dict[str, Sequence[str]]
    ) -> None:
        if self._facts.tied_suspects(queues):
            return
        self._changed = True
        alive = worker in self._facts.living
        answers = await self._sides.call(
            "take_instances",
            *(worker, queues, 1),
            **unwanted,
            suspect=True,
            shape=lambda found, _: taken_instances(found, {}, alive=alive, suspect=True),
        )
        for side, answer in zip(self._sides.sides, answers, strict=True):
            side.see(answer.instances)

    @rule(
        pick=_pick,
        dead=plans.seldom,
        queues=_queues,
        limit=_limit,
        exclude=plans.excluded(ACTIVITIES),
    )
    def take_activities(
        self, pick: int, dead: bool, queues: tuple[str, ...], limit: int, exclude: tuple[str, ...]
    ) -> None:
        """A worker takes activities."""
        if self._facts.tied_tasks(queues):
            limit = MANY
        worker = self._draft.worker(pick, dead=dead)
        self._do(self._take_activities, worker, queues, limit, exclude)

    async def _take_activities(
        self, worker: str, queues: Sequence[str], limit: int, exclude: Sequence[str]
    ) -> None:
        ranks = self._facts.task_ranks
        alive = worker in self._facts.living
        taken = await self._change(
            "take_activities",
            *(worker, queues, limit),
            exclude=exclude,
            shape=lambda found, expected: taken_activities(
                found, ranks(expected.activities), alive=alive
            ),
        )
        for task in taken.activities:
            known = self._facts.tasks.get(task.key)
            assert known is not None, f"{task.key} is offered\n{self._sides.story()}"
            known.holder = worker

    # --- committing -----------------------------------------------------------------------------

    @rule(pick=_pick, steps=st.lists(plans.steps, min_size=1, max_size=3))
    def steps(self, pick: int, steps: list[StepPlan]) -> None:
        """A worker commits turns, one after the other."""
        for step in steps:
            worker = self._busy(pick, ask=True)
            unit = UnitPlan(steps=[step], births=[])
            self._do(self._commit, worker, [unit])
            self._do(self._look)

    @rule(pick=_pick, dead=plans.seldom, ask=plans.often, units=plans.batches)
    def commit(self, pick: int, dead: bool, ask: bool, units: list[UnitPlan]) -> None:
        """A worker commits several things at once; some may be wrong."""
        worker = self._draft.worker(pick, dead=True) if dead else self._busy(pick, ask=ask)
        self._do(self._commit, worker, units)

    def _busy(self, pick: int, *, ask: bool) -> str:
        """Return a worker that holds instances; one takes some if nobody does.

        Args:
            pick: Which.
            ask: Whether it has asked for messages to those.
        """
        worker = self._draft.busy_worker(pick)
        if not self._facts.held_by(worker):
            self._do(self._take_instances, worker, QUEUES, MANY, {}, 0.0)
            self._do(self._take_suspect, worker, QUEUES, {})
        elif ask:
            self._do(self._take_instances, worker, QUEUES, 0, {}, 0.0)
        self._do(self._look)
        return worker

    @rule(pick=_pick, results=plans.tasks, retries=plans.tasks, progress=plans.tasks)
    def end_activities(
        self,
        pick: int,
        results: list[TaskPlan],
        retries: list[TaskPlan],
        progress: list[TaskPlan],
    ) -> None:
        """A worker has done activities of instances that it need not hold, or a part of them."""
        worker = self._draft.busy_worker(pick, activities=True)
        if not self._facts.tasks_of(worker):
            self._do(self._take_activities, worker, QUEUES, MANY, ())
        unit = UnitPlan([], [], results, retries, progress)
        self._do(self._commit, worker, [unit])

    async def _commit(self, worker: str, units: Sequence[UnitPlan]) -> None:
        self._changed = True
        batch = self._draft.batch(worker, units)
        numbered = {
            side.name: side.numbered(batch.units, batch.places) for side in self._sides.sides
        }
        answers = await self._sides.call("commit", worker, Each(lambda side: numbered[side.name]))
        if isinstance(answers[0], type):
            return
        self._facts.stored(worker, batch.units, answers[0])
        for unit, failure in zip(batch.units, answers[0], strict=True):
            turned = [commit.id for commit in unit.instances if commit.turns or commit.new]
            self._facts.suspects.difference_update(turned if failure is None else ())
        for side, answer in zip(self._sides.sides, answers, strict=True):
            side.consume(numbered[side.name], answer)

    @rule(pick=_pick, names=plans.some_ids, all_of_it=plans.seldom, keep=st.integers(0, 2))
    def give_back(self, pick: int, names: list[str], all_of_it: bool, keep: int) -> None:
        """A worker gives instances back, or asks for all again that it holds."""
        worker = self._draft.busy_worker(pick)
        if all_of_it:
            self._do(self._recall, worker, keep)
        else:
            self._do(self._release_instances, worker, [self._draft.id(name) for name in names])

    async def _release_instances(self, worker: str, ids: Sequence[str]) -> None:
        for id in await self._change(
            "release_instances", worker, ids, shape=lambda found, _: sorted(found)
        ):
            self._facts.freed(worker, of=id)

    async def _recall(self, worker: str, keep: int) -> None:
        kept = self._facts.tasks_of(worker)[:keep]
        await self._change("recall", worker, kept)
        self._facts.freed(worker, keep=kept)

    # --- what clients ask for ---------------------------------------------------------------------

    @rule(
        instances=st.lists(plans.news, min_size=1, max_size=3),
        together=plans.seldom,
        reuse=plans.often,
        replace=plans.seldom,
    )
    def create(self, instances: list[NewPlan], together: bool, reuse: bool, replace: bool) -> None:
        """A client starts instances."""
        replacing = TERMINATED if replace else None
        self._do(self._create, instances, together, reuse, replacing)

    async def _create(
        self,
        instances: Sequence[NewPlan],
        together: bool = False,  # noqa: FBT002 - as drawn
        reuse: bool = True,  # noqa: FBT002 - as drawn
        replacing: bytes | None = None,
    ) -> None:
        new = [self._draft.new(plan) for plan in instances]
        for several in [new] if together else [[one] for one in new]:
            await self._change("create", several, reuse=reuse, replacing=replacing)

    @rule(
        what=plans.client_acts,
        pick=_pick,
        stray=plans.seldom,
        life=plans.lives,
        request=plans.requests,
    )
    def client(self, what: str, pick: int, stray: bool, life: Life, request: str) -> None:
        """A client sends an event to an instance, cancels, ends, suspends or resumes it."""
        id = self._draft.instance(pick, stray=stray)
        arguments: dict[str, tuple[bytes, ...]] = {
            "terminate": (TERMINATED,),
            "resume": (),
            "retry_now": (),
            "suspend": (self._draft.event(b"report"),),
            "cancel": (self._draft.event(), UNSTARTED),
            "send": (self._draft.event(),),
        }
        meant: dict[str, Any] = {"life": self._draft.life(id, life)}
        if what == "send":
            meant["request"] = request
        self._do(partial(self._client_act, **meant), what, id, *arguments[what])

    async def _client_act(self, what: str, id: str, *arguments: bytes, **meant: Any) -> None:
        if await self._change(what, id, *arguments, **meant) == "done" and what == "retry_now":
            self._facts.hastened(id)

    @rule(pick=_pick, stray=plans.often, plan=reset_plans)
    def reset(self, pick: int, stray: bool, plan: ResetPlan) -> None:
        """A client has an instance go on from an earlier turn."""
        self._do(self._reset, self._draft.instance(pick, stray=stray), plan)

    async def _reset(self, id: str, plan: ResetPlan) -> None:
        reset = self._resets.reset(id, plan)
        await self._sides.call("inbox", id, shape=lambda found, _: shown_inbox(found))
        numbers = {
            side.name: [one.seq for one in await side.backend.inbox(id)]
            for side in self._sides.sides
        }
        mistaken = plan.wrong == "inbox"
        given = Each(lambda side: numbered(reset, numbers[side.name], wrong=mistaken))
        if await self._change("reset", given) == "done":
            self._resets.done(id, reset.life, reset.execution + 1, reset.beginning)

    @rule(new=plans.news, plan=reset_plans)
    def fork(self, new: NewPlan, plan: ResetPlan) -> None:
        """A client has an instance begin with turns of another one."""
        self._do(self._fork, new, plan)

    async def _fork(self, new: NewPlan, plan: ResetPlan) -> None:
        made, beginning = self._resets.fork(new, plan)
        if await self._change("fork", made, beginning):
            self._resets.done(made.id, made.life, 1, beginning)

    @rule(new=plans.news, request=plans.requests)
    def create_and_send(self, new: NewPlan, request: str) -> None:
        """A client sends an event to an instance, which is created if there is none."""
        given = self._draft.new(new), self._draft.event()
        self._do(partial(self._change, request=request), "create_and_send", *given)

    @rule(limit=plans.limits, remove=plans.often)
    def limit(self, limit: Limit, remove: bool) -> None:
        """A client sets a limit that leaves room for all, or removes it."""
        named = limit.kind, limit.name
        if remove:
            self._limits.pop(named, None)
            self._do(self._change, "remove_limit", *named)
        else:
            self._limits[named] = limit
            self._do(self._change, "set_limit", limit)

    @rule(
        where=plans.filters,
        names=st.none() | plans.some_ids,
        limit=st.sampled_from((1, 2, MANY)),
    )
    def remove(self, where: FilterPlan, names: list[str] | None, limit: int) -> None:
        """A client removes what has finished."""
        self._do(self._remove, where, names, MANY if self._facts.tied_ends() else limit)

    async def _remove(self, where: FilterPlan, names: Sequence[str] | None, limit: int) -> None:
        filters = await self._reader.filters(where)
        ids = None if names is None else [self._draft.id(name) for name in names]
        await self._change("remove", filters, ids=ids, limit=limit)

    @rule(before=st.sampled_from((PAST, FUTURE)))
    def remove_executions(self, before: float) -> None:
        """A client removes executions that ended, of instances that may go on."""
        self._do(partial(self._change, limit=MANY), "remove_executions", before)

    @rule(where=plans.filters, limit=st.sampled_from((2, 1)), by=plans.groups)
    def read(self, where: FilterPlan, limit: int, by: tuple[str, bool]) -> None:
        """A client looks, in every way there is."""
        self._do(partial(self._reader.read, attribute=by[1]), where, limit, by[0])
