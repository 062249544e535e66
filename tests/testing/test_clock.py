"""Virtual time on trio and on asyncio."""

from __future__ import annotations

import threading
import time

import anyio
import anyio.to_thread
import pytest
import sniffio
import trio
import trio.testing

from trioflow.testing.clock import virtual_time

BACKENDS = pytest.mark.parametrize("backend", ["trio", "asyncio"])


@BACKENDS
def test_a_month_passes_at_once(backend):
    async def main():
        with virtual_time() as clock:
            began = anyio.current_time()
            await anyio.sleep(30 * 86400)
            assert anyio.current_time() - began == pytest.approx(30 * 86400)
            assert clock.now == anyio.current_time()

    before = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - before < 86400


@BACKENDS
def test_sleeps_end_in_their_order(backend):
    async def main():
        ended = []

        async def wait(seconds):
            await anyio.sleep(seconds)
            ended.append(seconds)

        with virtual_time():
            async with anyio.create_task_group() as group:
                for seconds in (30, 10, 20, 10.5):
                    group.start_soon(wait, seconds)
        assert ended == [10, 10.5, 20, 30]

    anyio.run(main, backend=backend)


@BACKENDS
def test_the_clock_stands_still_while_something_goes_on_outside(backend):
    async def main():
        release = threading.Event()
        running = [True]

        async def outside():
            await anyio.to_thread.run_sync(release.wait)
            running[0] = False

        with virtual_time(lambda: running[0]):
            began = anyio.current_time()
            async with anyio.create_task_group() as group:
                group.start_soon(outside)
                for _ in range(20):
                    await anyio.lowlevel.checkpoint()
                assert anyio.current_time() == began
                release.set()
                with anyio.move_on_after(60):
                    await anyio.sleep_forever()
                assert not running[0]
                assert anyio.current_time() == pytest.approx(began + 60)

    anyio.run(main, backend=backend)


@BACKENDS
def test_the_loops_own_clock_is_put_back(backend):
    async def main():
        before = anyio.current_time()
        with virtual_time():
            await anyio.sleep(10**6)
        assert anyio.current_time() < before + 10**5
        await anyio.sleep(0.001)

    anyio.run(main, backend=backend)


@BACKENDS
def test_it_says_when_nothing_will_ever_happen(backend):
    async def main():
        stuck = anyio.Event()
        with virtual_time(on_stuck=stuck.set):
            await stuck.wait()  # in this test, it is just that which ends it

    anyio.run(main, backend=backend)


@BACKENDS
def test_what_happens_in_time_is_not_stuck(backend):
    async def main():
        stuck = []
        with virtual_time(on_stuck=lambda: stuck.append(1)):
            for _ in range(100):
                await anyio.sleep(3600)
        assert not stuck

    anyio.run(main, backend=backend)


def test_an_enclosing_mock_clock_gives_way():
    async def main():
        assert sniffio.current_async_library() == "trio"
        with virtual_time():
            await trio.sleep(100)
        await trio.sleep(100)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
