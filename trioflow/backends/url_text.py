"""URLs in messages."""

from __future__ import annotations

import re

__all__ = ["shown"]

# Up to the last @, since a password may hold what a URL reserves by mistake.
_IN_FRONT = re.compile(r"(://[^:/?#@]*):.*@")
_NAMED = re.compile(r"(password=)[^&\s]*")


def shown(url: str) -> str:
    """Return a URL, or connection string, in quotes and without its password."""
    return repr(_NAMED.sub(r"\1***", _IN_FRONT.sub(r"\1:***@", url)))
