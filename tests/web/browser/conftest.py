"""Chromium, and a shop's pages served to it: a server in a thread for each kind of store.

Chromium comes from the system (`scripts/browser` installs it): playwright only drives it. Without
it the tests are skipped, but fail with ``CI=true``.
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import ExitStack, contextmanager

import pytest
import trio

from tests.stores import open_store, opened
from tests.web.seed import cart, fill, shop
from tests.worker.flow import until_turns
from trioflow import open_worker

PASSWORD = "only for tests"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def pytest_collection_modifyitems(items):
    for item in items:
        if "/browser/" in str(item.path):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(300))  # a browser on a busy machine


def required():
    """Return chromium's path and what drives it."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415
    except ModuleNotFoundError:
        sync_playwright = None
    if program and sync_playwright:
        return program, sync_playwright
    missing = "chromium: run scripts/browser" if sync_playwright else "playwright"
    message = f"tests in a browser need {missing}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def chromium():
    """One browser for the whole run."""
    program, sync_playwright = required()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


class Served:
    """Pages that are served, with a worker beside them, by a thread."""

    def __init__(self, make_backend):
        self._make_backend = make_backend
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error = None
        self.address = None
        self.client = None
        self.sessions = {}  # of browsers, by who has signed in

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(240)
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_):
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def ask(self, call, *args):
        """Call an async function of the client's, there; return what it gives."""
        return trio.from_thread.run(call, *args, trio_token=self._token)

    def cart(self, id):
        """Start an instance that waits, and return once it does."""

        async def begin():
            handle = await self.client.start(cart.options(id=id), id)
            await until_turns(handle, 1)

        self.ask(begin)

    def status(self, id):
        return self.describe(id).status

    def describe(self, id):
        return self.ask(self.client.handle(id).describe)

    def wait(self, id, *status):
        """Return once an instance is so."""

        async def waiting():
            with trio.fail_after(60):
                return await self.client.handle(id).wait(status=status)

        return self.ask(waiting)

    def _run(self):
        try:
            trio.run(self._main)
        except BaseException as error:
            self._error = error
            self._ready.set()
            raise

    async def _main(self):
        from hypercorn.config import Config  # noqa: PLC0415
        from hypercorn.trio import serve  # noqa: PLC0415

        from trioflow.web import Access, app  # noqa: PLC0415

        config = Config()
        config.bind, config.loglevel, config.graceful_timeout = ["127.0.0.1:0"], "ERROR", 0.1
        with trio.CancelScope() as self._scope:
            self._token = trio.lowlevel.current_trio_token()
            async with opened(self._make_backend()) as store:
                await fill(store, waves=1)
                async with open_worker(store, registry=shop, drain=0) as worker:
                    self.client = worker.client
                    access = Access(password=PASSWORD)
                    page = app(worker.client, registry=shop, title="shop", access=access)
                    async with trio.open_nursery() as nursery:
                        (address,) = await nursery.start(serve, page, config)
                        self.address = address.replace("127.0.0.1", "localhost")
                        self._ready.set()
                        await trio.sleep_forever()


@pytest.fixture(scope="session")
def _serving(tmp_path_factory, servers):
    """What serves a kind of store, from the first test that asks for it."""
    with ExitStack() as stack:
        known = {}

        def of(kind):
            if kind not in known:
                make = open_store(kind, tmp_path_factory.mktemp("shop"), servers)
                known[kind] = stack.enter_context(Served(make))
            return known[kind]

        yield of


@pytest.fixture(params=["sqlite", "postgres"])
def site(request, chromium, _serving):
    """A shop's pages on each of two stores."""
    return _serving(request.param)


@pytest.fixture
def shop_on_sqlite(chromium, _serving):
    """The pages on SQLite, for what does not depend on the store."""
    return _serving("sqlite")


@pytest.fixture
def visit(chromium):
    """How to look at a site: ``with visit(site) as page``; a complaint of a page is a failure."""

    @contextmanager
    def visiting(site, *, user="ann", faults=(), **options):
        kept = None if user is None else site.sessions.get(user)
        context = chromium.new_context(base_url=site.address, storage_state=kept, **options)
        context.set_default_timeout(60_000)
        page = context.new_page()
        complaints = []
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on(
            "console",
            lambda said: (
                complaints.append(f"{page.url}: {said.text}")
                if said.type in ("error", "warning")
                else None
            ),
        )
        try:
            if user is not None and kept is None:
                sign_in(page, user)
                site.sessions[user] = context.storage_state()
            yield page
        finally:
            context.close()
        unexpected = [each for each in complaints if not any(some in each for some in faults)]
        assert not unexpected, unexpected

    return visiting


def sign_in(page, user):
    page.goto("/sign-in")
    page.fill("#name", user)
    page.fill("#password", PASSWORD)
    page.click("main button")
    page.wait_for_url("**/")
