"""Who may look and act: the settings, checked when they are made."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

__all__ = ["NAME_LENGTH", "Access", "Network", "is_name"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAME_LENGTH = 100
"""Characters of a person's name: it is written into logs and histories."""

_LEAST_KEY = 16  # bytes
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # what RFC 9110 takes as the name of a header


def is_name(name: str) -> bool:
    """Return whether a text can stand for a person in logs and histories."""
    return 0 < len(name) <= NAME_LENGTH and name.isprintable() and name == name.strip()


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may look at the page, and who may act.

    Without any of this, whoever is on the same machine may look, and nobody may act. To act, one
    has to be known by name: who signed in with a password, or whom a reverse proxy has let in.

    Attributes:
        password: What people sign in with: one for all, who then say who they are; or one for each
            name. ``None`` or ``""`` for no sign-in.
        hosts: The names by which browsers reach the page, as ``"ops.example.com"``. An address
            that is no name, and ``localhost``, need not be given. Requests for any other name are
            refused.
        proxy_header: The header in which a reverse proxy says whom it has let in, as
            ``"X-Forwarded-User"``. ``None`` if there is none.
        proxies: The addresses or networks of reverse proxies, as ``"10.0.0.7"``,
            ``"10.0.0.0/24"``. From there, and from nowhere else, that header is believed, and
            ``X-Forwarded-For``, by which visitors who sign in are told apart: without it the
            failures of one make all that come through the proxy wait.
        https: Whether browsers reach the page by HTTPS though it is served without, behind a
            proxy. Then the session's cookie is sent by HTTPS only.
        local_reads: Whether those on the same machine may look without signing in.
        key: What sessions are signed with, at least 16 bytes; random by default, so that they end
            with the process. Processes that serve the same page need the same one.

    Raises:
        ValueError: A name, an address, a header or the key cannot be used, or ``proxy_header`` is
            given without ``proxies``.
        TypeError: ``hosts`` or ``proxies`` is one text.
    """

    password: str | Mapping[str, str] | None = field(default=None, repr=False)
    hosts: Sequence[str] = ()
    proxy_header: str | None = None
    proxies: Sequence[str] = ()
    https: bool = False
    local_reads: bool = True
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.hosts, str) or isinstance(self.proxies, str):
            raise TypeError("hosts and proxies are lists of texts, not one text")
        if isinstance(self.password, Mapping):
            _check_passwords(self.password)
        for host in self.hosts:
            if not re.fullmatch(r"[A-Za-z0-9._-]+", host):
                raise ValueError(
                    f"hosts: {host!r} is no name of a host; write it without a scheme and a port"
                )
        if self.proxy_header and not self.proxies:
            raise ValueError(
                "proxy_header needs proxies: the header is believed from those addresses and from "
                "no others"
            )
        if self.proxy_header and not _TOKEN.fullmatch(self.proxy_header):
            raise ValueError(f"proxy_header: {self.proxy_header!r} is no name of a header")
        if len(self.key) < _LEAST_KEY:
            raise ValueError(f"key: {len(self.key)} bytes are too few; give at least {_LEAST_KEY}")
        object.__setattr__(self, "_networks", tuple(_networks(self.proxies)))

    @property
    def signs_in(self) -> bool:
        """Whether people can sign in with a password."""
        return bool(self.password)

    @property
    def signing_key(self) -> bytes:
        """What sessions are signed with; another one after a password has changed."""
        given = self.password
        passwords = sorted(given.items()) if isinstance(given, Mapping) else given
        return hmac.digest(self.key, msgspec.json.encode(passwords), "sha256")

    @property
    def networks(self) -> tuple[Network, ...]:
        """Where the proxies are."""
        found: tuple[Network, ...] = vars(self)["_networks"]
        return found


def _check_passwords(passwords: Mapping[str, str]) -> None:
    for name, password in passwords.items():
        if not is_name(name):
            raise ValueError(
                f"password: {name!r} is no name; one has up to {NAME_LENGTH} characters that can "
                "be printed, and no space at its ends"
            )
        if not password:
            raise ValueError(f"password: that of {name!r} is empty")


def _networks(proxies: Iterable[str]) -> Iterable[Network]:
    for text in proxies:
        try:
            yield ipaddress.ip_network(text)
        except ValueError as error:
            raise ValueError(
                f"proxies: {text!r} is no address, as 10.0.0.7, and no network, as 10.0.0.0/24: "
                f"{error}"
            ) from None
