"""`trioflow schedules`, `check`, `reset` and `fork`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import trio

from tests.cli.test_store_commands import FLOWS, STORE, cli, packing, shop
from trioflow import Every, default_registry, open_client, open_worker

__all__ = ["shop"]  # a fixture


def test_schedules(shop):
    async def begin():
        async with open_client(STORE) as client:
            order = default_registry.workflows["cli_order"]
            await client.schedule("often", Every(hours=1), order.bind("a"))

    trio.run(begin)

    async def main():
        async with open_worker(STORE, drain=0):
            for command in (
                ("pause", "often", "--reason", "holidays"),
                ("trigger", "often"),
                ("resume", "often"),
                ("trigger", "often", "--json"),
                ("pause", "often", "--json"),
            ):
                result = await trio.to_thread.run_sync(cli, "schedules", *command)
                said.append(result.output)

    said: list[str] = []
    trio.run(main)
    assert (said[0], said[2]) == ("often: paused\n", "often: resumed\n")
    assert said[1].startswith("often/")
    assert json.loads(said[3])["id"].startswith("often/")
    assert json.loads(said[4]) == [{"id": "often", "done": True, "error": None}]
    (listed,) = json.loads(cli("schedules", "list", "--json").output)
    assert (listed["id"], listed["workflow"]) == ("often", "cli_order")
    assert json.loads(cli("schedules", "show", "often", "--json").output)["begun"] == 2
    header, row = cli("schedules", "list").output.splitlines()
    assert header.split()[:4] == ["ID", "WORKFLOW", "STATUS", "CALENDAR"]
    assert row.startswith("often  cli_order  ")
    assert cli("schedules", "remove", "often", "--yes").output == "often: removed\n"
    assert cli("schedules", "show", "often").exit_code == 4


@pytest.fixture
def waiting(shop):
    async def main():
        async with open_worker(STORE, drain=0) as worker:
            await packing(worker.client)

    trio.run(main)


def test_code_is_checked_before_it_is_deployed(waiting):
    fits = cli("check", "cli_flows")
    assert (fits.exit_code, fits.output.splitlines()[0]) == (
        0,
        "2 instances were checked: 0 do not fit the present code, 0 would only pass other data",
    )
    Path("cli_flows.py").write_text(
        FLOWS.replace("    receipt = await", "    await pack(order)\n    receipt = await")
    )
    del sys.modules["cli_flows"]
    found = cli("check", "cli_flows", "--json")
    assert found.exit_code == 1
    assert {one["instance"] for one in json.loads(found.output)["diverging"]} == {"good", "held"}


def test_code_is_checked_by_what_was_exported(waiting, monkeypatch):
    assert cli("export", "--under-way", "all.json").output == "Wrote 2 histories to all.json.\n"
    some = cli("export", "--under-way", "--sample", "1", "some.json")
    assert some.output == "Wrote 1 history to some.json.\n"
    cli("export", "good", "good.json")
    monkeypatch.setenv("TRIOFLOW_STORE", "")  # in CI there is none
    fits = cli("check", "cli_flows", "--from", "all.json", "--from", "good.json")
    assert (fits.exit_code, fits.output) == (
        0,
        "3 instances were checked: 0 do not fit the present code, 0 would only pass other data\n",
    )
    Path("cli_flows.py").write_text(
        FLOWS.replace("    receipt = await", "    await pack(order)\n    receipt = await")
    )
    del sys.modules["cli_flows"]
    found = cli("check", "cli_flows", "--from", "all.json", "--json")
    assert found.exit_code == 1
    assert {one["instance"] for one in json.loads(found.output)["diverging"]} == {"good", "held"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "good.json"], "either the ID of an instance, or --under-way"),
        (["export", "good", "--under-way", "good.json"], "either the ID of an instance, or"),
        (["export", "good", "held", "good.json"], "either the ID of an instance, or"),
        (["export", "good", "--sample", "3", "good.json"], "--sample is for --under-way"),
        (["check", "cli_flows", "--from", "cli_flows.py", "--sample", "3"], "are for a store"),
        (["check", "cli_flows", "--from", "nothing.json"], "'nothing.json' does not exist"),
    ],
)
def test_wrong_usage_of_exports(waiting, arguments, said):
    result = cli(*arguments)
    assert said in result.output
    assert result.exit_code == 2
    assert not Path("good.json").exists()


def test_what_is_no_bundle_is_told_in_a_line(waiting):
    Path("bad.json").write_text("[1")
    result = cli("check", "cli_flows", "--from", "bad.json")
    assert result.output.startswith("Error: 'bad.json' is no bundle of histories: ")
    assert result.exit_code == 1


def test_an_instance_is_reset_and_forked(waiting):
    assert cli("fork", "good", "--turn", "1", "--id", "copy").output == "copy\n"
    forked = cli("fork", "good", "--turn", "1", "--id", "copied", "--json").output
    assert json.loads(forked) == {"id": "copied"}
    assert (
        cli("reset", "good", "--turn", "0", "--reason", "again", "--yes").output == "good: reset\n"
    )
    assert json.loads(cli("describe", "good", "--json").output)[0]["execution"] == 2
    assert "\n  reset    to before turn 0, because: again\n" in cli("history", "good").output
    assert json.loads(cli("list", "--id-prefix", "copy", "--json").output)[0]["status"] == "running"


def test_a_signal_is_checked_by_its_type(waiting, monkeypatch):
    wrong = cli("signal", "good", "approved", "maybe", "-m", "cli_flows")
    assert wrong.exit_code == 1
    assert "the value of signal 'approved': Expected bool, got str" in wrong.output
    unknown = cli("signal", "good", "aproved", "true", "-m", "cli_flows")
    assert unknown.exit_code == 2
    assert "no signal 'aproved' in these modules; there are approved" in unknown.output
    (described,) = json.loads(cli("describe", "good", "--json").output)
    assert described["unread"] == 0
    Path("cli_texts.py").write_text(
        'from trioflow import Signal\napproved = Signal("approved", str)\n'
    )
    both = ("-m", "cli_flows", "-m", "cli_texts")
    assert "Expected bool, got array" in cli("signal", "good", "approved", "[1]", *both).output
    assert cli("signal", "good", "approved", "true", *both).exit_code == 0
    monkeypatch.setenv("TRIOFLOW_MODULES", "cli_flows")
    assert cli("signal", "held", "approved", "maybe").exit_code == 1
    assert cli("signal", "held", "another", "true").exit_code == 0
