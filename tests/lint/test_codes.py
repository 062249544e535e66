"""The table of codes, the guard, the linter and the pages in docs/lint say the same."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

from tests.examples.test_docs import BLOCK, anchors, blocks
from trioflow import default_registry
from trioflow._engine.guard.checks import CHECKS
from trioflow._engine.guard.codes import CODES
from trioflow._lint import check, fix

DOCS = Path(__file__).parents[2] / "docs" / "lint"
PAGES = sorted(DOCS.glob("*.md"))
LINT = Path(check.__code__.co_filename).parent


def test_every_code_has_a_page_and_a_line_in_the_table():
    assert [page.stem for page in PAGES] == ["README", *CODES]
    rows = re.findall(
        r"(?m)^\| \[(\w+)\]\((\w+)\.md\) \| (.+) \| (.+) \|$", (DOCS / "README.md").read_text()
    )
    assert rows == [(c.code, c.code, c.summary, c.running) for c in CODES.values()]


def test_every_code_is_one_of_the_guard_or_of_the_linter():
    of_calls = {each.code for each in CHECKS}
    of_linter = {
        code for file in LINT.glob("*.py") for code in re.findall(r'"(TF\d+)"', file.read_text())
    }
    assert of_calls | of_linter == CODES.keys()
    assert {code for code in CODES if code > "TF200"}.isdisjoint(of_calls)
    assert all(code.hint for code in CODES.values() if code.code > "TF200")


@pytest.mark.parametrize("code", CODES)
def test_the_page_of_a_code(code, monkeypatch):
    page = DOCS / f"{code}.md"
    text = page.read_text("utf-8")
    assert text.startswith(f"# {code}: {CODES[code].summary}\n")
    assert re.findall(r"(?m)^## (.+)$", text) == ["What is found", "Why", "Example"]
    wrong, right = (block.lstrip("\n") for block in blocks(page))
    assert {each.code for each in check(wrong).findings} == {code}
    assert check(right).findings == []
    assert check(right).workflows == 1
    assert (
        ("--fix` " in text) == bool(fix(wrong)[1])
        or "not mended by" in text
        or "puts `sorted" in text
    )

    monkeypatch.setattr(default_registry, "_workflows", {})
    monkeypatch.setattr(default_registry, "_activities", {})
    module = types.ModuleType(f"page_{code.lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(right, page, "exec", dont_inherit=True), vars(module))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text("utf-8"))
    for path, heading in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
        target = page.parent / path
        assert target.is_file()
        assert not heading or heading in anchors(target)
