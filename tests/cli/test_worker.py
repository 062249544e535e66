"""`trioflow worker`: in a process of its own, as it is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from urllib.request import urlopen

import pytest
import trio
from click.testing import CliRunner

from trioflow import Registry, open_client
from trioflow._cli.app import app
from trioflow._cli.worker import joined

pytestmark = pytest.mark.timeout(180)  # processes that begin take their time where all are busy

ROOT = Path(__file__).parents[2]
STORE = "sqlite:///shop.db"
FLOWS = """
from contextlib import asynccontextmanager
from trioflow import Registry

flows, more = Registry(), Registry()

@flows.workflow
async def greet(name: str) -> str:
    return f"Hello {name}"

@more.workflow
async def part(name: str) -> str:
    return f"Bye {name}"

@asynccontextmanager
async def make_registry():
    print("opened", flush=True)
    yield flows
    print("closed", flush=True)
"""


@contextmanager
def running(*arguments: str):
    """A worker's process; its log and what it prints come through one pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trioflow", "worker", "-v", "--store", STORE, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def until(process, words: str) -> list[str]:
    """Read lines up to one with these words."""
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError(f"{words!r} is not in {''.join(lines)}")


def run(workflow: str, module: str) -> str:
    registry = getattr(import_module("worker_flows"), module)

    async def main():
        async with open_client(STORE, registry=registry) as client:
            return await client.run(workflow, "ann")

    return trio.run(main)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("worker_flows.py").write_text(FLOWS)
    yield
    sys.modules.pop("worker_flows", None)


def test_it_serves_what_factories_give_until_it_is_told_to_end():
    modules = ("worker_flows:make_registry", "worker_flows:more")
    with running(*modules, "--name", "w1", "--metrics", "0") as worker:
        lines = until(worker, "worker w1 (")
        assert "opened" in lines[0]
        address = next(line for line in lines if line.startswith("metrics: "))
        assert run("greet", "flows") == "Hello ann"
        assert run("part", "more") == "Bye ann"
        with urlopen(address.split()[1]) as answer:
            finished = 'trioflow_workflow_finished_total{status="completed",subworkflow="false"'
            assert finished in answer.read().decode()
        worker.send_signal(signal.SIGTERM)
        assert until(worker, "closed")
        assert worker.wait() == 0


def test_it_begins_anew_when_a_file_changes():
    with running("worker_flows:flows", "--reload") as worker:
        until(worker, " serves ")
        # In one step, or the file would have changed twice: made empty, and written.
        Path("changed").write_text(FLOWS.replace("Hello", "Good day,"))
        Path("changed").replace("worker_flows.py")
        until(worker, "A file has changed")
        until(worker, " serves ")
        assert run("greet", "flows") == "Good day, ann"
        worker.send_signal(signal.SIGTERM)
        until(worker, "has ended")
        assert worker.wait() == 0


def test_one_registry_is_taken_as_it_is_and_several_are_joined():
    first, second = Registry(), Registry()

    @second.workflow
    async def flow() -> None: ...

    assert joined([first, first]) is first
    assert [*joined([first, second]).workflows] == ["flow"]


def test_what_it_is_given_wrongly_is_said_in_one_line():
    def say(*arguments: str):
        return CliRunner().invoke(app, ["worker", "--store", STORE, *arguments])

    assert "there is no module 'nowhere'" in say("nowhere").stderr
    wrong = say("worker_flows:flows", "--max-activities", "0")
    assert (wrong.exit_code, wrong.exception.__class__) == (2, SystemExit)
    assert "--max-activities" in wrong.stderr
    assert say().exit_code == 2
