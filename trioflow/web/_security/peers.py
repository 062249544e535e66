"""Where a request comes from, and for which host."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from trioflow.web._security.settings import Network

__all__ = [
    "Address",
    "address_of",
    "forwarded_by_others",
    "host_name",
    "is_local",
    "known_host",
    "within",
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
_LOCALHOST = "localhost"
_LAST_PORT = 65_535

# What a proxy adds when it passes a request on: then the peer is the proxy, and not who asks.
_FORWARDED = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-forwarded-user",
        b"x-real-ip",
        b"cf-connecting-ip",
        b"true-client-ip",
    }
)


def address_of(client: Sequence[object] | None) -> Address | None:
    """Return the address of an ASGI peer; ``None`` for a socket that has none, or no address."""
    if not client:
        return None
    try:
        address = ipaddress.ip_address(str(client[0]).partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def host_name(host: str) -> str | None:
    """Return the name or address in a Host header, in lower case, without the port.

    ``None`` if it is none that a browser would send.
    """
    parts = _HOST.fullmatch(host)
    if parts is None or int(parts[2] or 0) > _LAST_PORT:
        return None
    name = parts[1].lower()
    if name.startswith("["):
        try:
            ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            return None
    return name.removesuffix(".")


def _literal(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


def known_host(name: str, hosts: Sequence[str]) -> bool:
    """Return whether a page may be asked for by this name.

    A foreign page can let its own name mean the loopback address, and then read what is there as
    if it was its own. So only names that are given are answered. An address is no such name.
    """
    if name == _LOCALHOST or _literal(name) is not None:
        return True
    return any(name == host.lower().removesuffix(".") for host in hosts)


def is_local(peer: Address | None, name: str) -> bool:
    """Return whether a request comes from this machine, and asks for this machine by that."""
    if peer is None or not peer.is_loopback:
        return False
    literal = _literal(name)
    return name == _LOCALHOST or (literal is not None and literal.is_loopback)


def within(peer: Address | None, networks: Sequence[Network]) -> bool:
    """Return whether an address is in one of some networks."""
    return peer is not None and any(
        peer.version == network.version and peer in network for network in networks
    )


def forwarded_by_others(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether a request says of itself that a proxy has passed it on."""
    return any(name.lower() in _FORWARDED for name, _ in headers)
