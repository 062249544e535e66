"""Make a `RedisBackend` from a URL: trioflow's options, and those passed on to the driver."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from trioflow.backends._common.url_text import port_of, shown
from trioflow.backends.redis.backend import RedisBackend
from trioflow.errors import BackendError

__all__ = ["backend_of"]

_DRIVERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_OURS = ("prefix", "cluster", "keep_finished")


def backend_of(url: str) -> RedisBackend:
    """Return the backend that ``redis://`` or ``rediss://`` means.

    Raises:
        BackendError: An option or a part of the URL is not known or not right.
    """
    parts = urlsplit(url)
    port_of(url)  # now, since the driver's own complaint would show a part of a password
    if parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise BackendError(
            f"{shown(url)}: after the host stands the number of a database, as in "
            "redis://host:6379/0; a store is named by its prefix: ?prefix=shop"
        )
    options: dict[str, Any] = {}
    others: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _OURS:
            options[name] = _value(url, name, value)
        elif name in _DRIVERS:
            others.append((name, value))
        else:
            known = ", ".join((*_OURS, *_DRIVERS))
            raise BackendError(f"{shown(url)}: unknown option {name!r}; there are {known}")
    try:
        return RedisBackend(urlunsplit(parts._replace(query=urlencode(others))), **options)
    except ValueError as exc:
        raise BackendError(f"{shown(url)}: {exc}") from exc


def _value(url: str, name: str, value: str) -> Any:
    try:
        if name == "keep_finished":
            return float(value)
        return {"true": True, "false": False}[value] if name == "cluster" else value
    except (KeyError, ValueError):
        wanted = "seconds" if name == "keep_finished" else "true or false"
        raise BackendError(f"{shown(url)}: {name} must be {wanted}, not {value!r}") from None
