"""How instances come to a worker: started by a client in this process, or taken from the store."""

from __future__ import annotations

import anyio
import msgspec

from trioflow._model.events import decode_event
from trioflow._observe import Observers
from trioflow._worker.host import Host
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch, Received
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.isolation import Isolation
from trioflow._worker.instances.recorder import Recorder
from trioflow._worker.instances.results import Results
from trioflow._worker.instances.telling import tell_taken
from trioflow.backends.abc import Backend
from trioflow.backends.commits import NewInstance
from trioflow.backends.records import TakenInstance
from trioflow.errors import BackendUnavailable

__all__ = ["Intake", "Start"]

_PATIENCE = 10.0
"""Seconds for which a cancelled start waits to be stored."""


class Start:
    """A client's request to start an instance, which waits until the instance is stored.

    Args:
        new: The instance.
        host: Where its caller waits.

    Attributes:
        created: True once it is; False if an unfinished instance has the id, or had it; ``None``
            before.
        error: Why it is not known, or cannot be stored; ``None`` otherwise.
    """

    __slots__ = ("_done", "_host", "created", "error", "new")

    def __init__(self, new: NewInstance, host: Host) -> None:
        self.new = new
        self._host = host
        self.created: bool | None = None
        self.error: Exception | None = None
        self._done = anyio.Event()

    def settle(self, *, created: bool) -> None:
        """Say how it went, once."""
        if not self._done.is_set():
            self.created = created
            self._done.set()

    def fail(self, error: Exception) -> None:
        """Say why it cannot be stored, or why nobody knows; unless it is settled."""
        if not self._done.is_set():
            self.error = error
            self._done.set()

    async def wait(self) -> bool:
        """Return whether the instance was created. A caller that is cancelled waits for that too.

        What was handed over may be stored at any moment; so the cancellation comes afterwards. But
        a store that is away must not keep a program from ending: then that is said.

        Raises:
            BackendUnavailable: The caller was cancelled, and the store does not answer.
            BackendError: The store refused it, or the worker ended before it was stored.
        """
        if not await self._host.outlast(self._done, _PATIENCE):
            raise BackendUnavailable(
                f"the store does not answer, and the start of instance {self.new.id!r} was "
                "cancelled: whether it is stored shows when the store is back"
            )
        if self.error is not None:
            raise self.error
        return bool(self.created)


class Intake:
    """Adds instances to what the worker holds.

    To the client in the same process it is the local worker.

    Args:
        backend: The store.
        host: Where clients wait for their start.
        holdings: What the worker holds.
        batch: The batch that is being built.
        recorder: Writes into it.
        results: For results that came for another life of an id, or another execution.
        isolation: The suspects.
        observers: Who is told of what is taken, ``None`` for nobody.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        host: Host,
        holdings: Holdings,
        batch: Batch,
        recorder: Recorder,
        results: Results,
        isolation: Isolation,
        observers: Observers | None = None,
    ) -> None:
        self._backend = backend
        self._host = host
        self._holdings = holdings
        self._batch = batch
        self._recorder = recorder
        self._results = results
        self._isolation = isolation
        self._observers = observers

    # --- from a client in this process --------------------------------------------------

    def life_of(self, instance: str) -> str | None:
        """Return the life of an instance that is stored and held by this worker now."""
        held = self._holdings.held.get(instance)
        return None if held is None or held.new is not None else held.life

    def accepts(self, workflow: str, queue: str) -> bool:
        """Whether an instance of that kind could begin here."""
        return self._holdings.accepts(workflow, queue)

    def start(self, new: NewInstance) -> Start:
        """Create an instance and begin it at once; the caller waits on what is returned.

        It is not created if this worker holds one of that id, which may have been terminated
        meanwhile: only the store knows.
        """
        start = Start(new, self._host)
        if new.id in self._holdings.held or self._holdings.closed:
            start.settle(created=False)
            return start
        instance = HeldInstance.born(new, start)
        self._holdings.hold(instance)
        self._batch.unit_of(instance)
        self._holdings.queue(instance)
        return start

    # --- from the store -----------------------------------------------------------------

    def receive(self, row: TakenInstance) -> None:
        """Accept an instance that the store gave; never called while a commit is under way."""
        if self._observers is not None:
            tell_taken(self._observers, row, self._holdings, self._backend.now())
        instance = self._place_of(row)
        if instance is None:
            return
        if row.deaths:
            self._isolation.add(instance)
        instance.refresh(row, self._backend.now())
        try:
            for message in row.inbox:
                if message.seq > instance.last_seq:
                    event = decode_event(message.event)
                    instance.receive(Received(event, message.at, seq=message.seq))
        except msgspec.MsgspecError as exc:
            if instance.may_step:
                self._recorder.suspend(instance, reports.unreadable_message(instance, exc))
            return
        self._holdings.queue(instance)

    def _place_of(self, row: TakenInstance) -> HeldInstance | None:
        """Return what stands for a row here; ``None`` if that has to wait."""
        instance = self._holdings.held.get(row.id)
        if instance is not None and not instance.is_same_as(row):
            if instance.commit is not None:
                # Its commit will be refused. The row is received after that.
                instance.succeed_by(row)
                return None
            self._results.hand_over(instance)  # or the rows of what has ended would stay
            self._holdings.drop(instance)
            instance = None
            if self._isolation.suspects:
                self._isolation.review()
        if instance is None:
            instance = self._holdings.unpark(row)
            self._holdings.hold(instance)
        return instance
