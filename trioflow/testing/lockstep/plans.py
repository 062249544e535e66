"""Hypothesis strategies for the steps of a run: small plans that mean something in any state.

A plan says "the second instance that this worker holds", not which one that is; so it means
something whatever happened before, and Hypothesis can leave steps out of a failing run.
"""

# ruff: noqa: FBT003 - what is drawn may be a flag

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

from hypothesis import strategies as st

from trioflow._model.attributes import AttributeCondition
from trioflow._model.limits import Limit
from trioflow.backends.records import Trouble

__all__ = [
    "ACTIVITIES",
    "ATTRIBUTES",
    "IDS",
    "QUEUES",
    "REQUESTS",
    "TROUBLE_AFTER",
    "WORKFLOWS",
    "ActivityPlan",
    "Asker",
    "BirthPlan",
    "Consume",
    "FilterPlan",
    "Life",
    "MessagePlan",
    "NewPlan",
    "StepPlan",
    "TaskPlan",
    "UnitPlan",
    "When",
    "batches",
    "client_acts",
    "excluded",
    "filters",
    "groups",
    "heir_acts",
    "ids",
    "limits",
    "lives",
    "news",
    "often",
    "picks",
    "requests",
    "seldom",
    "some_ids",
    "steps",
    "subsets",
    "suspect",
    "tasks",
    "worker_acts",
]

T = TypeVar("T")

IDS = ("a", "b", "c", "d", "e")
QUEUES = ("q", "r")
WORKFLOWS = ("flow", "grow")
ACTIVITIES = ("act", "bake")
PRIORITIES = (0, 1, -1)
TROUBLE_AFTER = (-1e8, 1e8)  # the one means all of a run, the other what is long ago
# In their stored form; as filters they are conditions that all hold.
ATTRIBUTES: tuple[bytes, ...] = (
    b"",
    b'{"n":1,"s":"a"}',
    b'{"n":2.5,"s":"b","t":["a","b"]}',
    b'{"n":-1,"s":["a"],"b":true}',
    b'{"s":true,"when":{"time":"2026-01-02T03:04:05+00:00"},"n":"1"}',
)
CONDITIONS: tuple[tuple[AttributeCondition, ...], ...] = (
    (),
    (AttributeCondition("ss", "=", word="a"),),
    (AttributeCondition("nn", "=", word="1.0"), AttributeCondition("ss", "=", word="a")),
    (AttributeCondition("nn", ">=", quantity=1.0),),
    (AttributeCondition("nn", ">", quantity=1.0), AttributeCondition("st", "=", word="b")),
    (AttributeCondition("nn", "<", quantity=1.0),),
    (AttributeCondition("twhen", "<=", quantity=1e10), AttributeCondition("bs", "=", word="true")),
    (AttributeCondition("sunknown", "=", word="a"),),
)
GROUPS = (("status", False), ("workflow", False), ("queue", False), ("s", True), ("n", True))
REQUESTS = ("r", "s")

When = Literal["never", "past", "future"]
Life = Literal["right", "wrong", "any"]
Claim = Literal["", "take", "free", "set", "clear"]
Asker = Literal["nobody", "client", "parent", "stranger"]
Consume = Literal["all", "none", "first", "last", "twice", "unknown", "foreign", "again"]
Ending = Literal["none", "completed", "failed", "cancelled", "continued", "suspended"]


@dataclass(frozen=True)
class NewPlan:
    """The fields of a `NewInstance`. ``parent`` is an id, or empty; ``start`` is when it starts.

    ``attributes`` are those of `ATTRIBUTES` of that number, 0 is for none.
    """

    id: str
    queue: str
    workflow: str
    priority: int
    parent: str
    start: When
    attributes: int


@dataclass(frozen=True)
class ActivityPlan:
    """An activity to be stored."""

    queue: str
    activity: str
    leased: bool
    priority: int


@dataclass(frozen=True)
class MessagePlan:
    """A message; ``execution`` counts from the one its target is in, ``None`` is any.

    ``unstarted``: it ends a target that has not begun, and this one asks for that. ``new``: it
    creates an instance instead, with ``reuse``, and with ``replace`` in the place of another.
    ``claim``: what it asks for of something shared instead; of an event with ``reuse``.
    ``terminates``: it ends its target instead.
    """

    to: str
    execution: int | None
    life: Life
    replies: bool
    unstarted: Asker
    new: NewPlan | None
    reuse: bool
    replace: bool
    claim: Claim
    terminates: bool


