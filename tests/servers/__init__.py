"""Private servers for tests, one module for each kind; each has `available` and `start`.

This one gives them to tests: one server of each kind for the whole run, started when it is needed.
"""

from __future__ import annotations

import importlib
import os
from contextlib import ExitStack

import pytest

__all__ = ["KINDS", "Servers", "required"]

KINDS = ("postgres", "mariadb", "redis")


def required(kind):
    """Skip the test if a server is not installed; fail it where everything has to be."""
    module = importlib.import_module(f"tests.servers.{kind}")
    missing = module.available()
    if missing is None:
        return module
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


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
