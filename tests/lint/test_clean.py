"""What we show and what we run ourselves has none of these mistakes."""

from __future__ import annotations

from pathlib import Path

from tests.examples.test_docs import PAGES, blocks
from trioflow._lint import check
from trioflow._lint.files import find_files, read

ROOT = Path(__file__).parents[2]
# What is wrong there on purpose.
PLANTED = {
    "tests/client/test_bad_input.py": {"TF206"},
    "tests/histories/failing.py": {"TF112"},
    "tests/testing/planted.py": {"TF201", "TF202", "TF203", "TF204", "TF205"},
    "tests/typing/check_types.py": {"TF206"},
    "tests/worker/test_determinism.py": {"TF106"},
    "tests/worker/test_suspend_on.py": {"TF205"},
}
PLANTED_IN_PAGES = {
    "docs/determinism.md": {"TF106", "TF203"},
    "docs/go-workflows.md": {"TF203"},
}


def test_examples_benchmarks_and_tests_are_clean_but_for_what_is_planted():
    workflows = 0
    found: dict[str, set[str]] = {}
    for path in find_files([ROOT / "examples", ROOT / "benchmarks", ROOT / "tests"]):
        report = check(read(path).text)
        workflows += report.workflows
        if report.findings:
            found[path.relative_to(ROOT).as_posix()] = {each.code for each in report.findings}
    assert found == PLANTED
    assert workflows > 300


def test_pages_are_clean_but_for_what_is_planted():
    workflows = 0
    found: dict[str, set[str]] = {}
    for page in PAGES:
        text = ""
        for block in blocks(page):  # after as many empty lines as make its lines those of the page
            text += block[text.count("\n") :]
        report = check(text)
        workflows += report.workflows
        if report.findings:
            found[f"docs/{page.name}"] = {each.code for each in report.findings}
    assert found == PLANTED_IN_PAGES
    assert workflows > 20
