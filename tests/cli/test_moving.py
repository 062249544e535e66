"""``trioflow move``: the transcript of docs/operations.md happens, and how the command ends."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from trioflow import default_registry, open_client, open_worker
from trioflow._cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
FLOWS = """
from trioflow import Signal, workflow

go = Signal("go", int)

@workflow
async def later() -> int:
    return await go.receive()

@workflow
async def quick() -> int:
    return 1
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A store with three instances under way and one that has ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(default_registry, "_workflows", {})
    monkeypatch.setattr(default_registry, "_activities", {})
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    Path("shop.py").write_text(FLOWS)
    for id in ("order-1", "order-2", "order-3"):
        cli(f"trioflow start later -m shop --id {id} --store sqlite:///shop.db")
    cli("trioflow start quick -m shop --id done --store sqlite:///shop.db")
    trio.run(work, "sqlite:///shop.db")
    yield
    sys.modules.pop("shop", None)


async def work(store: str) -> None:
    async with open_worker(store) as worker:
        assert await worker.client.handle("done").result() == 1


def cli(command: str, **options):
    sys.modules.pop("shop", None)
    return CliRunner().invoke(app, shlex.split(command)[1:], catch_exceptions=False, **options)


def without_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?Z", "(a time)", text).rstrip()


def test_the_transcript_of_the_page_happens(shop):
    text = PAGE.read_text("utf-8").partition("## Moving to another store")[2]
    (block,) = re.findall(r"(?ms)^```console\n(.*?)^```$", text.partition("\n## ")[0])
    steps = re.findall(r"(?ms)^\$ (.+?)\n(.*?)(?=^\$ |\Z)", block)
    assert len(steps) == 4
    for command, output in steps:
        assert without_times(cli(command).output) == without_times(output), command


def test_the_numbers_can_be_had_as_json(shop):
    found = cli("trioflow move sqlite:///shop.db sqlite:///new.db --dry-run --json")
    assert json.loads(found.stdout) == {
        "moved": 0,
        "unfinished": 3,
        "finished": 1,
        "left": 0,
        "problems": [],
    }
    moved = cli("trioflow move sqlite:///shop.db sqlite:///new.db --unfinished-only --yes --json")
    assert json.loads(moved.stdout)["moved"] == 3
    again = cli("trioflow move sqlite:///shop.db sqlite:///new.db --yes")
    assert again.output.splitlines()[0] == (
        "moved 3 unfinished and 0 finished instances; 1 finished ones stay"
    )


def test_it_is_asked_for_and_can_be_given_up(shop):
    asked = cli("trioflow move sqlite:///shop.db sqlite:///new.db", input="n\n")
    assert asked.exit_code == 1
    assert "Close sqlite:///shop.db, and move all to sqlite:///new.db?" in asked.output
    assert cli("trioflow signal order-1 go 1 --store sqlite:///shop.db").exit_code == 0
    assert cli("trioflow move sqlite:///shop.db sqlite:///new.db --yes").exit_code == 0
    assert cli("trioflow signal order-1 go 1 --store sqlite:///shop.db").exit_code == 1
    given_up = cli("trioflow move sqlite:///shop.db sqlite:///new.db --abort --yes")
    assert given_up.output == "sqlite:///new.db is empty, and sqlite:///shop.db is open again\n"
    assert cli("trioflow signal order-1 go 1 --store sqlite:///shop.db").exit_code == 0
    assert cli("trioflow count --store sqlite:///new.db").output == "0\n"


def test_what_is_in_the_way_is_said(shop):
    cli("trioflow start later -m shop --id mine --store sqlite:///new.db")
    found = cli("trioflow move sqlite:///shop.db sqlite:///new.db --dry-run")
    assert found.exit_code == 1
    assert "sqlite:///new.db holds instances already" in found.output
    assert cli("trioflow move sqlite:///shop.db sqlite:///new.db --yes").exit_code == 1
    assert cli("trioflow move sqlite:///none.db sqlite:///x.db --yes").exit_code == 3
    assert not Path("none.db").exists()
    assert cli("trioflow move sqlite:///shop.db memory:// --yes").exit_code == 2
    assert cli("trioflow move sqlite:///shop.db sqlite:///y --abort --dry-run").exit_code == 2
    trio.run(still_open, "sqlite:///shop.db")


async def still_open(store: str) -> None:
    async with open_client(store) as client:
        assert await client.handle("order-1").describe()
        await client.handle("order-1").cancel()


def test_a_worker_of_a_closed_store_says_where_to_go(shop):
    assert cli("trioflow move sqlite:///shop.db sqlite:///new.db --yes").exit_code == 0
    found = cli("trioflow worker shop --store sqlite:///shop.db")
    assert found.exit_code == 1
    assert "moved to sqlite:///new.db" in found.output
    assert "Traceback" not in found.output
