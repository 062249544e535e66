"""Each mistake of docs/mistakes.md has the message that the page shows: the page is the test."""

from __future__ import annotations

import logging
import re
import sys
import types
import warnings
from pathlib import Path

import pytest

from trioflow import Registry, default_registry
from trioflow._registry import known_workflows

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
_TEXT = PAGE.read_text("utf-8")
_SETUP = re.search(r"(?ms)^<!-- test\n(.*?)^-->$", _TEXT)[1]
_MISTAKE = re.compile(
    r"(?ms)^### ([^\n]+)\n(?:(?!^#).)*?^```python\n(.*?)^```$\s*^```text\n(.*?)^```$"
)
MISTAKES = [match.groups() for match in _MISTAKE.finditer(_TEXT)]


def said(mistake: BaseException) -> str:
    """Return what a user reads of an exception: class, text, and notes; a group's only member."""
    while isinstance(mistake, BaseExceptionGroup) and len(mistake.exceptions) == 1:
        mistake = mistake.exceptions[0]
    return "\n".join([f"{type(mistake).__name__}: {mistake}", *getattr(mistake, "__notes__", [])])


def pattern(message: str) -> re.Pattern[str]:
    """Return what finds a message of the page: lines are broken anywhere, and `…` is any text."""
    words = [re.escape(word).replace("…", r"\S*") for word in message.split()]
    return re.compile(r"\s+".join(words))


@pytest.fixture
def hear(tmp_path, monkeypatch, caplog, capsys):
    """Return what runs a snippet as a file of its own, and returns all that it has said."""
    monkeypatch.setattr(default_registry, "_workflows", dict(known_workflows(Registry())))
    monkeypatch.setattr(default_registry, "_activities", {})
    module = types.ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    exec(_SETUP, vars(module))

    def hear(code: str) -> str:
        file = tmp_path / "shop.py"
        file.write_text(code, "utf-8")
        lines: list[str] = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with caplog.at_level(logging.WARNING, "trioflow"):
                try:
                    exec(compile(code, file, "exec", dont_inherit=True), vars(module))
                except Exception as mistake:
                    lines.append(said(mistake))
        lines += [f"{warning.category.__name__}: {warning.message}" for warning in caught]
        lines += [f"{record.levelname}: {record.getMessage()}" for record in caplog.records]
        return "\n".join([*lines, capsys.readouterr().out]).replace(f"{tmp_path}/", "")

    return hear


@pytest.mark.parametrize(
    ("code", "message"), [each[1:] for each in MISTAKES], ids=[each[0] for each in MISTAKES]
)
def test_a_mistake_has_its_message(code, message, hear):
    heard = hear(code)
    if "[TF" in message and sys.version_info < (3, 12):
        assert "DeterminismWarning" in heard  # as the page says
        message = message[message.index("[TF") :]
    assert pattern(message).search(heard), heard


def test_the_page_has_all_its_mistakes():
    assert len(MISTAKES) == _TEXT.count("\n### ") == _TEXT.count("\n```python")
    assert len(MISTAKES) >= 30
    assert len({title for title, _, _ in MISTAKES}) == len(MISTAKES)
