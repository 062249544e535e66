"""Each benchmark runs, with small sizes; nothing is asserted about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks.__main__ as command_line
from benchmarks.__main__ import BENCHMARKS, main, measure, table
from benchmarks.measuring import Figure, Sizes
from benchmarks.raw import has_writer, raw_speed
from benchmarks.raw.rows import commits_of
from benchmarks.stores import SERVERS, kind_of
from tests.servers import required

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
    assert (figure.what, figure.store) == ("2 roots", "memory")


@pytest.mark.servers
@pytest.mark.parametrize("name", ["tree", "two", "idle", "sharing"])
@pytest.mark.parametrize("server", SERVERS)
def test_what_is_measured_on_a_server_starts_a_private_one(name, server, tmp_path):
    required(server)
    sizes = Sizes(runs=2, quick=True, backend=server, directory=tmp_path)
    figures = measure(name, sizes)
    assert {(figure.benchmark, figure.store) for figure in figures} == {(name, server)}
    assert any(figure.reach for figure in figures)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        ("postgres", "postgres"),
        ("postgresql://somebody@host/shop", "postgres"),
        ("mysql://host/shop", "mariadb"),
        ("mariadb://host/shop", "mariadb"),
        ("rediss://host:6379/0", "redis"),
        ("sqlite:///shop.db", "sqlite"),
        ("memory://", "memory"),
    ],
)
def test_a_store_is_known_by_its_url(backend, kind):
    assert kind_of(backend) == kind


def test_a_server_that_is_not_installed_is_left_out(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(command_line, "missing", lambda backend: f"no {backend} found")
    with pytest.raises(SystemExit):
        main(["one", "--backend", "redis"])
    assert "no redis found" in capsys.readouterr().err
    monkeypatch.setattr(
        command_line, "missing", lambda backend: "none found" if backend == "mariadb" else None
    )
    ran = []
    monkeypatch.setattr(
        command_line, "_in_own_process", lambda name, backend, _: ran.append((name, backend)) or []
    )
    main(["stores", "--dir", str(tmp_path)])
    assert {server for _, server in ran} == {"postgres", "redis"}
    assert "mariadb is left out: none found" in capsys.readouterr().err


def test_a_raw_writer_leaves_nothing_and_is_checked(tmp_path):
    url = f"sqlite:///{tmp_path / 'bench.db'}"
    assert raw_speed(url, 2) > 0
    assert list(tmp_path.iterdir()) == []
    assert not has_writer("memory://")
    commits = commits_of(3, 10)
    assert sum(len(rows.get("instance", ())) for rows in commits) == 3 * 15
    assert max(len(rows.get("instance", ())) for rows in commits) == 10


@pytest.mark.parametrize(
    ("value", "reach", "reached"),
    [(2.0, ">= 1.9", True), (1.8, ">= 1.9", False), (1.2, "<= 1.2", True), (6.0, "< 6", False)],
)
def test_a_figure_knows_whether_it_reaches_its_aim(value, reach, reached):
    assert Figure("a", "b", value, "", reach).reached is reached


def test_the_table_marks_what_is_not_reached():
    shown = table(
        [
            Figure("tree", "speed", 1234.5, "workflows/s", ">= 1900", "sqlite"),
            Figure("tree", "other", 0.5, store="sqlite"),
            Figure("tree", "speed", 1.5, store="redis"),
        ]
    )
    lines = [line.split() for line in shown.splitlines()]
    assert lines[1] == ["tree", "sqlite", "speed", "1,234", "workflows/s", ">=", "1900", "!"]
    assert lines[2:] == [["other", "0.500"], ["tree", "redis", "speed", "1.500"]]


def test_the_command_prints_a_table_and_writes_the_figures(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "one", "--quick", "--depth", "1"]
    command += ["--dir", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "one root alone" in done.stdout
    written = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert [figure["benchmark"] for figure in written["figures"]] == ["one"]
    assert written["machine"]["processors"] >= 1


def test_one_that_fails_leaves_the_figures_of_others(monkeypatch, capsys, tmp_path):
    figures = {"one": [Figure("one", "speed", 2.0)], "two": None, "idle": []}
    monkeypatch.setattr(command_line, "_in_own_process", lambda name, *_: figures[name])
    with pytest.raises(SystemExit, match="two on sqlite"):
        main([*figures, "--dir", str(tmp_path)])
    assert "speed" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused_with_the_names_of_all(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "there are tree, one, two" in capsys.readouterr().err
