"""The command itself: how it is started, and what it says without the extra."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

import trioflow
from trioflow import _cli
from trioflow._cli.app import app

ROOT = Path(__file__).parents[2]


def start(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trioflow"]
    if before:
        command = [
            sys.executable,
            "-c",
            f"{before}\nimport runpy; runpy.run_module('trioflow', run_name='__main__')",
        ]
    return subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_interrupt_while_it_is_imported_shows_no_traceback():
    interrupted = (
        "import sys, types\n"
        "class Interrupts(types.ModuleType):\n"
        "    def __getattr__(self, name): raise KeyboardInterrupt\n"
        "sys.modules['trioflow._cli.app'] = Interrupts('trioflow._cli.app')"
    )
    done = start("list", before=interrupted)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_it_runs_as_a_module():
    done = start("lint", "examples")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Found no mistakes in ")


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(missing):
    done = start("lint", before=f"import sys; sys.modules[{missing!r}] = None")
    assert done.returncode == 2
    assert (
        done.stderr == "trioflow's command line needs click and rich: pip install 'trioflow[cli]'\n"
    )


def test_another_missing_module_is_not_taken_for_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "trioflow._cli.app", None)
    with pytest.raises(ModuleNotFoundError):
        _cli.main()


def test_the_script_is_this_function():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module, _, name = project["scripts"]["trioflow"].partition(":")
    assert getattr(import_module(module), name) is _cli.main
    assert {"click", "rich"} <= {
        each.split(">")[0] for each in project["optional-dependencies"]["cli"]
    }


def test_everything_that_prints_can_print_json():
    """Also where it is JSON anyway, so that a script may give it everywhere."""
    schedules = app.commands["schedules"]
    commands = [*app.commands.items(), *schedules.commands.items()]
    without = [
        name
        for name, each in commands
        if not any("--json" in option.opts for option in each.params)
    ]
    assert sorted(without) == ["completion", "dev", "schedules", "web", "worker"]


def test_help_names_the_commands_and_the_version_is_ours():
    run = CliRunner()
    assert {"lint", "replay"} <= {*run.invoke(app, ["--help"]).output.split()}
    assert run.invoke(app, []).exit_code == 2
    assert trioflow.__version__ in run.invoke(app, ["--version"]).output
