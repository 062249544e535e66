"""Redact passwords in URLs, and read ports without showing a part of one in an error."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from trioflow.errors import BackendError

__all__ = ["port_of", "shown"]

# Up to the last @, since a password may hold what a URL reserves by mistake.
_IN_FRONT = re.compile(r"(://[^:/?#@]*):.*@")
_NAMED = re.compile(r"(password=)[^&\s]*")


def shown(url: str) -> str:
    """Return a URL, or connection string, in quotes and without its password."""
    return repr(_NAMED.sub(r"\1***", _IN_FRONT.sub(r"\1:***@", url)))


def port_of(url: str) -> int | None:
    """Return the port that a URL names, if it names one.

    Raises:
        BackendError: It is no number.
    """
    try:
        return urlsplit(url).port
    except ValueError:  # which would show a part of a password that has a slash
        raise BackendError(
            f"{shown(url)}: the port is no number; what a URL reserves, also in a password, is "
            "written with percent signs"
        ) from None
