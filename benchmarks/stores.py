"""The stores that can be measured: by name, or by a URL. Servers are private and start here."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trioflow.backends.base import Backend
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite import SqliteBackend

__all__ = ["SERVERS", "fresh", "kind_of", "missing", "serving", "url_of"]

# With what options each starts: as durable as it comes, but Redis, which forgets.
SERVERS: dict[str, tuple[str, ...]] = {
    "postgres": ("fsync=on", "shared_buffers=128MB"),
    "mariadb": (),
    "redis": (),
}
_KINDS = {"postgresql": "postgres", "mysql": "mariadb", "rediss": "redis"}


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


def fresh(kind: str, directory: Path, name: str = "bench.db") -> Backend | str:
    """Return a store with nothing in it: ``"memory"``, ``"sqlite"``, or what a URL names."""
    if kind == "memory":
        return MemoryBackend()
    if kind == "sqlite":
        return SqliteBackend(directory / name)
    return kind


def url_of(kind: str, directory: Path) -> str:
    """Return a URL that other processes can use as well, as `fresh` does."""
    if kind == "memory":
        raise SystemExit("other processes cannot share memory://")
    return f"sqlite:///{directory / 'bench.db'}" if kind == "sqlite" else kind
