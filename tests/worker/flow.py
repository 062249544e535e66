"""What the tests of worker and client share: stores, hosts and ways to wait. No test lives here."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from unittest import mock

import anyio
import trio

from tests.stores import open_store
from trioflow import Registry, Signal, open_client, open_worker
from trioflow._worker import worker as worker_module
from trioflow._worker.options import WorkerOptions
from trioflow._worker.real_host import running_host
from trioflow._worker.run import worker_on
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.records import Heartbeat
from trioflow.errors import BackendUnavailable, LeaseLost

EPOCH = 1_800_000_000.0

ends_in = Signal("ends in", float)


@asynccontextmanager
async def moves_on_when_told():
    """In a workflow: a block whose deadline is so many seconds after the signal `ends_in` has come.

    So a test can let begin what has to begin before; on a busy machine that takes any time.
    """
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_be_told, scope)
            yield scope
            nursery.cancel_scope.cancel()


async def _be_told(scope):
    seconds = await ends_in.receive()
    scope.deadline = trio.current_time() + seconds


class Flow:
    """One store, and the host and the cache size with which workers run on it."""

    def __init__(self, kind, host, cache_size, path, servers=None):
        self.kind = kind
        self.host = host
        self.cache_size = cache_size
        self.file = path / "flow.db"
        self._stack = None
        self._new_backend = open_store(kind, path, servers)

    async def backend(self):
        """Return an open backend on the store; another one each time, except for memory."""
        backend = self._new_backend()
        await backend.open()
        self._stack.push_async_callback(backend.aclose)
        return backend

    @asynccontextmanager
    async def worker(self, registry, **options):
        # A machine that stands still for a while is told of in the log; tests count its records.
        quiet = {"stuck_after": math.inf}
        options = {"cache_size": self.cache_size, "drain": 0.0, **quiet, **options}
        backend = options.pop("backend", None) or await self.backend()
        make_host = options.pop("make_host", running_host)
        options = WorkerOptions(registry=registry, **options)
        with no_storing_at_the_end() if isinstance(backend, Dying) else nullcontext():
            async with worker_on(backend, options, make_host()) as worker:
                yield worker

    @asynccontextmanager
    async def client(self, registry=None):
        async with open_client(await self.backend(), registry=registry) as client:
            yield client

    async def __aenter__(self):
        """Bound the time of what runs on the store; leaving closes its backends."""
        self._stack = AsyncExitStack()
        self._stack.enter_context(anyio.fail_after(50))
        return self

    async def __aexit__(self, *exc_info):
        return await self._stack.__aexit__(*exc_info)

    def of(self, harness):
        """Let a test run on this host and in here; return this."""
        harness.host = self.host
        harness.enter(self)
        return self


def in_memory(clock, make=MemoryBackend):
    """Return a store in memory on a test's virtual clock, not yet opened."""
    return make(clock=lambda: EPOCH + clock.current_time())


@asynccontextmanager
async def serving(backend, registry, **options):
    """Open a worker for a test on a virtual clock; give its client."""
    options = {"drain": 0, "stuck_after": math.inf, **options}
    async with open_worker(backend, registry=registry, **options) as worker:
        yield worker.client


async def until(condition, *, every=0.002, timeout=40):
    """Wait until ``await condition()`` is true; return what it gave."""
    with anyio.fail_after(timeout):
        while not (value := await condition()):
            await anyio.sleep(every)
    return value


async def until_status(handle, *wanted):
    async def has():
        return (await handle.describe()).status in wanted

    await until(has)


async def until_turns(handle, turns):
    """Wait until an instance has made so many turns."""

    async def made():
        return (await handle.describe()).turns >= turns

    await until(made)


async def until_parked(handle, *, turns=1):
    """Wait until an instance has made so many turns and nobody holds it."""

    async def parked():
        d = await handle.describe()
        return d.turns >= turns and d.worker is None and not d.unread and not d.activities

    await until(parked)


def no_storing_at_the_end():
    """Spare workers that die the seconds in which one stores what is left."""
    return mock.patch.object(worker_module, "_STORING", 0.05)


class Dying:
    """A backend whose process can die: from `die` on nothing of it reaches the store."""

    def __init__(self, backend):
        self._backend = backend
        self.dead = False

    def die(self):
        self.dead = True

    def __getattr__(self, name):
        member = getattr(self._backend, name)
        if name == "heartbeat":
            return lambda worker: Heartbeat(alive=True) if self.dead else member(worker)
        if name not in _WORKERS_CALLS:
            return member

        async def call(*args, **kwargs):
            if not self.dead:
                return await member(*args, **kwargs)
            if name == "commit":
                raise LeaseLost("the process is dead")
            if name == "release_worker":
                raise BackendUnavailable("the process is dead")
            return await anyio.sleep_forever()

        return call


_WORKERS_CALLS = (
    *("commit", "load", "reclaim", "register_worker", "release_instances", "release_worker"),
    *("recall", "take_activities", "take_instances"),
)


def kinds(turns):
    """The names of all events and commands of some turns, in order."""
    return [
        ([type(e).__name__ for e in turn.events], [type(c).__name__ for c in turn.commands])
        for turn in turns
    ]


def gated():
    """A registry with an activity that waits at a gate, and a workflow that calls it."""
    flows = Registry()
    gate = []

    @flows.activity
    async def wait() -> str:
        await gate[0].wait()
        return "through"

    @flows.workflow
    async def work() -> str:
        return await wait()

    return flows, work, wait, gate


class Gate:
    """Activities say that they are there, and wait until they are let through; on any host."""

    def __init__(self):
        self.entered = 0
        self.left = []
        self._opened = anyio.Event()

    def open(self):
        self._opened.set()

    async def wait(self, name="left"):
        self.entered += 1
        try:
            await self._opened.wait()
        except BaseException as exc:
            self.left.append(type(exc).__name__)
            raise
        self.left.append(name)

    async def until_entered(self, times=1):
        async def there():
            return self.entered >= times

        await until(there)