@dataclass(frozen=True)
class StepPlan:
    """A commit of an instance that is there, if all goes well one that the worker holds.

    Attributes:
        pick: Which of those that the worker holds; of all ids if ``stray``.
        late: Turns that the worker missed: what makes the number wrong.
        finished: How many of its activities have ended with it.
        cancelled: Which of its activities are to be cancelled.
        answers: Which requests it answers, made or not.
    """

    pick: int
    stray: bool
    late: int
    execution: int
    life: Life
    turns: int
    consume: Consume
    ending: Ending
    leased: bool
    wake: When
    due: bool
    status: bool
    attributes: int | None
    finished: int
    cancelled: list[int]
    activities: list[ActivityPlan]
    messages: list[MessagePlan]
    answers: list[str]


@dataclass(frozen=True)
class BirthPlan:
    """A commit that creates an instance; its parent is the first instance of the unit."""

    new: NewPlan
    child: bool
    turns: int
    ending: Ending
    leased: bool
    wake: When
    due: bool
    activities: list[ActivityPlan]
    messages: list[MessagePlan]


@dataclass(frozen=True)
class TaskPlan:
    """An activity of those that the worker holds; of all that are known if ``stray``."""

    pick: int
    stray: bool
    visible: When


@dataclass(frozen=True)
class UnitPlan:
    """What stands or falls together."""

    steps: list[StepPlan]
    births: list[BirthPlan]
    results: list[TaskPlan] = field(default_factory=list[TaskPlan])
    retries: list[TaskPlan] = field(default_factory=list[TaskPlan])
    progress: list[TaskPlan] = field(default_factory=list[TaskPlan])


@dataclass(frozen=True)
class FilterPlan:
    """The fields of an `InstanceFilter`; times are those of the instance of that id, if any."""

    status: tuple[str, ...]
    workflow: str | None
    queue: str | None
    parent: str | None
    id_prefix: str | None
    created_before: str
    created_after: str
    finished_before: str
    finished_after: str
    attributes: tuple[AttributeCondition, ...]
    trouble: Trouble | None
    trouble_after: float


# --- strategies: what is usual comes first, since failing runs shrink towards it ------------------

picks = st.integers(0, 3)
"""Which of several; taken modulo their number."""

ids = st.sampled_from(IDS)
_someone = st.sampled_from((*IDS, "nobody"))
_queue = st.sampled_from((*QUEUES[:1] * 3, *QUEUES))
_workflow = st.sampled_from(WORKFLOWS)
# Mostly equal, since what is equal is ordered by time.
_priority = st.sampled_from((*PRIORITIES[:1] * 4, *PRIORITIES))
_when: st.SearchStrategy[When] = st.sampled_from(("never", "past", "future"))


def _mostly(usual: T, *others: T, weight: int = 6) -> st.SearchStrategy[T]:
    return st.sampled_from((usual,) * weight + others)


def _few(strategy: st.SearchStrategy[T], most: int = 2) -> st.SearchStrategy[list[T]]:
    return st.lists(strategy, max_size=most)


def subsets(names: Sequence[T]) -> st.SearchStrategy[list[T]]:
    """Return a strategy of lists of some of the names, in any order."""
    return st.lists(st.sampled_from(names), unique=True, max_size=len(names))


seldom = _mostly(False, True)
often = _mostly(True, False, weight=3)

suspect = _mostly(False, True, weight=3)

some_ids = subsets((*IDS, "nobody"))
worker_acts = st.sampled_from(
    (*("heartbeat", "register") * 2, "release", "die", "reclaim nobody", "reclaim all")
)
heir_acts = st.sampled_from(("commit", "die", "release", "go on"))
"""What a worker does that has taken a suspect."""
client_acts = st.sampled_from(
    (
        *(*("send",) * 4, *("resume",) * 2, *("cancel",) * 2, "terminate", "suspend"),
        "retry_now",
    )
)


requests = _mostly("", *REQUESTS, weight=2)
"""What a client asks with an event, if anything."""


def excluded(names: Sequence[str]) -> st.SearchStrategy[tuple[str, ...]]:
    """Return a strategy of none or, now and then, one of the names."""
    return _mostly((), *((name,) for name in names))


_never: When = "never"
_attributes = _mostly(0, *range(len(ATTRIBUTES)), weight=3)
news = st.builds(
    NewPlan,
    id=ids,
    queue=_queue,
    workflow=_workflow,
    priority=_priority,
    parent=_mostly("", *IDS, "nobody"),
    start=_mostly(_never, "past", "future"),
    attributes=_attributes,
)
_right: Life = "right"
_any: Life = "any"
_life: st.SearchStrategy[Life] = _mostly(_any, "right", "right", "wrong", weight=4)
# Of those that are equal, which ones are taken differs; so these keep nobody waiting. But what is
# born leased is refused, and instances are admitted and dismissed. Kinds share a name.
limits = st.sampled_from(
    (
        Limit(kind="queue", name="q", concurrency=1000),
        Limit(kind="activity", name="act", concurrency=1000, rate=1000, per=1e6),
        Limit(kind="workflow", name="flow", concurrency=1000),
        Limit(kind="activity", name="flow", concurrency=1000),
        Limit(kind="queue", name="flow", concurrency=1000),
    )
)
lives = _life
"""Which life of an id is meant."""

