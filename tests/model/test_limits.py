"""What every store takes: the table of limits, where it is checked, and that the docs have it."""

# Much of what is given here is wrong on purpose.
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trioflow import Registry, Signal, activity_by_name, workflow_by_name
from trioflow._codec import limits
from trioflow._model.ids import check_command_id
from trioflow.errors import ArgumentError, PayloadTooLarge

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_manual_has_the_table():
    text = OPERATIONS.read_text("utf-8")
    rows = dict(re.findall(r"(?m)^\| ([^|]+?) +\| ([^|]+?) +\|$", text))
    assert {what: rows.get(what) for what in limits.TABLE} == limits.TABLE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be empty"),
        (7, "is a string, not 7"),
        (b"x", "is a string, not b'x'"),
        (None, "is a string, not None"),
        ("a\0b", r"holds a NUL \(character 1\)"),
        ("a\ud800", r"holds half a surrogate pair \(character 1\)"),
        ("é\0", r"holds a NUL \(character 1\)"),
        ("x" * 501, "has 501 characters, at most 500"),
    ],
    ids=ascii,
)
def test_ids_that_a_store_would_not_take_are_refused(text, says):
    with pytest.raises(ArgumentError, match=f"^an instance's id.* {says}"):
        limits.check_id(text)


@pytest.mark.parametrize("text", ["x", "x" * 500, "😀" * 500, "a b\n\x01", "🜁/é"])
def test_other_ids_are_taken(text):
    assert limits.check_id(text) == text


def test_names_and_reasons_have_limits_of_their_own():
    assert limits.check_name("q" * 255, "a queue") == "q" * 255
    with pytest.raises(ArgumentError, match=r"^the name of a queue, 'q{40}\\u2026', has 256"):
        limits.check_name("q" * 256, "a queue")
    assert limits.check_reason(None) is None
    assert limits.check_reason("") == ""
    assert limits.check_reason("x" * 4000) == "x" * 4000
    with pytest.raises(ArgumentError, match="^a reason, .* has 4,001 characters, at most 4,000"):
        limits.check_reason("x" * 4001)


def test_the_path_of_a_task_and_the_size_of_a_turn():
    deep = ".".join(["0"] * 120) + ":3"
    assert check_command_id(deep, "activity 'x'") == deep
    with pytest.raises(ArgumentError, match="^activity 'x' .* nested too deeply: .* 125 levels"):
        check_command_id(".".join(["0"] * 125) + ":3", "activity 'x'")
    limits.check_given(limits.MAX_TURN, "x() arguments")
    with pytest.raises(PayloadTooLarge, match=r"^x\(\) arguments: .* 4,194,305 bytes"):
        limits.check_given(limits.MAX_TURN + 1, "x() arguments")


def wrong_definitions():
    flows = Registry()

    @flows.workflow
    async def work() -> None:
        pass

    @flows.activity
    async def act() -> None:
        pass

    yield lambda: flows.workflow(name="w" * 256)(work.fn)
    yield lambda: flows.activity(name="a\0")(act.fn)
    yield lambda: flows.workflow(name="w", queue="")(work.fn)
    yield lambda: flows.activity(name="a", queue="\ud800")(act.fn)
    yield lambda: work.options(id="")
    yield lambda: work.options(id="a\0")
    yield lambda: work.options(id=7)
    yield lambda: work.options(queue="q" * 256)
    yield lambda: act.options(queue="q" * 256)
    yield lambda: Signal("", int)
    yield lambda: Signal("s" * 256, int)
    yield lambda: Signal(3, int)
    yield lambda: activity_by_name("\ud800")
    yield lambda: workflow_by_name("w", queue="\0")


@pytest.mark.parametrize("wrong", list(wrong_definitions()))
def test_definitions_and_options_are_checked_where_they_are_made(wrong):
    with pytest.raises(ArgumentError):
        wrong()
