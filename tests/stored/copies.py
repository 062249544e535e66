"""Copies of stores as files: how one is opened, dumped and restored. No test lives here."""

from __future__ import annotations

import base64
import json
import shutil
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from trioflow.backends.sqlite.backend import SqliteBackend

__all__ = ["backend_on", "dump_redis", "restored"]

HERE = Path(__file__).parent
NAME = "stored"  # of the schema, the database, the prefix
_BINARY = "base64:"  # before what is no text in Redis


def backend_on(kind, url):
    """Return a backend, not opened, on the store of a kind that is at a URL or path."""
    # Here, because drivers are optional.
    if kind == "sqlite":
        return SqliteBackend(url)
    if kind == "postgres":
        from trioflow.backends.postgres.backend import PostgresBackend  # noqa: PLC0415

        return PostgresBackend(url, schema=NAME)
    if kind == "mariadb":
        from trioflow.backends.mysql.backend import MysqlBackend  # noqa: PLC0415

        return MysqlBackend(url)
    from trioflow.backends.redis.backend import RedisBackend  # noqa: PLC0415

    return RedisBackend(url, prefix=NAME)


def restored(kind, folder, servers):
    """Restore the copy of a kind; return a backend on it, not opened.

    Args:
        kind: Of store.
        folder: An empty one.
        servers: The fixture ``servers``.
    """
    if kind == "sqlite":
        path = folder / "store.sqlite"
        shutil.copyfile(HERE / "store.sqlite", path)
        return backend_on(kind, path)
    url = servers.url(kind)
    if kind == "postgres":
        _restore_postgres(url)
    elif kind == "mariadb":
        url = _restore_mariadb(url)
    else:
        _restore_redis(url)
    return backend_on(kind, url)


def _restore_postgres(url):
    import psycopg  # noqa: PLC0415

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {NAME} CASCADE")
        connection.execute((HERE / "postgres.sql").read_text("utf-8"))


def _restore_mariadb(url):
    import pymysql  # noqa: PLC0415
    from pymysql.constants import CLIENT  # noqa: PLC0415

    socket = parse_qs(urlsplit(url).query)["unix_socket"][0]
    with closing(
        pymysql.connect(
            unix_socket=socket,
            user="root",
            autocommit=True,
            charset="utf8mb4",
            client_flag=CLIENT.MULTI_STATEMENTS,
        )
    ) as connection:
        cursor = connection.cursor()
        script = (HERE / "mariadb.sql").read_text("utf-8")
        begin = f"DROP DATABASE IF EXISTS {NAME}; CREATE DATABASE {NAME}; USE {NAME};\n"
        cursor.execute(begin + script)
        while cursor.nextset():
            pass
    return url.replace("/trioflow?", f"/{NAME}?")


# --- Redis: each key with its type and what it holds, as text ---------------------------------


def dump_redis(url):
    """Return all keys of a server as JSON."""
    import redis  # noqa: PLC0415

    with redis.Redis.from_url(url) as client:
        # What the server forgets by itself is gone by the time when somebody restores the copy.
        keys = [key for key in sorted(client.scan_iter()) if client.ttl(key) == -1]
        found = {_text(key): _read(client, key) for key in keys}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _text(value):
    if not isinstance(value, bytes):
        return repr(value)  # a score
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _BINARY + base64.b64encode(value).decode()
    assert not text.startswith(_BINARY)
    return text


def _bytes(text):
    if text.startswith(_BINARY):
        return base64.b64decode(text.removeprefix(_BINARY), validate=True)
    return text.encode()


def _read(client, key):
    kind = client.type(key).decode()
    if kind == "string":
        return {kind: _text(client.get(key))}
    if kind == "hash":
        return {kind: {_text(k): _text(v) for k, v in sorted(client.hgetall(key).items())}}
    if kind == "list":
        return {kind: [_text(each) for each in client.lrange(key, 0, -1)]}
    if kind == "set":
        return {kind: sorted(_text(each) for each in client.smembers(key))}
    assert kind == "zset", kind
    pairs = client.zrange(key, 0, -1, withscores=True, score_cast_func=_text)
    return {kind: {_text(member): score for member, score in pairs}}


def _restore_redis(url):
    import redis  # noqa: PLC0415

    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"*{NAME}*"):
            client.delete(key)
        for key, held in json.loads((HERE / "redis.json").read_text("utf-8")).items():
            ((kind, value),) = held.items()
            if kind == "string":
                client.set(key, _bytes(value))
            elif kind == "hash":
                client.hset(key, mapping={name: _bytes(each) for name, each in value.items()})
            elif kind == "list":
                client.rpush(key, *map(_bytes, value))
            elif kind == "set":
                client.sadd(key, *map(_bytes, value))
            else:
                client.zadd(key, {_bytes(each): score for each, score in value.items()})
