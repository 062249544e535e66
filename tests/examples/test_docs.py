"""Every Python block of the README and of docs/ runs, in its order, one module for each page.

What is tested but not shown stands in a comment of the page that begins with `<!-- test`.
"""

from __future__ import annotations

import logging
import re
import sys
import types
from pathlib import Path

import pytest

from trioflow import Registry, default_registry
from trioflow._registry import known_workflows

ROOT = Path(__file__).parents[2]
MISTAKES = ROOT / "docs" / "mistakes.md"  # its blocks fail: see test_mistakes
LINKED = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "coming-from").glob("*.md")),
]
PAGES = [page for page in LINKED if page not in (MISTAKES, ROOT / "CONTRIBUTING.md")]
BLOCK = re.compile(r"(?ms)^(?:```python|<!-- test)\n(.*?)^(?:```|-->)$")
ANY_BLOCK = re.compile(r"(?ms)^(?:```|<!-- test).*?^(?:```|-->)$")


def blocks(page: Path) -> list[str]:
    """Give each block with as many empty lines before it as make its lines those of the page."""
    text = page.read_text("utf-8")
    return ["\n" * text.count("\n", 0, m.start(1)) + m[1] for m in BLOCK.finditer(text)]


@pytest.fixture
def logging_as_before():
    """Take back what a page does to our logger: the tests that follow would log by it."""
    ours = logging.getLogger("trioflow")
    level, handlers = ours.level, [*ours.handlers]
    yield
    ours.setLevel(level)
    ours.handlers[:] = handlers


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.usefixtures("logging_as_before")
def test_the_python_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default_registry, "_workflows", dict(known_workflows(Registry())))
    monkeypatch.setattr(default_registry, "_activities", {})
    module = types.ModuleType(f"page_{page.stem.lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for code in blocks(page):
        exec(compile(code, page, "exec", dont_inherit=True), vars(module))


def test_the_pages_have_blocks():
    assert [page.name for page in PAGES if page.stem in {"README", "guide"} and blocks(page)] == [
        "README.md",
        "guide.md",
    ]


def anchors(page: Path) -> set[str]:
    """Return what a link to a heading of a page ends with."""
    headings = re.findall(r"(?m)^#+ (.+)$", ANY_BLOCK.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page: Path):
    text = ANY_BLOCK.sub("", page.read_text("utf-8"))
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text)
    targets = [(page.parent / path if path else page, heading) for path, heading in links]
    assert [str(target) for target, _ in targets if not target.exists()] == []
    assert [each for each in targets if each[1] and each[1] not in anchors(each[0])] == []


def test_the_files_that_the_architecture_names_are_there():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = re.findall(r"`((?:\w+/)*(?:\w+\.py|\w+/))`", text)
    there = [f"/{path.relative_to(ROOT)}" for path in (ROOT / "trioflow").rglob("*.py")]
    folders = [f"/{path.relative_to(ROOT)}/" for path in (ROOT / "trioflow").rglob("*/")]
    found = [name for name in named if any(x.endswith(f"/{name}") for x in there + folders)]
    assert named
    assert sorted(set(named) - set(found)) == []
