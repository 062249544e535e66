"""How async tests are run, and fixtures of all tests: hosts, clocks, private servers."""

from __future__ import annotations

import inspect
import signal
import threading
from contextlib import AsyncExitStack

import anyio
import pytest
import trio.testing

# Before anything imports it: pytest rewrites the asserts of a module when it is imported.
pytest.register_assert_rewrite("trioflow.testing.conformance")

from tests.servers import Servers  # noqa: E402

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So a shell starts what runs in its background; programs that tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Harness:
    """How one async test runs: on a loop of its own, under trio and in real time by default.

    Fixtures that ask for the fixture `harness` change that before the test begins.
    """

    def __init__(self, node):
        marker = node.get_closest_marker("host")
        self.host = marker.args[0] if marker else "trio"
        self.clock = None  # a trio.abc.Clock
        self._around = []

    def enter(self, manager):
        """Run the test inside an async context manager, and inside those that were given before."""
        self._around.append(manager)

    def run(self, test, **arguments):
        async def whole():
            async with AsyncExitStack() as stack:
                for manager in self._around:
                    await stack.enter_async_context(manager)
                await test(**arguments)

        options = {} if self.clock is None else {"clock": self.clock}
        anyio.run(whole, backend=self.host, backend_options=options)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that is an ``async def``."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    harness = pyfuncitem.funcargs.get("harness") or Harness(pyfuncitem)
    if isinstance(host := pyfuncitem.funcargs.get("host"), str):
        harness.host = host
    names = pyfuncitem._fixtureinfo.argnames
    harness.run(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    return True


# What of a store runs for as long as it is open.
_OF_STORES = ("trioflow storage", "trioflow reads", "trioflow notifier")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a test that leaves a store open: that would keep connections and threads until the end.

    Python 3.13 warns of such connections, but in whatever test the garbage collector finds them.
    """
    before = set(threading.enumerate())
    result = yield
    begun = set(threading.enumerate()) - before
    left = [each for each in begun if each.name.startswith(_OF_STORES)]
    for each in left:
        each.join(10)  # one that its caller has left, since it hung, ends by itself
    names = sorted(each.name for each in left if each.is_alive())
    assert not names, f"not closed: {', '.join(names)}"
    return result


@pytest.fixture
def harness(request):
    """How the test runs, if it is async."""
    return Harness(request.node)


@pytest.fixture(params=["trio", "asyncio"])
def host(request):
    """Each event loop. An async test runs on the one that a fixture or argument ``host`` names."""
    return request.param


@pytest.fixture
def clock(harness):
    """The virtual clock that a test runs on; it jumps to the next deadline when all tasks wait."""
    harness.clock = trio.testing.MockClock(autojump_threshold=0)
    return harness.clock


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Private servers, started when the first test asks for one."""
    running = Servers(tmp_path_factory.mktemp("servers"))
    yield running
    running.close()
