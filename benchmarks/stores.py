"""The stores that can be measured: by name, or by a URL. Servers are private and start here."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from trioflow.backends.abc import Backend
from trioflow.backends.urls import open_backend

__all__ = ["SERVERS", "Aims", "aims", "fresh", "kind_of", "missing", "serving", "url_of"]

# With what options each starts: as durable as it comes, but Redis, which forgets.
SERVERS: dict[str, tuple[str, ...]] = {
    "postgres": ("fsync=on", "shared_buffers=128MB"),
    "mariadb": (),
    "redis": (),
}
_KINDS = {"postgresql": "postgres", "mysql": "mariadb", "rediss": "redis"}


@dataclass(frozen=True)
class Aims:
    """What is to be reached on a store, as in `Figure.reach`.

    Attributes:
        tree: Workflows per second of the usual tree.
        one: Milliseconds of one usual tree alone.
        two: Milliseconds of the workflow with two activities.
        idle: Percent of a processor that a worker uses while nothing happens.
    """

    tree: str = ""
    one: str = ""
    two: str = ""
    idle: str = ""


_AIMS = {
    "sqlite": Aims(">= 1900", "< 25", "< 6", "< 2"),
    "postgres": Aims(">= 800", "", "< 15", "< 1"),
    "mariadb": Aims(">= 600", "", "< 15", "< 1"),
    "redis": Aims(">= 1200", "", "< 15", "< 1"),
}


def aims(backend: str) -> Aims:
    """Return what is to be reached on a store, given its name or URL."""
    return _AIMS.get(kind_of(backend), Aims())


def _server(kind: str) -> Any:
    # Here, since only who measures a private server needs what the tests need.
    return importlib.import_module(f"tests.servers.{kind}")


def missing(backend: str) -> str | None:
    """Return ``None`` if it can be measured on this machine, otherwise what to install."""
    problem: str | None = _server(backend).available() if backend in SERVERS else None
    return problem


def kind_of(backend: str) -> str:
    """Return the name of the store that a URL means; a name stays as it is."""
    scheme = urlsplit(backend).scheme.partition("+")[0]
    return _KINDS.get(scheme, scheme) or backend


@contextmanager
def serving(backend: str, directory: Path) -> Iterator[str]:
    """Start a private server if it is a server's name; give its URL, or else what was given."""
    if backend not in SERVERS:
        yield backend
        return
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as folder,
        _server(backend).start(Path(folder), *SERVERS[backend]) as url,
    ):
        yield url


def url_of(backend: str, directory: Path, name: str = "bench.db") -> str:
    """Return the URL of an empty store: in memory, or a file; a URL stays as it is."""
    if backend == "memory":
        return "memory://"
    return f"sqlite:///{quote(str(directory / name))}" if backend == "sqlite" else backend


def fresh(backend: str, directory: Path, name: str = "bench.db") -> Backend:
    """Return the backend of `url_of`."""
    return open_backend(url_of(backend, directory, name))
