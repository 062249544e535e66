"""The flake8 plugin, as flake8 runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("flake8")

ROOT = Path(__file__).parents[2]
FLOWS = """\
import time

from trioflow import workflow


@workflow
async def checkout() -> float:
    time.sleep(1)  # noqa: TF102
    return time.time()
"""


@pytest.fixture
def flake8(tmp_path: Path):
    """Run flake8 where trioflow is installed with the entry points that pyproject.toml has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    info = tmp_path / "installed" / f"trioflow-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: trioflow\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {what}\n" for name, what in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    work = tmp_path / "work"
    work.mkdir()
    (work / "flows.py").write_text(FLOWS)

    def run(*options: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "flake8", "--isolated", *options, "flows.py"],
            cwd=work,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(info.parent), str(ROOT)])},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout

    return run


def test_flake8_shows_findings_and_leaves_out_what_comments_say(flake8):
    code, out = flake8("--require-plugins", "trioflow")
    assert out == (
        "flows.py:9:12: TF101 `time.time()` in workflow `checkout`; use trioflow.now()\n"
    )
    assert code == 1


def test_codes_are_chosen_as_those_of_any_plugin(flake8):
    assert flake8("--extend-ignore", "TF101") == (0, "")
    assert flake8("--select", "E,W,F") == (0, "")
    assert "TF102" in flake8("--disable-noqa", "--select", "TF1")[1]
