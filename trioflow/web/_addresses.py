"""How ids stand in addresses.

An id may have any characters. A ``/`` in a path cannot be told from one that separates its parts,
not even as ``%2F``: servers and proxies decode that before anybody looks. So ids are escaped as in
percent-encoding, but with ``~``: ``orders/7`` is ``orders~2F7``. Then nothing on the way decodes,
normalises or refuses them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException

from trioflow._codec.limits import check_characters
from trioflow.errors import ArgumentError

__all__ = ["escaped", "query_string", "unescaped"]

_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.:@=+,")
_ESCAPED: Final = re.compile(r"(?:~[0-9A-Fa-f]{2})+")


def escaped(id: str) -> str:
    """Return an id as one part of a path."""
    if not id.strip("."):  # browsers take `.` and `..` out of a path
        return "".join(f"~{ord(each):02X}" for each in id)
    data = id.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if byte in _PLAIN else f"~{byte:02X}" for byte in data)


def unescaped(part: str) -> str:
    """Return the id that a part of a path stands for; what is not escaped stands for itself."""

    def decoded(match: re.Match[str]) -> str:
        return bytes.fromhex(match[0].replace("~", "")).decode("utf-8", "replace")

    return _ESCAPED.sub(decoded, part)


class _IdConvertor(Convertor[str]):
    regex = "[^/]+"

    def convert(self, value: str) -> str:
        try:
            return check_characters(unescaped(value), "an id")
        except ArgumentError as error:  # stores would fail in ways of their own
            raise HTTPException(400, str(error)) from error

    def to_string(self, value: str) -> str:
        return escaped(value)


register_url_convertor("trioflow_id", _IdConvertor())


def query_string(values: Mapping[str, str | Sequence[str] | None]) -> str:
    """Return values as the query of an address, with its ``?``; those that are empty left out."""
    pairs = [
        (name, value)
        for name, given in values.items()
        for value in ([given] if isinstance(given, str) else given or ())
        if value
    ]
    return f"?{urlencode(pairs)}" if pairs else ""
