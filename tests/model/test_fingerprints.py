"""Fingerprints: what changes them, and what does not."""

# mypy: ignore-errors

from __future__ import annotations

import functools
import linecache
import textwrap

import pytest

from trioflow._model.fingerprints import fingerprint_of
from trioflow._model.workflows import Workflow

numbers = iter(range(1000))


def defined(source, name="wf"):
    """Run source that can be read, as if it came from a file."""
    file = f"<source {next(numbers)}>"
    text = textwrap.dedent(source)
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    namespace = {}
    exec(compile(text, file, "exec"), namespace)
    return namespace[name]


SOURCE = """
async def wf(order):
    if order:
        return f"{order} is here"
    return 'nothing'
"""


@pytest.mark.parametrize(
    "same",
    [
        SOURCE + "\n\nother = 1\n",
        "# above\n" + SOURCE.replace("return 'nothing'", "return 'nothing'  # at the end"),
        SOURCE.replace("    return 'nothing'", "\n\n    # between\n    return   'nothing'"),
        SOURCE.replace("(order):", "(\n    order\n):"),
    ],
)
def test_what_does_not_count(same):
    assert fingerprint_of(defined(same)) == fingerprint_of(defined(SOURCE))


@pytest.mark.parametrize(
    "other",
    [
        SOURCE.replace("'nothing'", "'something'"),
        SOURCE.replace("is here", "was here"),
        SOURCE.replace("    return 'nothing'", "        return 'nothing'"),
        SOURCE.replace("    return 'nothing'\n", ""),
        "def deco(fn):\n    return fn\n\n@deco" + SOURCE,
    ],
)
def test_what_counts(other):
    assert fingerprint_of(defined(other)) != fingerprint_of(defined(SOURCE))


def test_it_is_a_short_text_and_the_same_for_a_variant():
    first = Workflow(defined(SOURCE))
    assert len(first.fingerprint) == 16
    assert first.options(id="7").fingerprint == first.fingerprint
    assert fingerprint_of(functools.partial(first.fn, 1)) == first.fingerprint


def test_one_that_is_known_does_not_change():
    # It is stored, and compared by later versions.
    assert fingerprint_of(defined(SOURCE)) == "26a27e9205623433"


def test_what_has_no_source():
    namespace = {}
    exec("async def wf(): ...", namespace)
    assert fingerprint_of(namespace["wf"]) == ""
    assert fingerprint_of(len) == ""
