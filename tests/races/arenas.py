"""Where rounds are run: one private server for all of them, and an empty store for each."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import trio

from tests.servers import mariadb, postgres, redis

__all__ = ["STORES", "Arena", "left_over"]

STORES = ("sqlite", "postgresql", "mariadb", "redis")
_TABLES = ("instances", "turns", "inbox", "activities", "workers")


class Arena:
    """One kind of store. Use it as a context manager.

    Args:
        kind: One of `STORES`.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._stack = ExitStack()
        self._numbers = count(1)

    def __enter__(self) -> Self:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="races-")))
        module = {"postgresql": postgres, "mariadb": mariadb, "redis": redis}.get(self.kind)
        if module is not None:
            missing = module.available()
            if missing:
                raise RuntimeError(missing)
            options = redis.DURABLE if self.kind == "redis" else ()
            self._url = self._stack.enter_context(module.start(self.folder, *options))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def has_server(self) -> bool:
        """Whether a proxy can stand between it and a worker."""
        return self.kind != "sqlite"

    def store(self) -> str:
        """Make an empty store; return its URL."""
        number = next(self._numbers)
        match self.kind:
            case "sqlite":
                return f"sqlite:///{self.folder}/{number}.db"
            case "postgresql":
                return f"{self._url}&schema=races{number}"
            case "mariadb":
                self._create_database(f"races{number}")
                return self._url.replace("/trioflow?", f"/races{number}?")
            case _:
                return f"{self._url}?prefix=races{number}"

    def through(self, url: str, port: int) -> str:
        """Return a store's URL by way of a proxy on that port."""
        parts = urlsplit(url)
        match self.kind:
            case "postgresql":
                schema = parse_qs(parts.query)["schema"][0]
                return f"postgresql://trioflow@127.0.0.1:{port}/postgres?schema={schema}&sslmode=disable"
            case "mariadb":
                return f"mysql://root@127.0.0.1:{port}{parts.path}"
            case _:
                return f"redis://127.0.0.1:{port}{parts.path}?{parts.query}"

    async def connect(self) -> trio.SocketStream:
        """Open a connection to the server, for a proxy."""
        if self.kind == "redis":
            port = urlsplit(self._url).port
            assert port is not None
            return await trio.open_tcp_stream("127.0.0.1", port)
        query = parse_qs(urlsplit(self._url).query)
        path = (
            query["unix_socket"][0]
            if self.kind == "mariadb"
            else f"{query['host'][0]}/.s.PGSQL.5432"
        )
        return await trio.open_unix_socket(path)

    def _create_database(self, name: str) -> None:
        import pymysql  # noqa: PLC0415 - an extra

        socket = parse_qs(urlsplit(self._url).query)["unix_socket"][0]
        connection = pymysql.connect(unix_socket=socket, user="root", autocommit=True)
        connection.cursor().execute(f"CREATE DATABASE `{name}`")
        connection.close()


async def left_over(backend: object) -> dict[str, int]:
    """Count the rows of each table, or the keys of each kind, where there are any."""
    if backend.name == "redis":
        return await trio.to_thread.run_sync(_keys, backend)
    store = backend._store()
    schema = f'"{backend.schema}".' if backend.name == "postgres" else ""

    def counted() -> dict[str, int]:
        found = {}
        for table in _TABLES:
            (number,) = store.execute(f"SELECT count(*) FROM {schema}{table}").fetchone()
            if number:
                found[table] = number
        return found

    return await backend._run(counted)


# What Redis keeps of instances and workers: the first part of a key after the prefix.
_KINDS = (
    "i",
    "x",
    "t",
    "a",
    "children",
    "held",
    "running",
    "marked",
    "workers",
    "names",
    "serves",
    "finished",
)


def _keys(backend: object) -> dict[str, int]:
    import redis as driver  # noqa: PLC0415 - an extra

    found: dict[str, int] = {}
    with driver.Redis.from_url(backend.address.url) as client:
        for key in client.scan_iter(match=f"{backend.address.tag}:*", count=1000):
            kind = key.decode().partition("}:")[2].partition(":")[0]
            if kind in _KINDS or kind.startswith(("ready", "visible", "suspect")):
                found[kind] = found.get(kind, 0) + 1
    return found
