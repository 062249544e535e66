"""Running a cluster: workers that come and go, faults by a seed, and what has to be true after."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import msgspec
import trio

from trioflow._client.client import Client
from trioflow._codec.values import Codec, JsonCodec
from trioflow._registry import Registry, default_registry
from trioflow._worker.options import WorkerOptions
from trioflow._worker.run import worker_on
from trioflow.backends.abc import Backend
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.records import CommitFailure, InstanceFilter, Unit
from trioflow.testing.clock import repeatable_order, virtual_time
from trioflow.testing.cluster.host import SimulatedTrioHost
from trioflow.testing.cluster.invariants import BrokenInvariant, Ledger, check_store
from trioflow.testing.cluster.link import Link
from trioflow.testing.history import History
from trioflow.testing.tester import DEFAULT_START

__all__ = ["Cluster", "ClusterReport", "Faults"]

_PATIENCE = 600.0  # virtual seconds in which everything has to end once there are no faults
_AT_REST = 5.0  # virtual seconds between two looks whether it has


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How often what goes wrong; times are virtual seconds, the mean of random ones.

    Attributes:
        life: How long a worker lives before it is killed or drained.
        killed: How likely it is that it is killed.
        down: How long it is away then.
        between: How long a worker's link is well before something happens to it.
        cut: How long it is cut; now and then that is longer than a lease.
        slow: How long it is slow.
        lost: How likely it is that an answer is lost while it is bad.
    """

    life: float = 20.0
    killed: float = 0.7
    down: float = 2.0
    between: float = 8.0
    cut: float = 3.0
    slow: float = 3.0
    lost: float = 0.2


class ClusterReport(msgspec.Struct, frozen=True):
    """What a run of a `Cluster` was.

    Attributes:
        seed: Its seed.
        seconds: How much virtual time has passed.
        trace: The faults, one line each.
        statuses: How many instances ended in which way.
        histories: The histories of all instances.
        digest: Depends on everything that was stored; the same seed gives the same.
    """

    seed: int
    seconds: float
    trace: list[str]
    statuses: dict[str, int]
    histories: list[History]
    digest: str


def _in_memory(clock: Callable[[], float]) -> Backend:
    return MemoryBackend(clock=clock)


