"""Running a cluster: workers that come and go, faults by a seed, and what has to be true after."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, cast

import anyio
import msgspec
import trio

from trioflow._client.client import Client
from trioflow._codec.values import Codec, JsonCodec
from trioflow._registry import Registry, default_registry
from trioflow._worker.options import WorkerOptions
from trioflow.backends.abc import Backend
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.memory import MemoryBackend
from trioflow.testing.clock import SimulatedClock, repeatable_order, simulated_time
from trioflow.testing.cluster.faults import Faults
from trioflow.testing.cluster.host import SimulatedTrioHost
from trioflow.testing.cluster.invariants import BrokenInvariant, Ledger, check_store
from trioflow.testing.cluster.link import Link
from trioflow.testing.cluster.process import Process, skew_here
from trioflow.testing.cluster.witness import Witness
from trioflow.testing.history import History
from trioflow.testing.tester import DEFAULT_START

__all__ = ["Cluster", "ClusterReport"]

_PATIENCE = 600.0  # virtual seconds in which everything has to end once there are no faults
_SUSPENDED = InstanceFilter(status=("suspended",))
_AT_REST = 5.0  # virtual seconds between two looks whether it has


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


class Cluster:
    """Workers, clients and a store in one process, on virtual time, with faults drawn from a seed.

    Args:
        seed: The same seed gives the same run.
        registry: The definitions; by default all that were decorated in this process. Activities
            that are plain functions run in no time.
        deploys: Later versions of the definitions. They are deployed one after the other: workers
            that begin run the newest, while others go on with what they have. At the end all run
            the last one, with which what is suspended is resumed.
        workers: How many there are at a time.
        faults: How often what goes wrong; ``None`` for nothing.
        lease: Of the workers, seconds.
        clocks: Whose clock the store goes by: that of its ``"server"``, as PostgreSQL, MySQL and
            Redis, or that of the ``"process"`` that asks, as SQLite. The clocks of the processes
            differ in both cases.
        codec: How values are stored; by default `JsonCodec`.
        store: Makes the store, given its clock; by default the one in memory. It must do everything
            inline: no threads and no real time.
        timeout: Virtual seconds that the scenario may take.
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
        deploys: Sequence[Registry] = (),
        workers: int = 3,
        faults: Faults | None = Faults(),  # noqa: B008  # it is frozen
        lease: float = 5.0,
        clocks: Literal["server", "process"] = "server",
        codec: Codec | None = None,
        store: Callable[[Callable[[], float]], Backend] | None = None,
        timeout: float = 3600.0,
        **options: Any,
    ) -> None:
        self.seed = seed
        self._versions = [default_registry if registry is None else registry, *deploys]
        self._workers = workers
        self._faults = faults
        self._lease = lease
        self._clocks = clocks
        self._codec = codec or JsonCodec()
        self._make_store = _in_memory if store is None else store
        self._timeout = timeout
        self._options = options

    def run(self, scenario: Callable[[Client], Awaitable[object]]) -> ClusterReport:
        """Run what clients do, let everything end, and check what must hold.

        Args:
            scenario: Is given a client, whose own link is well. When it returns the faults stop.

        Raises:
            BrokenInvariant: A promise was broken, or the scenario does not end in its time.
            Exception: What the scenario raised.
        """
        with repeatable_order(self.seed):
            return trio.run(self._main, scenario)

    async def _main(self, scenario: Callable[[Client], Awaitable[object]]) -> ClusterReport:
        self._trace: list[str] = []
        self._ledger = Ledger()
        self._healthy = anyio.Event()
        self._deployed = 0
        with simulated_time() as clock:
            self._clock = clock
            store = self._make_store(self._store_clock())
            chance = random.Random(f"{self.seed}/store")  # noqa: S311  # it is repeated
            self._witness = Witness(store, self._ledger, clock, chance)
            await store.open()
            error: Exception | None = None
            try:
                async with trio.open_nursery() as nursery:
                    for number in range(self._workers):
                        nursery.start_soon(self._keep, number + 1)
                    async with self._client(store) as client:
                        try:
                            await self._play(scenario, client)
                            await self._end(store, client)
                        except Exception as exc:  # noqa: BLE001  # raised below, not in a group
                            error = exc
                    nursery.cancel_scope.cancel()
                if error is not None:
                    raise error
                around: dict[str, Any] = {
                    name: self._options[name]
                    for name in ("propagators", "interceptors")
                    if name in self._options
                }
                problems, histories = await check_store(
                    store, self._versions, self._ledger, codec=self._codec, around=around
                )
                report = self._report(clock.now, histories)
            finally:
                with anyio.CancelScope(shield=True):
                    await store.aclose()
        if problems:
            raise self._broken(problems)
        return report

    def _store_clock(self) -> Callable[[], float]:
        clock = self._clock
        if self._clocks == "server":
            return lambda: DEFAULT_START + clock.now
        return lambda: DEFAULT_START + clock.now + skew_here()

    def _broken(self, problems: Sequence[str]) -> BrokenInvariant:
        told = "\n".join([*problems[:20], "the faults of this run:", *self._trace])
        return BrokenInvariant(f"seed {self.seed}: {told}")

    def _report(self, seconds: float, histories: list[History]) -> ClusterReport:
        statuses: dict[str, int] = {}
        for history in histories:
            statuses[history.status] = statuses.get(history.status, 0) + 1
        data = msgspec.json.encode([histories, self._trace])
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        return ClusterReport(self.seed, seconds, self._trace, statuses, histories, digest)

    def _say(self, text: str) -> None:
        self._trace.append(f"{self._clock.now:10.3f} {text}")

    # --- the course of a run ------------------------------------------------------------------

    async def _play(self, scenario: Callable[[Client], Awaitable[object]], client: Client) -> None:
        """Run the scenario, while the store has its troubles and new code is deployed."""
        error: Exception | None = None
        async with trio.open_nursery() as nursery:
            if self._faults is not None:
                nursery.start_soon(self._witness.trouble, self._faults, self._say)
                nursery.start_soon(self._deploy, self._faults)
            with trio.move_on_after(self._timeout) as in_time:
                try:
                    await scenario(client)
                except Exception as exc:  # noqa: BLE001  # raised below, and not in a group
                    error = exc
            nursery.cancel_scope.cancel()
        if in_time.cancelled_caught:
            error = self._broken([f"the scenario does not end within {self._timeout:g} s"])
        if error is not None:
            raise error

    async def _deploy(self, faults: Faults) -> None:
        chance = random.Random(f"{self.seed}/deploys")  # noqa: S311  # it is repeated
        while self._deployed < len(self._versions) - 1:
            await self._clock.sleep(chance.expovariate(1 / faults.deploy))
            self._deployed += 1
            self._say(f"version {self._deployed} of the code is deployed")

    async def _end(self, store: Backend, client: Client) -> None:
        """Stop the faults, resume what is suspended, and wait until nothing is running.

        What diverges from the last version was begun or continued by code that was withdrawn: it
        is terminated, as an operator would do, since its parent would wait for ever.
        """
        self._say("no more faults")
        self._deployed = len(self._versions) - 1
        self._witness.heal()
        self._healthy.set()
        await anyio.sleep(3 * self._lease)
        resumed: set[str] = set()
        with anyio.move_on_after(_PATIENCE):
            while True:
                for record in await store.list(_SUSPENDED, limit=1_000_000):
                    if record.id not in resumed:
                        resumed.add(record.id)
                        self._say(f"{record.id} is resumed")
                        await client.handle(record.id).resume()
                    elif len(self._versions) > 1:
                        self._say(f"{record.id} does not fit the last version; it is terminated")
                        await client.handle(record.id).terminate("of a version that was withdrawn")
                if not await store.count(InstanceFilter(status=("running", "suspended"))):
                    break
                await anyio.sleep(_AT_REST)
        # Workers hear with a heartbeat that what they run has ended; the dead are to be found.
        await anyio.sleep(3 * self._lease)

    # --- workers ------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Have a worker, and another one in its place when that has gone."""
        chance = random.Random(f"{self.seed}/{number}")  # noqa: S311  # it is repeated
        life = 0
        while True:
            life += 1
            name = f"worker {number}.{life}"
            process = Process(
                name,
                self._deployed,
                store=cast("Backend", self._witness),
                clock=self._clock,
                chance=chance,
                faults=self._faults,
            )
            killed = self._faults is not None and chance.random() < self._faults.killed
            options = self._draw(process, chance, killed=killed)
            of = f" with version {process.version}" if len(self._versions) > 1 else ""
            self._say(f"{name} begins{of}")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.run, options, DEFAULT_START)
                await self._let_live(process, chance, killed=killed)
            if self._faults is not None and not self._healthy.is_set():
                await anyio.sleep(chance.expovariate(1 / self._faults.down))

    async def _let_live(self, process: Process, chance: random.Random, *, killed: bool) -> None:
        """Let a process live for a while, with its troubles, and end it."""
        faults = self._faults
        if faults is not None and not self._healthy.is_set():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.trouble, faults, self._say)
                nursery.start_soon(_when_set, self._healthy, nursery.cancel_scope)
                nursery.start_soon(_when_set, process.ended, nursery.cancel_scope)
                await anyio.sleep(chance.expovariate(1 / faults.life))
                nursery.cancel_scope.cancel()
            process.heal()
        if self._healthy.is_set() or faults is None:
            if process.version < self._deployed:
                process.drain()
            await process.ended.wait()
        elif not process.ended.is_set():
            self._say(f"{process.name} is {'killed' if killed else 'drained'}")
            (process.kill if killed else process.drain)()

    def _draw(self, process: Process, chance: random.Random, *, killed: bool) -> WorkerOptions:
        drawn: dict[str, Any] = {
            "registry": self._versions[process.version],
            "codec": self._codec,
            "name": process.name,
            "lease": self._lease,
            "drain": 0.0 if killed else chance.choice((0.0, 1.0)),
            "cache_size": chance.choice((0, 1, 1000)),
            "max_instances": chance.choice((3, 1000)),
            "max_activities": chance.choice((3, 1000)),
            "sticky": chance.choice((0.0, 1.0)),
        }
        return WorkerOptions(**{**drawn, **self._options})

    # --- clients ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _client(self, store: Backend) -> AsyncGenerator[Client]:
        chance = random.Random(f"{self.seed}/client")  # noqa: S311  # it is repeated
        host = SimulatedTrioHost(chance.getrandbits(64), DEFAULT_START)
        link = _PatientLink(store, self._ledger, self._clock, chance, self._witness)
        client = Client(
            cast("Backend", link),
            codec=self._codec,
            registry=self._versions[0],
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


class _PatientLink(Link):
    """A client's: its calls wait until the store is well, as a client would try them again."""

    def __init__(
        self,
        store: Backend,
        ledger: Ledger,
        clock: SimulatedClock,
        chance: random.Random,
        troubled: Witness,
    ) -> None:
        super().__init__(cast("Backend", Witness(store, ledger, clock, chance)), chance, clock)
        self._troubled = troubled

    async def _travel(self) -> None:
        await super()._travel()
        while self._clock.now < self._troubled.well_at:
            await self._clock.sleep(self._troubled.well_at - self._clock.now)


async def _when_set(event: anyio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