_activity = st.builds(
    ActivityPlan,
    queue=_queue,
    activity=st.sampled_from(ACTIVITIES),
    leased=st.booleans(),
    priority=_priority,
)
_not_asked: Asker = "nobody"
_asker: st.SearchStrategy[Asker] = _mostly(_not_asked, "client", "parent", "stranger", weight=12)
_none: NewPlan | None = None
_news = st.one_of(*[st.just(_none)] * 5, news)
_no_claim: Claim = ""
_claim: st.SearchStrategy[Claim] = _mostly(
    _no_claim, "take", "take", "take", "free", "free", "set", "clear", weight=12
)
_message = st.builds(
    MessagePlan,
    to=_someone,
    execution=st.sampled_from((None, 0, -1, 1)),
    life=_life,
    replies=st.booleans(),
    unstarted=_asker,
    new=_news,
    reuse=often,
    replace=seldom,
    claim=_claim,
    terminates=seldom,
)
_going_on: Ending = "none"
_endings: tuple[Ending, ...] = ("completed", "failed", "cancelled", "continued", "suspended")
_ending: st.SearchStrategy[Ending] = _mostly(_going_on, *_endings, "continued", "suspended")
_usual: tuple[Consume, ...] = ("all",) * 6
_partly: tuple[Consume, ...] = ("none", "first", "last") * 2
_consume: st.SearchStrategy[Consume] = st.sampled_from(
    (*_usual, *_partly, "twice", "unknown", "foreign", "again")
)
_step = st.builds(
    StepPlan,
    pick=picks,
    stray=_mostly(False, True, weight=5),
    late=_mostly(0, 1, -1, weight=18),
    execution=_mostly(0, 1, -1, weight=24),
    life=_mostly(_right, "wrong", weight=9),
    turns=_mostly(1, 0, 2, weight=3),
    consume=_consume,
    ending=_ending,
    leased=_mostly(True, False, weight=2),
    wake=_when,
    due=_mostly(False, True, weight=3),
    status=_mostly(False, True, weight=3),
    attributes=_mostly(None, *range(len(ATTRIBUTES))),
    finished=_mostly(0, 1, 2, weight=2),
    cancelled=_few(picks),
    activities=_few(_activity, 3),
    messages=_few(_message, 3),
    answers=subsets(REQUESTS),
)
_birth = st.builds(
    BirthPlan,
    new=news,
    child=_mostly(True, False, weight=3),
    turns=st.sampled_from((0, 1)),
    ending=_mostly(_going_on, *_endings, weight=12),
    leased=st.booleans(),
    wake=_when,
    due=st.booleans(),
    activities=_few(_activity),
    messages=_few(_message),
)
_task = st.builds(
    TaskPlan,
    pick=picks,
    stray=_mostly(False, True),
    visible=st.sampled_from(("past", "future")),
)
steps = _step
"""One instance's own commit."""

batches = st.lists(
    st.builds(
        UnitPlan,
        steps=st.lists(_step, min_size=1, max_size=2),
        births=_few(_birth),
        results=_few(_task),
        retries=_few(_task),
        progress=_few(_task),
    ),
    min_size=1,
    max_size=3,
)
"""What is committed together."""

filters = st.builds(
    FilterPlan,
    status=_mostly((), ("running",), ("suspended", "completed"), ("terminated",), weight=4),
    workflow=_mostly(None, *WORKFLOWS),
    queue=_mostly(None, *QUEUES),
    parent=_mostly(None, "", *IDS),
    id_prefix=_mostly(None, "", *IDS),
    created_before=_mostly("", *IDS),
    created_after=_mostly("", *IDS),
    finished_before=_mostly("", *IDS),
    finished_after=_mostly("", *IDS),
    trouble=_mostly(None, *get_args(Trouble), weight=5),
    trouble_after=st.sampled_from(TROUBLE_AFTER),
    attributes=_mostly(*CONDITIONS, weight=4),
)
groups = st.sampled_from(GROUPS)
"""What a client counts by, and whether that is an attribute."""

tasks = _few(_task)
"""Activities that a worker has something to say of."""
