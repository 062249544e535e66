"""`trioflow lint`: what it prints, its options and its exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from trioflow._cli.app import app

FLOWS = """\
import time, uuid
from trioflow import workflow

@workflow
async def checkout() -> str:
\tstarted = time.time()

@workflow
async def ship() -> float:
\treturn (
\t\ttime.monotonic()
\t)
"""


@pytest.fixture
def lint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    Path("flows.py").write_text(FLOWS)
    Path("fine.py").write_text(
        "from trioflow import workflow\n\n@workflow\nasync def flow(): ...\n"
    )

    def run(*arguments: str, env: dict[str, str] | None = None):
        return CliRunner().invoke(app, ["lint", *arguments], env=env, catch_exceptions=False)

    return run


def test_findings_are_shown_in_their_lines(lint):
    result = lint()
    assert result.output == (
        """\
TF101 [*] `time.time()` in workflow `checkout`
 --> flows.py:6:12
  |
6 |     started = time.time()
  |               ^^^^^^^^^^^
  |
help: use trioflow.now()

TF101 `time.monotonic()` in workflow `ship`
  --> flows.py:11:3
   |
11 |         time.monotonic()
   |         ^^^^^^^^^^^^^^^^
   |
help: use trioflow.now()

Found 2 mistakes.
[*] 1 can be fixed with `--fix`.
"""
    )
    assert result.exit_code == 1


def test_one_line_for_each(lint):
    assert lint("--concise", "flows.py").output.splitlines()[0] == (
        "flows.py:6:12: TF101 [*] `time.time()` in workflow `checkout`; use trioflow.now()"
    )


def test_nothing_found(lint):
    result = lint("fine.py")
    assert result.output == "Found no mistakes in 1 workflow in 1 file.\n"
    assert result.exit_code == 0


def test_json(lint):
    result = lint("--json")
    first, second = json.loads(result.output)
    assert first == {
        "filename": "flows.py",
        "line": 6,
        "column": 12,
        "end_line": 6,
        "end_column": 23,
        "code": "TF101",
        "message": "`time.time()` in workflow `checkout`",
        "hint": "use trioflow.now()",
        "fixable": True,
    }
    assert not second["fixable"]
    assert result.exit_code == 1
    assert json.loads(lint("--json", "fine.py").output) == []


def test_fix_mends_the_file_and_shows_what_is_left(lint):
    result = lint("--fix", "--concise")
    assert "started = trioflow.now()" in Path("flows.py").read_text()
    assert result.output.splitlines() == [
        "flows.py:12:3: TF101 `time.monotonic()` in workflow `ship`; use trioflow.now()",
        "Fixed 1 mistake.",
        "Found 1 mistake.",
    ]
    assert result.exit_code == 1


def test_without_fix_or_with_other_codes_the_file_stays(lint):
    lint()
    lint("--fix", "--select", "TF2")
    assert Path("flows.py").read_text() == FLOWS


def test_a_file_that_cannot_be_written_is_named(lint, monkeypatch):
    def refuse(path: Path, data: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    result = lint("--fix")
    assert result.exit_code == 2
    assert "flows.py: Permission denied" in result.output


def test_codes_are_selected_and_ignored(lint):
    assert lint("--select", "TF2").exit_code == 0
    assert lint("--select", "TF2, tf101").exit_code == 1
    assert lint("--ignore", "TF101").exit_code == 0
    assert lint("--select", "TF1", "--ignore", "TF101").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--select", "XX1"], "there is no code 'XX1'"),
        (["--ignore", "TF999"], "there is no code 'TF999'"),
        (["nowhere.py"], "'nowhere.py' does not exist"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_wrong_usage(lint, arguments, said):
    result = lint(*arguments)
    assert said in result.output
    assert result.exit_code == 2


def test_what_is_no_python_is_a_finding(lint):
    Path("bad.py").write_bytes(b"workflow = '\xff'\n")
    Path("worse.py").write_text("workflow = (\n")
    result = lint("--concise", "bad.py", "worse.py")
    assert [line[:20] for line in result.output.splitlines()[:2]] == [
        "bad.py:1:1: TF100 Th",
        "worse.py:1:12: TF100",
    ]
    assert result.exit_code == 1


def test_colours_are_for_terminals_and_for_those_who_want_them(lint):
    colour = re.compile(r"\x1b\[(?:\d+;)*3\d")
    assert not colour.search(lint().output)
    assert colour.search(lint(env={"FORCE_COLOR": "1"}).output)
    assert not colour.search(lint(env={"FORCE_COLOR": "1", "NO_COLOR": "1"}).output)
