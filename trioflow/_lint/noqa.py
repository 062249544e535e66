"""Comments that leave findings out, as flake8 and ruff read them."""

from __future__ import annotations

import io
import re
import tokenize

__all__ = ["Exemptions"]

_CODES = r"(?::\s?(?P<codes>[A-Z]+[0-9]+(?:[,\s]+[A-Z]+[0-9]+)*))?"
_INLINE = re.compile(r"# noqa" + _CODES, re.IGNORECASE)
_FILE = re.compile(r"# (?:flake8|ruff)[:=]\s*noqa" + _CODES + r"\s*(?:$|-|#)", re.IGNORECASE)
_OUTSIDE = frozenset({tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT})


class Exemptions:
    """Tells which findings a source asks to leave out.

    A comment ``# noqa`` belongs to all lines of its statement, or of its header; ``# noqa: TF101``
    leaves that code out, ``# noqa: TF1`` all that begin so. ``# flake8: noqa`` and ``# ruff: noqa``
    in a line of their own, with or without codes, belong to the whole file.
    """

    def __init__(self, text: str) -> None:
        self._lines: dict[int, set[str]] = {}
        self._file: set[str] = set()
        first = 0
        codes = set[str]()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in _OUTSIDE and not first:
                first = token.start[0]
            if token.type == tokenize.COMMENT:
                self._file |= _codes(_FILE.match(token.string))
                inline = _codes(_INLINE.search(token.string))
                codes |= inline
                self._lines.setdefault(token.start[0], set()).update(inline)
            if token.type == tokenize.NEWLINE:
                for line in range(first, token.end[0] + 1) if codes else ():
                    self._lines.setdefault(line, set()).update(codes)
                first, codes = 0, set[str]()

    def cover(self, code: str, line: int) -> bool:
        """Return whether a finding of this code in this line is to be left out."""
        codes = self._file | self._lines.get(line, set())
        return any(code.startswith(each) for each in codes)


def _codes(found: re.Match[str] | None) -> set[str]:
    """Return the codes of a comment: the empty one, which every code begins with, for all."""
    if found is None:
        return set()
    return set(re.split(r"[,\s]+", found["codes"].upper())) if found["codes"] else {""}
