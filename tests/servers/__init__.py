"""Private servers for tests, one module for each kind: `available`, `start`, and a `Server`.

This one gives them to tests: one server of each kind for the whole run, started when it is needed;
or one for a single test, which may kill it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import pytest

__all__ = ["KINDS", "Mortal", "Servers", "mortal", "required"]

KINDS = ("postgres", "mariadb", "redis")
# What makes a server keep on the disk what it has said is stored.
_DURABLE = {
    "postgres": ("fsync=on",),
    "mariadb": (),
    "redis": ("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
}


def required(kind):
    """Skip the test if a server is not installed; fail it where everything has to be."""
    module = importlib.import_module(f"tests.servers.{kind}")
    missing = module.available()
    if missing is None:
        return module
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@dataclass(frozen=True)
class Mortal:
    """A server that a test kills, and starts again with the same data at the same address."""

    url: str
    kill: Callable[[], None]
    start: Callable[[], None]


@contextmanager
def mortal(kind, folder):
    """Run a server of a test's own that keeps what it has said is stored; give a `Mortal`."""
    module = required(kind)
    with closing(module.Server(folder, *_DURABLE[kind])) as server:
        server.start()
        if kind == "mariadb":
            server.create_database("trioflow")
        url = server.url("trioflow") if kind == "mariadb" else server.url
        yield Mortal(url, server.kill, server.start)


class Servers:
    """The servers of one run."""

    def __init__(self, folder):
        self._folder = folder
        self._stack = ExitStack()
        self._urls = {}

    def url(self, kind):
        """Return the URL of a kind of server; start it if nobody has done so yet."""
        if kind not in self._urls:
            module = required(kind)
            folder = self._folder / kind
            folder.mkdir()
            self._urls[kind] = self._stack.enter_context(module.start(folder))
        return self._urls[kind]

    def close(self):
        """Stop them all."""
        self._stack.close()
