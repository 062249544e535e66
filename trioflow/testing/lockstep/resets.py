"""Resets and forks in a run: from plans to arguments that each store can be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st

from trioflow._model.events import ParentRef
from trioflow.backends.commits import NewActivity
from trioflow.backends.records import ENDED, ActivityKey, InstanceRecord
from trioflow.backends.resets import Beginning, Reset, Returned
from trioflow.testing.lockstep.drafting import TERMINATED, Draft
from trioflow.testing.lockstep.facts import Facts, Task
from trioflow.testing.lockstep.plans import ATTRIBUTES, NewPlan, news

__all__ = ["ResetPlan", "Resets", "numbered", "reset_plans"]

Wrong = Literal["nothing", "execution", "turns", "life", "inbox", "adopted"]


@dataclass(frozen=True)
class ResetPlan:
    """A reset, or a fork.

    Attributes:
        wrong: In what it is mistaken.
        turns: How many turns the execution begins with.
        inbox: For each message whether it is for the execution alone.
        kept: How many of the activities go on, at most.
        fresh: How many begin besides.
        adopted: How many of the sub-workflows go on, at most.
        keeps_parent: As in `Reset`.
        children: Sub-workflows that begin.
        attributes: As in `NewPlan`.
    """

    wrong: Wrong
    turns: int
    inbox: list[bool]
    kept: int
    fresh: int
    adopted: int
    keeps_parent: bool
    children: list[NewPlan]
    attributes: int


_fine: tuple[Wrong, ...] = ("nothing",) * 12
_mistakes: tuple[Wrong, ...] = ("execution", "turns", "life", "inbox", "adopted")
_wrong: st.SearchStrategy[Wrong] = st.sampled_from((*_fine, *_mistakes))
reset_plans = st.builds(
    ResetPlan,
    wrong=_wrong,
    turns=st.integers(0, 2),
    inbox=st.lists(st.booleans(), max_size=2),
    kept=st.integers(0, 2),
    fresh=st.integers(0, 1),
    adopted=st.integers(0, 2),
    keeps_parent=st.booleans(),
    children=st.lists(news, max_size=1),
    attributes=st.integers(0, len(ATTRIBUTES) - 1),
)


class Resets:
    """Turns plans into arguments, and tells the facts what came of them."""

    def __init__(self, draft: Draft, facts: Facts) -> None:
        self._draft = draft
        self._facts = facts

    def reset(self, id: str, plan: ResetPlan) -> Reset:
        """Return a reset of an instance, without the numbers of its inbox."""
        record = self._facts.records.get(id)
        life, execution, turns = ("", 1, 0)
        if record is not None:
            life, execution, turns = record.life, record.execution, record.turns
        adopted = [] if record is None else self._children_of(record)[: plan.adopted]
        if plan.wrong == "adopted":
            adopted = [*adopted, self._draft.id("nobody")]
        me = (id, execution + 1, life)
        return Reset(
            id=id,
            life="life of another" if plan.wrong == "life" else life,
            execution=execution + (plan.wrong == "execution"),
            turns=turns + (plan.wrong == "turns"),
            ending=b'{"ending":%d}' % self._facts.next_number(),
            beginning=self._beginning(plan, me, self._facts.commands.get(id, [])[: plan.kept]),
            adopted=adopted,
            keeps_parent=plan.keeps_parent,
            outcome=TERMINATED,
            inbox=[],
        )

    def fork(self, new: NewPlan, plan: ResetPlan) -> tuple[Any, Beginning]:
        """Return the arguments of a fork."""
        made = self._draft.new(new)
        return made, self._beginning(plan, (made.id, 1, made.life), [])

    def done(self, id: str, life: str, execution: int, begin: Beginning) -> None:
        """Learn that activities are there, and that the instance is no suspect."""
        self._facts.suspects.discard(id)
        for new in begin.activities:
            old = self._facts.tasks.get(ActivityKey(id, execution - 1, new.command, life))
            since = self._facts.clock() if old is None else old.since
            task = Task(new.queue, new.activity, new.priority, None, since)
            self._facts.tasks[ActivityKey(id, execution, new.command, life)] = task

    def _children_of(self, record: InstanceRecord) -> list[str]:
        me = (record.id, record.execution, record.life)
        return [
            one.id
            for one in self._facts.records.values()
            if one.status not in ENDED
            and (ref := one.parent) is not None
            and (ref.instance, ref.execution, ref.life) == me
        ]

    def _beginning(self, plan: ResetPlan, me: tuple[str, int, str], kept: list[str]) -> Beginning:
        id, execution, life = me
        number = self._facts.next_number
        commands = [*kept, *(f"9:{number()}" for _ in range(plan.fresh))]
        born = [
            self._draft.new(child, ParentRef(id, execution, f"8:{n}", life))
            for n, child in enumerate(plan.children)
        ]
        return Beginning(
            turns=[b'{"turn":%d}' % number() for _ in range(plan.turns)],
            events=plan.turns * 3,
            inbox=[
                Returned(self._draft.event(), self._draft.when("past") or 0.0, own)
                for own in plan.inbox
            ],
            activities=[
                NewActivity(command, "act", "q", b"[%d]" % number(), priority=n % 2)
                for n, command in enumerate(commands)
            ],
            children=[child for child in born if child.id != id],
            wake_at=self._draft.when("past") if plan.turns else None,
            carried=b"[%d]" % number() if plan.turns else None,
            attributes=ATTRIBUTES[plan.attributes],
        )


def numbered(reset: Reset, seqs: list[int], *, wrong: bool) -> Reset:
    """Return a reset with a store's numbers of what is in the inbox."""
    return msgspec.structs.replace(reset, inbox=[*seqs, 10**12] if wrong else seqs)
