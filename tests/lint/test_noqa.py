"""Comments that leave findings out."""

from __future__ import annotations

import pytest

from tests.lint.sources import codes, flow


@pytest.mark.parametrize(
    "line",
    [
        "time.time()  # noqa",
        "time.time()  # NOQA",
        "time.time()  # noqa: TF101",
        "time.time()  # noqa: TF101 - the reason",
        "time.time()  # noqa:E501,TF101",
        "time.time()  # noqa: E501 TF101",
        "time.time()  # noqa: TF1",
        "time.time()  # what it is for  # noqa: TF101",
        "arg(  # noqa: TF101\n    time.time(),\n)",
        "arg(\n    time.time(),\n)  # noqa: TF101",
        "arg('''\n''', time.time())  # noqa: TF101",
        "for x in [\n    time.time()\n]:  # noqa: TF101\n    pass",
    ],
)
def test_it_is_left_out(line):
    assert codes(flow(line)) == []


@pytest.mark.parametrize(
    "line",
    [
        "time.time()  # noqa: TF102",
        "time.time()  # noqa: TF1012",
        "time.time()  # no comment",
        "'# noqa'; time.time()",
        "pass  # noqa\ntime.time()",
        "time.time()\npass  # noqa",
        "if arg:  # noqa\n    time.time()",
    ],
)
def test_it_is_not_left_out(line):
    assert codes(flow(line)) == ["TF101"]


@pytest.mark.parametrize(
    ("comment", "left"),
    [
        ("# flake8: noqa", []),
        ("# ruff: noqa", []),
        ("# flake8: noqa: TF101", ["TF202"]),
        ("# ruff: noqa: TF101, TF202", []),
        ("# ruff: noqa: TF101 - the reason", ["TF202"]),
        ("# ruff: noqa: E501", ["TF101", "TF202"]),
    ],
)
def test_a_whole_file_may_be_exempt(comment, left):
    assert codes(comment + "\n" + flow("time.time(), id(arg)")) == left
