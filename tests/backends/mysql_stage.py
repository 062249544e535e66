"""What the tests of MySQL's own ways have at hand: a database, and short words for long calls."""

from __future__ import annotations

import contextlib
from urllib.parse import parse_qs, urlsplit

from trioflow.backends.commits import InstanceCommit, NewInstance

__all__ = ["Database", "hold", "new", "opened", "step", "turns"]


class Database:
    """An empty database, dropped at the end.

    Args:
        url: Of another database of the server, as the administrator.
        name: Its name.
    """

    def __init__(self, url, name="trioflow_test"):
        self.name = name
        self.url = self.url_of(url, name)
        self.socket = parse_qs(urlsplit(url).query)["unix_socket"][0]
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
            cursor.execute(f"CREATE DATABASE `{name}`")
        self._connection = self.connect(database=name)
        maria = "MariaDB" in self.admin("SELECT version()")[0][0]
        #: What all text has to be compared by.
        self.collation = "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"

    @staticmethod
    def url_of(url, name):
        """Return the URL of another database of the same server."""
        return urlsplit(url)._replace(path=f"/{name}").geturl()

    def connect(self, **options):
        """Connect with the driver, as the administrator."""
        import pymysql  # noqa: PLC0415 - it is an extra

        return pymysql.connect(unix_socket=self.socket, user="root", autocommit=True, **options)

    def admin(self, sql, *values):
        """Run one statement; return its rows."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def close(self):
        """Drop it, whoever still has a transaction open in it."""
        others = self.admin(
            "SELECT id FROM information_schema.processlist WHERE db = database()"
            " AND id <> connection_id()"
        )
        for (id,) in others:
            with contextlib.suppress(Exception):  # it has gone by itself
                self.admin(f"KILL {id}")
        self.admin(f"DROP DATABASE `{self.name}`")
        self._connection.close()


@contextlib.asynccontextmanager
async def opened(*args, **options):
    from trioflow.backends.mysql.backend import MysqlBackend  # noqa: PLC0415 - as above

    backend = MysqlBackend(*args, **options)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


def new(id, **fields):
    return NewInstance(id, **{"workflow": "flow", "queue": "default", "input": b"[]", **fields})


def step(id, number, **fields):
    values = {"execution": 1, "turns": [b"turn %d" % number], "events": number, **fields}
    return InstanceCommit(id=id, number=number, **values)


async def hold(backend, *ids, worker="w1"):
    await backend.register_worker(worker, worker)
    assert await backend.create([new(id) for id in ids]) == [True] * len(ids)
    taken = await backend.take_instances(worker, ["default"], len(ids))
    assert sorted(each.id for each in taken.instances) == sorted(ids)


async def turns(backend, id):
    return (await backend.load([(id, 1)]))[0]
