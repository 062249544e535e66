"""docs/commands.md: the reference is what ``--help`` says, and the transcript happens."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from tests.cli.commands_page import PAGE, whole_page
from tests.cli.test_worker import running, until
from trioflow import default_registry, open_client, open_worker
from trioflow._cli.app import app
from trioflow.backends.commits import NewInstance

STORE = "sqlite:///shop.db"
OLD = """
from trioflow import RetryPolicy, Signal, activity, patched, workflow

approved = Signal("approved", bool)

@activity
async def charge(order: dict) -> str:
    return f"receipt of order {order['id']}"

@activity(retry=RetryPolicy(max_attempts=1))
async def reserve(order: dict) -> float:
    return order["discount"]

@workflow
async def checkout(order: dict) -> str:
    receipt = await charge(order)
    await approved.receive()
    return receipt
"""
NEW = OLD.replace("    receipt = await", "    await reserve(order)\n    receipt = await")
MENDED = NEW.replace('["discount"]', '.get("discount", 0.0)').replace(
    "    await reserve", "    if patched('reserve'):\n        await reserve"
)


def test_the_reference_is_what_help_says():
    assert PAGE.read_text("utf-8") == whole_page(), "run python -m tests.cli.commands_page"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(default_registry, "_workflows", {})
    monkeypatch.setattr(default_registry, "_activities", {})
    monkeypatch.setenv("TRIOFLOW_STORE", STORE)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    yield
    sys.modules.pop("shop", None)


def deploy(code: str) -> None:
    Path("shop.py").write_text(code)
    sys.modules.pop("shop", None)


def cli(command: str) -> str:
    """Run a command, and what follows it behind a pipe."""
    ours, _, filters = command.partition(" | ")
    sys.modules.pop("shop", None)
    result = CliRunner().invoke(app, shlex.split(ours)[1:], catch_exceptions=False)
    if not filters:
        return result.output
    done = subprocess.run(
        filters, shell=True, input=result.output, capture_output=True, text=True, check=True
    )
    return done.stdout


async def work(id: str, *statuses: str) -> None:
    async with open_worker(STORE) as worker:
        await worker.client.handle(id).wait(status=statuses)


async def charged() -> None:
    async with open_worker(STORE) as worker:
        handle, seen = worker.client.handle("order-7"), worker.client.backend.changes()
        while not (history := await handle.history()) or len(history[0].turns) < 2:
            await worker.client.wait_change(seen)
            seen = worker.client.backend.changes()


async def others() -> None:
    async with open_client(STORE) as client:
        new = [
            NewInstance(
                id=f"order-{n}", workflow="checkout", queue="later", input=b"{}", life=str(n)
            )
            for n in range(100_000, 109_998)
        ]
        assert all(await client.backend.create(new))


def make_trouble() -> None:
    """Deploy a version in which one order fails, and which does not fit what another one did."""
    trio.run(others)
    deploy(OLD)
    cli("trioflow start checkout '{\"id\": 7}' -m shop --id order-7")
    trio.run(charged)
    deploy(NEW)
    cli("trioflow start checkout '{\"id\": 8}' -m shop --id order-8")
    cli("trioflow signal order-7 approved true")
    trio.run(work, "order-7", "suspended")
    trio.run(work, "order-8", "failed")


def without_chance(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?Z", "(a time)", text)
    return re.sub(r'File "[^"]*/', 'File "', text).rstrip()


def test_what_is_wrong_among_ten_thousand_is_found_and_mended(shop):
    Path("shop.db").touch()
    make_trouble()
    page = (
        PAGE.read_text("utf-8").partition("## Finding and mending")[2].partition("## Commands")[0]
    )
    steps = re.findall(
        r"(?ms)^\$ (.+?)\n(.*?)(?=^\$ |\Z)",
        "".join(re.findall(r"(?ms)^```console\n(.*?)^```$", page)),
    )
    assert len(steps) > 10
    worker = None
    with ExitStack() as stack:
        for command, output in steps:
            if command.startswith("trioflow export"):
                deploy(MENDED)
            if command == "trioflow worker shop &":
                worker = stack.enter_context(running("shop"))
                until(worker, " serves ")
                continue
            got = without_chance(cli(command))
            assert got == without_chance(output), command
        assert worker is not None
        worker.terminate()
        until(worker, "has ended")
