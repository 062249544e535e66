"""Fingerprints: whether a workflow's source is the one that an execution began with."""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["fingerprint_of"]

_LEFT_OUT = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_STANDS_FOR = {tokenize.NEWLINE: "\n", tokenize.INDENT: "\t", tokenize.DEDENT: "\b"}


def fingerprint_of(fn: Callable[..., Any]) -> str:
    """Return 16 digits that stand for a function's own source; ``""`` if there is none to read.

    Comments, blank lines and the layout of a line do not count; decorators do, and what the
    function calls does not.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(fn)))
        text = "".join(_tokens(source))
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return ""
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def _tokens(source: str) -> Iterator[str]:
    # With nothing between them: Python 3.12 takes f-strings apart, earlier ones do not.
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _LEFT_OUT:
            yield _STANDS_FOR.get(token.type, token.string)
