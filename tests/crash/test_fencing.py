"""A worker that was declared dead, and does not know it yet, writes nothing."""

from __future__ import annotations

import pytest
import trio

from trioflow import Registry, activity_info, open_client, open_worker
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite import SqliteBackend

PATIENCE = 20  # seconds, for what takes much less


class Watched:
    """Passes everything on, and says when a worker registers."""

    def __init__(self, store):
        self._store = store
        self.registered = trio.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def register_worker(self, worker, name):
        await self._store.register_worker(worker, name)
        self.registered.set()


def build(gates, begun):
    """Make a workflow of one activity, whose n-th attempt waits for the n-th gate."""
    registry = Registry()

    @registry.activity
    async def guarded(value: int) -> int:
        attempt = activity_info().attempt
        begun[attempt - 1].set()
        await gates[attempt - 1].wait()
        return value + attempt

    @registry.workflow
    async def flow(value: int) -> int:
        with trio.move_on_after(3600):
            value = await guarded(value)
        return await guarded(value) if value < 0 else value

    return registry, flow


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("ends", ["while the other one works", "after the other one"])
def test_what_a_buried_worker_finishes_is_not_stored(kind, ends, tmp_path, caplog):
    async def main():
        gates, begun = [trio.Event(), trio.Event()], [trio.Event(), trio.Event()]
        registry, flow = build(gates, begun)
        store = MemoryBackend() if kind == "memory" else SqliteBackend(tmp_path / "store.db")
        await store.open()
        first_store = Watched(store)
        with trio.fail_after(PATIENCE):
            async with (
                open_client(store, registry=registry) as client,
                # Its heart will not beat in this test: it only notices when it commits.
                open_worker(first_store, registry=registry, lease=1000, name="first"),
            ):
                handle = await client.start(flow, 100)
                await begun[0].wait()
                first_store.registered = trio.Event()
                await store.reclaim(-1.0)
                async with open_worker(store, registry=registry, lease=1000, sticky=0):
                    await begun[1].wait()
                    if ends == "after the other one":
                        gates[1].set()
                        assert await handle.result() == 102
                    before = await handle.describe(), await handle.history()
                    gates[0].set()  # the first worker has its result, and commits it
                    await first_store.registered.wait()
                    assert (await handle.describe(), await handle.history()) == before
                    gates[1].set()
                    assert await handle.result() == 102
                # The woken worker goes on, as a new one.
                assert await client.run(flow, 200) == 201
        await store.aclose()

    trio.run(main)
    assert "declared dead" in caplog.text
