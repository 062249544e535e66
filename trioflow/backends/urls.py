"""From a URL to a backend."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from trioflow.backends.base import Backend
from trioflow.errors import BackendError

__all__ = ["open_backend"]

_FORMS = "memory://, sqlite:///relative.db, sqlite:////absolute.db"
_PLANNED = ("postgresql", "postgres", "mysql", "mariadb", "redis", "rediss")


def open_backend(url: str | Backend) -> Backend:
    """Return the backend that a URL names; a `Backend` object is returned as it is.

    It is not opened yet: await its ``open()``.

    Args:
        url: ``"memory://"``, ``"sqlite:///relative.db"`` or ``"sqlite:////absolute.db"``.
            Characters that a URL reserves are written with percent signs.

    Raises:
        BackendError: There is no backend of that scheme, or the URL is incomplete.
    """
    if not isinstance(url, str):
        return url
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url:
        raise BackendError(f"{url!r} is no URL of a backend; write one of {_FORMS}")
    if parts.scheme == "memory":
        # Here, because a program that names one store need not load the others.
        from trioflow.backends.memory import MemoryBackend  # noqa: PLC0415

        if parts.netloc or parts.path.strip("/"):
            raise BackendError(f"{url!r}: a memory store has no name; write memory://")
        return MemoryBackend()
    if parts.scheme == "sqlite":
        from trioflow.backends.sqlite import SqliteBackend  # noqa: PLC0415

        return SqliteBackend(_sqlite_path(url, parts.netloc, parts.path, parts.query))
    if parts.scheme in _PLANNED:
        raise BackendError(f"{url!r}: this trioflow has no {parts.scheme} backend; it has {_FORMS}")
    raise BackendError(f"{url!r}: unknown scheme {parts.scheme!r}; write one of {_FORMS}")


def _sqlite_path(url: str, host: str, path: str, query: str) -> str:
    if host:
        raise BackendError(
            f"{url!r} has two slashes where three are needed: sqlite:///{host}{path} for a "
            f"relative path, sqlite:////{host}{path} for an absolute one"
        )
    if query:
        raise BackendError(f"{url!r}: a sqlite URL takes no options; leave out ?{query}")
    name = unquote(path[1:])
    if not name or name == ":memory:":
        raise BackendError(f"{url!r} names no file; for a store in memory write memory://")
    return name