class _Witness:
    """Stands before the store, and notes what it has accepted."""

    def __init__(self, store: Backend, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        results = await self._store.commit(worker, units)
        self._ledger.committed(worker, units, results)
        return results


class Cluster:
    """Workers, clients and a store in one process, on virtual time, with faults drawn from a seed.

    Args:
        seed: The same seed gives the same run.
        registry: The definitions; by default all that were decorated in this process. Activities
            that are plain functions run in no time.
        workers: How many there are at a time.
        faults: How often what goes wrong; ``None`` for nothing.
        lease: Of the workers, seconds.
        codec: How values are stored; by default `JsonCodec`.
        store: Makes the store, given its clock; by default the one in memory. It must do everything
            inline: no threads and no real time.
        options: Further options of `open_worker`, for all workers. What is not given is drawn.

    Example:
        >>> async def scenario(client):
        ...     await client.run(checkout, "order-7")
        >>> report = Cluster(7, registry=flows).run(scenario)  # doctest: +SKIP
    """

    def __init__(
        self,
        seed: int,
        *,
        registry: Registry | None = None,
        workers: int = 3,
        faults: Faults | None = Faults(),  # noqa: B008  # it is frozen
        lease: float = 5.0,
        codec: Codec | None = None,
        store: Callable[[Callable[[], float]], Backend] | None = None,
        **options: Any,
    ) -> None:
        self.seed = seed
        self._registry = default_registry if registry is None else registry
        self._workers = workers
        self._faults = faults
        self._lease = lease
        self._codec = codec or JsonCodec()
        self._make_store = _in_memory if store is None else store
        self._options = options
        self._chance = random.Random(seed)  # noqa: S311  # it is repeated
        self._trace: list[str] = []
        self._healthy = anyio.Event()
        self._ledger = Ledger()

    def run(self, scenario: Callable[[Client], Awaitable[object]]) -> ClusterReport:
        """Run what clients do, let everything end, and check what must hold.

        Args:
            scenario: Is given a client, whose own link is well. When it returns the faults stop.

        Raises:
            BrokenInvariant: A promise was broken.
            Exception: What the scenario raised.
        """
        with repeatable_order(self.seed):
            return trio.run(self._main, scenario)

    async def _main(self, scenario: Callable[[Client], Awaitable[object]]) -> ClusterReport:
        with virtual_time() as clock:
            began = clock.now
            clock.now = 0.0  # of no loop but this, which has just begun
            self._healthy = anyio.Event()
            self._start = DEFAULT_START
            store = self._make_store(lambda: DEFAULT_START + clock.now)
            self._store = cast("Backend", _Witness(store, self._ledger))
            await store.open()
            try:
                async with trio.open_nursery() as nursery:
                    for number in range(self._workers):
                        nursery.start_soon(self._keep, number + 1)
                    async with self._client() as client:
                        await scenario(client)
                        self._say("no more faults")
                        self._healthy.set()
                        await self._end()
                    nursery.cancel_scope.cancel()
                problems, histories = await check_store(
                    store, self._registry, self._ledger, may_suspend=self._faults is not None
                )
                report = await self._report(clock.now, histories)
            finally:
                with anyio.CancelScope(shield=True):
                    await store.aclose()
                clock.now += began
        if problems:
            told = "\n".join([*problems[:20], "the faults of this run:", *self._trace])
            raise BrokenInvariant(f"seed {self.seed}: {told}")
        return report

    async def _report(self, seconds: float, histories: list[History]) -> ClusterReport:
        statuses: dict[str, int] = {}
        for history in histories:
            statuses[history.status] = statuses.get(history.status, 0) + 1
        data = msgspec.json.encode([histories, self._trace])
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        return ClusterReport(self.seed, seconds, self._trace, statuses, histories, digest)

    async def _end(self) -> None:
        """Wait until no instance is running, for a long time."""
        running = InstanceFilter(status=("running",))
        with anyio.move_on_after(_PATIENCE):
            while await self._store.count(running):  # noqa: ASYNC110  # what a client sees
                await anyio.sleep(_AT_REST)
        # Workers hear with a heartbeat that what they run has ended; the dead are to be found.
        await anyio.sleep(3 * self._lease)

    def _say(self, text: str) -> None:
        self._trace.append(f"{trio.current_time():10.3f} {text}")

    # --- workers ------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Have a worker, and another one in its place when that has gone."""
        chance = random.Random(f"{self.seed}/{number}")  # noqa: S311  # it is repeated
        life = 0
        while True:
            life += 1
            name = f"worker {number}.{life}"
            link = Link(self._store, chance, trio.current_time)
            killed = chance.random() < (0.0 if self._faults is None else self._faults.killed)
            await self._live(name, link, chance, killed=killed)
            if self._faults is not None and not self._healthy.is_set():
                await anyio.sleep(chance.expovariate(1 / self._faults.down))

    async def _live(self, name: str, link: Link, chance: random.Random, *, killed: bool) -> None:
        faults = self._faults
        host = SimulatedTrioHost(chance.getrandbits(64), self._start)
        self._say(f"{name} begins")
        with trio.CancelScope() as alive:
            async with worker_on(
                cast("Backend", link), self._draw(name, chance, killed=killed), host
            ):
                if faults is None:
                    await trio.sleep_forever()
                    raise AssertionError("it is cancelled")
                with trio.CancelScope() as troubled:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._trouble, name, link, chance, faults)
                        nursery.start_soon(self._heal, link, troubled)
                        await anyio.sleep(chance.expovariate(1 / faults.life))
                        troubled.cancel()
                if self._healthy.is_set():
                    await anyio.sleep_forever()
                self._say(f"{name} is {'killed' if killed else 'drained'}")
                link.dead = killed
                alive.cancel()

    def _draw(self, name: str, chance: random.Random, *, killed: bool) -> WorkerOptions:
        drawn: dict[str, Any] = {
            "registry": self._registry,
            "codec": self._codec,
            "name": name,
            "lease": self._lease,
            "drain": 0.0 if killed else chance.choice((0.0, 1.0)),
            "cache_size": chance.choice((0, 1, 1000)),
            "max_instances": chance.choice((3, 1000)),
            "max_activities": chance.choice((3, 1000)),
            "sticky": chance.choice((0.0, 1.0)),
        }
        return WorkerOptions(**{**drawn, **self._options})

    async def _heal(self, link: Link, troubled: trio.CancelScope) -> None:
        await self._healthy.wait()
        link.cut_until = link.slow_until = -1.0
        link.loses = 0.0
        troubled.cancel()

    async def _trouble(self, name: str, link: Link, chance: random.Random, faults: Faults) -> None:
        while True:
            await anyio.sleep(chance.expovariate(1 / faults.between))
            now = trio.current_time()
            kind = chance.choice(("is cut", "is slow", "loses answers"))
            seconds = chance.expovariate(1 / (faults.slow if kind == "is slow" else faults.cut))
            self._say(f"the link of {name} {kind} for {seconds:.3f} s")
            if kind == "is cut":
                link.cut_until = now + seconds
            elif kind == "is slow":
                link.slow_until = now + seconds
            else:
                link.loses = faults.lost
            await anyio.sleep(seconds)
            link.loses = 0.0

    # --- clients ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _client(self) -> AsyncGenerator[Client]:
        chance = random.Random(f"{self.seed}/client")  # noqa: S311  # it is repeated
        host = SimulatedTrioHost(chance.getrandbits(64), self._start)
        link = Link(self._store, chance, trio.current_time)
        client = Client(
            cast("Backend", link),
            codec=self._codec,
            registry=self._registry,
            random=host.random,
            wall=host.wall,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(client.watch)
            try:
                yield client
            finally:
                client.close()
                group.cancel_scope.cancel()
