"""What a worker holds in memory of one instance."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from trioflow.engine.execution import Execution, Identity
from trioflow.model.events import Event, ParentRef
from trioflow.model.records import InstanceCommit, Message, NewInstance, TakenInstance

if TYPE_CHECKING:
    from trioflow.worker.batch import OpenUnit
    from trioflow.worker.starts import Start

__all__ = ["Delivery", "Live", "Received"]


class Received:
    """An event that waits to be consumed by a turn, and where it comes from.

    Attributes:
        seq: Its row in the inbox, or ``None``.
        finished: The command whose activity row goes with it (a local result), or ``None``.
        delivery: Set if it is a child's end that is not stored yet: parent and child then commit
            together.
    """

    __slots__ = ("delivery", "event", "finished", "seq")

    def __init__(
        self,
        event: Event,
        *,
        seq: int | None = None,
        finished: str | None = None,
        delivery: Delivery | None = None,
    ) -> None:
        self.event = event
        self.seq = seq
        self.finished = finished
        self.delivery = delivery


class Delivery:
    """A child's end on its way to a parent that is at hand, not stored yet."""

    __slots__ = ("child", "consumed", "message", "parent")

    def __init__(self, child: Live, parent: Live, message: Message) -> None:
        self.child = child
        self.parent = parent
        self.message = message
        self.consumed = False


class Live:
    """An instance that this worker holds, or keeps for when it is taken again.

    Attributes:
        life: Which of the id's lives it is (`NewInstance.life`).
        turns: How many turns of the execution are stored, those of the open batch included.
        execution: The running code; ``None`` until the history is loaded.
        received: Events that wait for a turn.
        last_seq: The newest inbox row that was received.
        due: The earliest deadline may have come.
        committing: Its commit is under way; until that returns it makes no turn.
        queued: It is in the pump's queue.
        commit: What the open batch, or the one under way, says of it.
        used: What the turns in `commit` consumed.
        ended: The execution has ended in `commit`: no further turn before that is stored.
        cancel_here: Commands whose activities run here and are to be cancelled once `commit` is
            stored.
        alone: Its last unit failed: its children begin in a later batch this time, and its parent
            hears of its end through the inbox.
    """

    __slots__ = (
        "alone",
        "cancel_here",
        "carried",
        "commit",
        "committing",
        "due",
        "ended",
        "events",
        "execution",
        "failures",
        "id",
        "input",
        "last_seq",
        "life",
        "metadata",
        "new",
        "number",
        "parent",
        "priority",
        "queue",
        "queued",
        "received",
        "start",
        "turns",
        "unit",
        "used",
        "wake_at",
        "workflow",
    )

    def __init__(  # noqa: PLR0917  # what a new instance has
        self,
        id: str,
        number: int,
        workflow: str,
        queue: str,
        parent: ParentRef | None,
        input: bytes,
        metadata: bytes,
        priority: int,
    ) -> None:
        self.id = id
        self.number = number
        self.workflow = workflow
        self.queue = queue
        self.parent = parent
        self.input = input
        self.metadata = metadata
        self.priority = priority
        self.life = ""
        self.carried = b""
        self.turns = 0
        self.events = 0
        self.execution: Execution | None = None
        self.received: deque[Received] = deque()
        self.last_seq = 0
        self.due = False
        self.wake_at: float | None = None
        self.committing = False
        self.queued = False
        self.new: NewInstance | None = None
        self.start: Start | None = None
        self.commit: InstanceCommit | None = None
        self.unit: OpenUnit | None = None
        self.used: list[Received] = []
        self.cancel_here: list[str] = []
        self.ended = False
        self.alone = False
        self.failures = 0

    @classmethod
    def born(cls, new: NewInstance) -> Live:
        """An instance that this worker creates and holds from birth."""
        live = cls(
            *(new.id, 1, new.workflow, new.queue, new.parent),
            *(new.input, new.metadata, new.priority),
        )
        live.new = new
        live.life = new.life
        return live

    @classmethod
    def taken(cls, row: TakenInstance) -> Live:
        """An instance as the store gave it."""
        live = cls(
            *(row.id, row.execution, row.workflow, row.queue, row.parent),
            *(row.input, row.metadata, row.priority),
        )
        live.life = row.life
        live.turns = row.turns
        live.events = row.events
        live.carried = row.carried
        live.wake_at = row.wake_at
        return live

    @property
    def identity(self) -> Identity:
        """What its code may know of it."""
        return Identity(self.id, self.number, self.queue, self.priority)

    @property
    def has_work(self) -> bool:
        """Whether a turn would have something to consume."""
        return bool(self.received) or self.due or self.turns == 0
