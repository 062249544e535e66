"""Make a backend from a URL."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from trioflow.backends._common.url_text import shown
from trioflow.backends.abc import Backend
from trioflow.errors import BackendError

__all__ = ["open_backend"]

_FORMS = (
    "memory://, sqlite:///relative.db, sqlite:////absolute.db, postgresql://host/database, "
    "mysql://host/database, redis://host:6379/0"
)


def open_backend(url: str | Backend) -> Backend:
    """Return the backend that a URL names; a `Backend` object is returned as it is.

    It is not opened yet: await its ``open()``.

    Args:
        url: ``"memory://"``, ``"sqlite:///relative.db"``, ``"sqlite:////absolute.db"``, both
            perhaps with ``?prefix=flow_``,
            ``"redis://:password@host:6379/0?prefix=shop"`` or the same with ``rediss``.
            Characters that a URL reserves are written with percent signs. Or
            ``"postgresql://user:password@host/database"``, with the options of libpq and two more:
            ``schema=…``, and ``pooled=1`` if a pooler is in between. Or
            ``"mysql://user:password@host/database"``, see `MysqlBackend` for its options.

    Raises:
        BackendError: There is no backend of that scheme, or the URL is incomplete.
    """
    if not isinstance(url, str):
        return url
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url:
        raise BackendError(f"{shown(url)} is not a backend URL; write one of {_FORMS}")
    if parts.scheme == "memory":
        # Here, because a program that names one store need not load the others.
        from trioflow.backends.memory import MemoryBackend  # noqa: PLC0415

        if parts.netloc or parts.path.strip("/"):
            raise BackendError(f"{shown(url)}: a memory store has no name; write memory://")
        return MemoryBackend()
    if parts.scheme == "sqlite":
        from trioflow.backends.sqlite.backend import SqliteBackend  # noqa: PLC0415

        options = parse_qsl(parts.query, keep_blank_values=True)
        if [name for name, _ in options] not in ([], ["prefix"]):
            raise BackendError(
                f"{shown(url)}: a sqlite URL has one option, prefix=…; leave out the rest of "
                f"?{parts.query}"
            )
        path = _sqlite_path(url, parts.netloc, parts.path)
        return SqliteBackend(path, prefix=dict(options).get("prefix", ""))
    if parts.scheme in ("postgresql", "postgres"):
        return _postgres(url)
    if parts.scheme in ("mysql", "mariadb"):
        return _mysql(url)
    if parts.scheme in ("redis", "rediss"):
        return _redis(url)
    raise BackendError(f"{shown(url)}: unknown scheme {parts.scheme!r}; write one of {_FORMS}")


def _postgres(url: str) -> Backend:
    try:
        from trioflow.backends.postgres.backend import PostgresBackend  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise BackendError(
            f"a postgresql:// URL needs psycopg ({exc}); pip install 'trioflow[postgres]'"
        ) from exc

    parts = urlsplit(url)
    # The rest of the options is libpq's.
    options = parse_qsl(parts.query, keep_blank_values=True)
    ours = {name: value for name, value in options if name in ("schema", "pooled")}
    rest = urlencode([each for each in options if each[0] not in ours], quote_via=quote)
    pooled = ours.get("pooled", "0")
    if pooled not in ("0", "1"):
        raise BackendError(
            f"{shown(url)}: write pooled=1 if a pooler is in between, or leave it out"
        )
    return PostgresBackend(
        urlunsplit(parts._replace(query=rest)),
        schema=ours.get("schema") or "trioflow",
        pooled=pooled == "1",
    )


def _mysql(url: str) -> Backend:
    try:
        from trioflow.backends.mysql.backend import MysqlBackend  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise BackendError(
            f"a mysql:// URL needs PyMySQL ({exc}); pip install 'trioflow[mysql]'"
        ) from exc

    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    prefix = dict(options).get("prefix", "")
    rest = urlencode([each for each in options if each[0] != "prefix"], quote_via=quote)
    return MysqlBackend(urlunsplit(parts._replace(query=rest)), prefix=prefix)


def _redis(url: str) -> Backend:
    try:
        from trioflow.backends.redis.url import backend_of  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        if exc.name != "redis":
            raise
        raise BackendError(
            f"{shown(url)} needs the driver redis-py; get it with: pip install 'trioflow[redis]'"
        ) from exc
    return backend_of(url)


def _sqlite_path(url: str, host: str, path: str) -> str:
    if host:
        raise BackendError(
            f"{shown(url)} has two slashes where three are needed: sqlite:///{host}{path} for a "
            f"relative path, sqlite:////{host}{path} for an absolute one"
        )
    name = unquote(path[1:])
    if not name or name == ":memory:":
        raise BackendError(f"{shown(url)} names no file; for a store in memory write memory://")
    return name
