"""Sources to lint, as short as can be."""

from __future__ import annotations

import textwrap

from trioflow._lint import Finding, check

HEAD = """\
import asyncio, collections, datetime, functools, itertools, random, time, uuid
import anyio, trio
from trioflow import Registry, Signal, activity, side_effect, workflow
"""


def flow(body: str, before: str = "") -> str:
    """Give a source with a workflow that has this body."""
    inner = textwrap.indent(textwrap.dedent(body).strip(), "    ")
    return f"{HEAD}{textwrap.dedent(before)}\n@workflow\nasync def flow(arg):\n{inner}\n"


def findings(source: str) -> list[Finding]:
    return check(source).findings


def marked(source: str) -> list[tuple[str, str]]:
    """Give the codes of what is found, and the source at their places."""
    lines = source.split("\n")
    found = []
    for each in findings(source):
        last = each.end_column if each.line == each.end_line else None
        text = lines[each.line - 1][each.column - 1 : last and last - 1]
        found.append((each.code, text))
    return found


def codes(source: str) -> list[str]:
    return [each.code for each in findings(source)]
