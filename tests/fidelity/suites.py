"""Fidelity to trio: trio's and anyio's own tests, and random programs, made as workflows.

``nox -s fidelity`` runs all of it; what follows ``--`` goes to pytest (``-k cancel``). The quick
tests run a part: `test_sample` one of six of trio's tests, `test_programs` some hundred programs.
The suites take about 10 seconds of processor time each, 20,000 programs about two minutes.

Each test of the suites is called on trio, and then with ``trio.run()`` replaced by executions of a
workflow: live, replayed from the encoded history, and evicted and replayed before each turn, as by
a worker with ``cache_size=0``. It has to pass each time, and its runs must end as on trio: with
values of the same types and the same tree of exceptions. ``wait_all_tasks_blocked()``, which is no
part of a workflow, is an activity here that is answered when all tasks wait: it divides tests into
turns. See `runs` for how, `plugin` for pytest's side.

`exclusions` is the table of what is not made, with the reasons. A test that it does not name is
made, so one that is new in trio and fails is reported by its name. Then either the loop differs,
which is to be mended in ``trioflow/_engine/loop``, or a workflow must differ, and the table says
why. ``--excluded`` makes the excluded tests alone and reports those that pass all the same.

`programs` makes random programs. Their traces (what ended when, in which task, with which value,
exceptions and reason of a cancel), in the order in which trio runs tasks when nothing shuffles
them, must be equal.

``python -m tests.fidelity.suites trio [ARGUMENTS OF PYTEST]`` runs one suite in this environment.
anyio is installed without its tests: ``anyio=ARCHIVE`` names its source distribution.
"""

# mypy: ignore-errors

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import trio

HERE = Path(__file__).parent


def pytest_command(suite: str, *arguments: str) -> list[str]:
    """Return the command that runs a suite's tests."""
    command = [sys.executable, "-m", "pytest", "-c", str(HERE / "suites.ini"), *arguments]
    name, _, archive = suite.partition("=")
    if name == "trio":
        folder = Path(trio.__file__).parent
        return [*command, "-p", "trio._tests.pytest_plugin", str(folder)]
    return [*command, "--anyio-mode=auto", "-m", "not network", str(_unpacked(Path(archive)))]


def _unpacked(archive: Path) -> Path:
    folder = archive.with_name(archive.name.removesuffix(".tar.gz"))
    if not folder.exists():
        with tarfile.open(archive) as packed:
            packed.extractall(archive.parent, filter="data")
    return folder / "tests"


if __name__ == "__main__":
    sys.exit(subprocess.run(pytest_command(*sys.argv[1:]), check=False).returncode)
