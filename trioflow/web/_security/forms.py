"""What is posted: whether it comes from a page of ours, and what its fields hold."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.types import Message, Receive

__all__ = ["Refused", "again", "is_ours", "parse", "read"]

_LARGEST: Final = 5 * 1024 * 1024  # bytes of a form: a value of 2 MiB, twice as long when encoded
_MOST_FIELDS: Final = 200


class Refused(Exception):
    """A request is not answered."""

    def __init__(self, status: int, title: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.title = title
        self.message = message


def is_ours(headers: Headers) -> bool:
    """Return whether a form comes from a page of the same host; programs do not say."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origins = headers.getlist("origin")
    if not origins:
        return True
    if len(origins) > 1:
        return False
    try:
        origin = urlsplit(origins[0])
        port = origin.port
    except ValueError:
        return False
    if origin.scheme not in ("http", "https"):
        return False
    host = headers["host"].lower()
    usual = {"http": 80, "https": 443}[origin.scheme]
    name = origin.hostname or ""
    name = f"[{name}]" if ":" in name else name
    # Behind a proxy that ends TLS we are not told the scheme, but that of the origin says it.
    return host == f"{name}:{port or usual}" or (host == name and port in (None, usual))


async def read(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "This cannot be read", "The request has ended too early.")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > _LARGEST:
            raise Refused(413, "This is too much", f"A form has at most {_LARGEST:,} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def parse(body: bytes) -> dict[str, list[str]]:
    form: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise Refused(400, "This cannot be read", "The form is not as browsers send it.") from None
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    return form


def again(body: bytes) -> Receive:
    """Return what gives a body that was read."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive
