"""Each benchmark runs, with small sizes; nothing is asserted about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main, measure, table
from benchmarks.measuring import Figure, Sizes

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_gives_figures(name, tmp_path):
    figures = measure(name, Sizes(runs=2, quick=True, directory=tmp_path))
    assert figures
    assert {figure.benchmark for figure in figures} == {name}
    assert all(figure.value >= 0 or figure.benchmark == "sleeping" for figure in figures)
    assert list(tmp_path.iterdir()) == []  # what was made is gone


def test_the_tree_has_the_size_that_is_asked_for():
    assert Sizes().workflows == 15
    assert Sizes(depth=1, fanout=3, leaffanout=4).workflows == 1 + 3 + 12
    assert Sizes(depth=3, fanout=2, leaffanout=1).workflows == 1 + 2 + 4 + 8 + 8


def test_a_tree_of_another_shape_runs_on_another_backend(tmp_path):
    sizes = Sizes(runs=2, depth=1, activities=1, backend="memory", quick=True, directory=tmp_path)
    (figure,) = measure("tree", sizes)
    assert figure.what == "2 roots, memory"


@pytest.mark.parametrize(
    ("value", "reach", "reached"),
    [(2.0, ">= 1.9", True), (1.8, ">= 1.9", False), (1.2, "<= 1.2", True), (6.0, "< 6", False)],
)
def test_a_figure_knows_whether_it_reaches_its_aim(value, reach, reached):
    assert Figure("a", "b", value, "", reach).reached is reached


def test_the_table_marks_what_is_not_reached():
    shown = table(
        [Figure("tree", "speed", 1234.5, "workflows/s", ">= 1900"), Figure("tree", "other", 0.5)]
    )
    lines = shown.splitlines()
    assert lines[1].split() == ["tree", "speed", "1,234", "workflows/s", ">=", "1900", "!"]
    assert lines[2].split() == ["other", "0.500"]


def test_the_command_prints_a_table_and_writes_the_figures(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "one", "--quick", "--depth", "1"]
    command += ["--dir", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "one root alone" in done.stdout
    written = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert [figure["benchmark"] for figure in written["figures"]] == ["one"]
    assert written["machine"]["processors"] >= 1


def test_an_unknown_benchmark_is_refused_with_the_names_of_all(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "there are tree, one, two" in capsys.readouterr().err
