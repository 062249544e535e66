"""`trioflow replay`: an exported history with the present code."""

from __future__ import annotations

import bdb
import json
import sys
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from trioflow import default_registry
from trioflow._cli.app import app
from trioflow.testing import Replay, export_history, open_tester

SHOP = """
import trio
from trioflow import Registry, Signal, continue_as_new

flows = Registry()
go = Signal("go", str)

@flows.activity
async def charge(number: int) -> int: return number

@flows.workflow
async def order(number: int, again: bool = True) -> int:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(charge, number)
        with trio.fail_after(100):
            assert await go.receive()
    if again:
        continue_as_new(number, False)
    return number
"""


@pytest.fixture
def replay(tmp_path, monkeypatch):
    """Run `trioflow replay history.json …` where `shop_replayed.py` defines the workflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(default_registry, "_workflows", {})
    Path("shop_replayed.py").write_text(SHOP)
    namespace: dict = {}
    exec(SHOP, namespace)

    async def main():
        async with open_tester(registry=namespace["flows"]) as tester:
            handle = await tester.start(namespace["order"].options(id="order-7"), 3)
            await handle.signal(namespace["go"], "secret")
            await handle.signal(namespace["go"], "secret")
            assert await handle.result() == 3
            (await export_history(handle)).save("history.json")

    trio.run(main)

    def run(*arguments: str, code: str = SHOP):
        Path("shop_replayed.py").write_text(code)
        sys.modules.pop("shop_replayed", None)
        return CliRunner().invoke(
            app, ["replay", "history.json", *arguments], catch_exceptions=False
        )

    yield run
    sys.modules.pop("shop_replayed", None)


def test_a_history_replays(replay):
    result = replay("shop_replayed")
    assert result.output.startswith("order-7 replays: 2 executions, ")
    assert result.exit_code == 0


def test_changed_code_does_not_replay_it(replay):
    result = replay(
        "shop_replayed", code=SHOP.replace("nursery.start_soon(charge, number)", "pass")
    )
    assert result.output.startswith("order-7 does not replay\n")
    assert "charge" in result.output
    assert result.exit_code == 1


def test_each_turn_is_shown_with_its_tasks_and_without_values(replay):
    result = replay("--step", "--execution", "1", "shop_replayed")
    first, *_ = result.output.split("turn 1")
    assert "order-7, execution 1 of order\nturn 0" in first
    assert "  event    started order\n" in first
    assert "  command  run activity charge (0.0:0)\n" in first
    assert "\n  task     order waits for signal 'go', until 2026-" in first
    assert "\n  task       shop_replayed.charge waits for activity 'charge' (0.0:0)\n" in first
    assert "/shop_replayed.py:16\n" in first
    assert "outcome  continued\n" in result.output
    assert "secret" not in result.output


def test_json(replay):
    result = replay("--json", "shop_replayed")
    said = json.loads(result.output)
    assert (said["id"], said["workflow"], said["replays"]) == ("order-7", "order", True)
    assert {turn["execution"] for turn in said["turns"]} == {1, 2}
    assert said["turns"][0]["tasks"][0]["waits_for"] == "signal 'go'"
    assert said["turns"][-1]["outcome"] == "completed"
    broken = replay("--json", "shop_replayed", code=SHOP.replace("(charge, number)", "(charge, 4)"))
    said = json.loads(broken.output)
    assert said["replays"] is False
    assert said["report"]["kind"] == "diverged"
    assert broken.exit_code == 1


def test_the_debugger_stops_before_a_turn(replay, monkeypatch):
    stops = []
    monkeypatch.setattr("builtins.breakpoint", lambda: stops.append(1))
    assert replay("--break-at", "1", "shop_replayed").exit_code == 0
    assert len(stops) == 1


def test_the_debugger_is_left_without_a_traceback(replay, monkeypatch):
    def left():
        raise bdb.BdbQuit

    monkeypatch.setattr("builtins.breakpoint", left)
    result = replay("--break-at", "1", "shop_replayed")
    assert (result.exit_code, result.output) == (1, "Aborted!\n")


@pytest.mark.parametrize(
    ("arguments", "turn"),
    [(["--break-task", "0"], 0), (["--break-task", "0", "--break-at", "1"], 1)],
)
def test_the_debugger_stops_in_a_task(replay, arguments, turn, monkeypatch):
    stops = []

    class Debugger:
        def __init__(self, **_):
            pass

        def set_trace(self, frame):
            stops.append(frame.f_code.co_name)

    monkeypatch.setattr("trioflow.testing.debugging.pdb.Pdb", Debugger)
    debug, turns = Replay.debug, []

    def noting(run, **options):
        turns.append(run.position)
        return debug(run, **options)

    monkeypatch.setattr(Replay, "debug", noting)
    result = replay("--step", *arguments, "shop_replayed")
    assert (stops, turns[-1]) == (["order"], turn)
    assert result.output.count("turn 0  ") == 2  # of each execution, whether it stops there or not
    assert "order-7 replays: 2 executions, " in result.output
    assert replay("--break-task", "0.7", "shop_replayed").exit_code == 0
    assert len(stops) == 1


FAR = """
import trio
from trioflow import Registry

flows = Registry()

@flows.workflow
async def far() -> int:
    with trio.move_on_after(1e12):
        await trio.sleep(60)
    return 1
"""


def test_a_deadline_further_away_than_the_calendar_goes(replay):
    namespace: dict = {}
    exec(FAR, namespace)

    async def main():
        async with open_tester(registry=namespace["flows"]) as tester:
            handle = await tester.start(namespace["far"])
            await handle.result()
            (await export_history(handle)).save("history.json")

    trio.run(main)
    result = replay("--step", "shop_replayed", code=FAR)
    assert result.exit_code == 0


SEALED = """
from trioflow import JsonCodec, WrappedCodec

codec = WrappedCodec(JsonCodec(), lambda data: data[::-1], lambda data: data[::-1])
"""


def test_values_of_another_codec(replay):
    namespace: dict = {}
    exec(SHOP + SEALED, namespace)

    async def main():
        async with open_tester(registry=namespace["flows"], codec=namespace["codec"]) as tester:
            handle = await tester.start(namespace["order"].options(id="order-8"), 3, again=False)
            await handle.signal(namespace["go"], "secret")
            await handle.result()
            (await export_history(handle)).save("history.json")

    trio.run(main)
    sealed = ["--codec", "shop_replayed:codec", "shop_replayed"]
    result = replay(*sealed, code=SHOP + SEALED)
    assert result.output.startswith("order-8 replays: 1 execution, ")
    assert replay("shop_replayed", code=SHOP + SEALED).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no_such_module_here"], "there is no module 'no_such_module_here'"),
        (["json"], "there is no workflow 'order' in these modules; there are none"),
        (["shop_replayed.py"], "is a file; give the name of the module"),
        (["--execution", "5", "shop_replayed"], "there is no execution 5; there are [1, 2]"),
        (["--break-at", "99", "shop_replayed"], "there is no turn 99"),
        ([], "Missing argument 'MODULE...'"),
    ],
)
def test_wrong_usage(replay, arguments, said):
    result = replay(*arguments)
    assert said in result.output
    assert result.exit_code == 2


def test_an_error_in_a_module_is_not_hidden(replay):
    with pytest.raises(ModuleNotFoundError, match="no_such_module_in_it"):
        replay("shop_replayed", code="import no_such_module_in_it")


def test_what_is_no_history_is_wrong_usage(replay):
    Path("history.json").write_text("[]")
    result = replay("shop_replayed")
    assert "is no history of an instance" in result.output
    assert result.exit_code == 2
