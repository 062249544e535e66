"""Histories in files: replayed, stepped through, compared with changed code."""

from __future__ import annotations

import io
import pdb  # noqa: T100 - what is tested
import sys

import msgspec
import pytest
import trio

from trioflow import Registry, Signal
from trioflow.errors import TrioflowError
from trioflow.testing import (
    Replay,
    ReplayError,
    check_replay,
    export_history,
    load_history,
    open_tester,
)

flows = Registry()
go = Signal("go", int)


@flows.activity
async def charge(number: int) -> int:
    return number


async def old(number: int) -> int:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(charge, number)
        with trio.fail_after(100):
            return await go.receive()
    raise AssertionError


async def new(number: int) -> int:
    value = await go.receive()
    await charge(number)
    return value


workflow = flows.workflow(name="changing")(old)
changed = Registry().workflow(name="changing")(new)


@pytest.fixture
def file(tmp_path):
    async def main():
        async with open_tester(registry=flows) as tester:
            handle = await tester.start(workflow.options(id="order-7"), 3)
            await tester.sleep(5)
            await handle.signal(go, 4)
            assert await handle.result() == 4
            (await export_history(handle)).save(tmp_path / "history.json")

    trio.run(main)
    return tmp_path / "history.json"


def test_a_history_replays_from_its_file(file):
    check_replay(file, workflow)
    check_replay(str(file), workflow)
    check_replay(file.read_bytes(), workflow)


def test_changed_code_is_found_with_its_place(file):
    with pytest.raises(ReplayError, match="order-7") as caught:
        check_replay(file, changed)
    assert caught.value.report.kind == "diverged"
    assert "charge" in caught.value.report.recorded
    assert isinstance(caught.value, AssertionError)


def test_stepping_shows_the_tasks_after_each_turn(file):
    with Replay(file, workflow) as replay:
        replay.step()
        tasks = {task.path: task for task in replay.tasks()}
        assert tasks["0"].waits_for == "signal 'go'"
        assert tasks["0"].until == pytest.approx(replay.turns[0].now + 100)
        assert tasks["0"].parent is None
        assert tasks["0.0"].waits_for == "activity 'charge' (0.0:0)"
        assert tasks["0.0"].parent == "0"
        assert "test_replay.py:" in tasks["0"].line
        for _ in replay:
            pass
        assert replay.tasks() == []
        assert replay.position == len(replay.turns)


def test_a_breakpoint_at_a_turn(file, monkeypatch):
    stops = []
    monkeypatch.setattr("builtins.breakpoint", lambda: stops.append(1))
    check_replay(file, workflow, breakpoint_at=1)
    assert len(stops) == 1


def test_the_debugger_stops_in_the_code_of_a_task(file):
    stops = []

    def debugger(frame):
        stops.append((frame.f_code.co_name, frame.f_locals.get("number")))

    with Replay(file, workflow) as replay:
        turn = replay.debug(debugger=debugger)
        assert turn is replay.turns[0]
        assert stops == [("old", 3)]
        assert replay.position == 1
        assert replay.debug(turn=len(replay.turns) - 1, task="0", debugger=debugger) is not None
        assert stops[1:] == [("old", 3)]
    with Replay(file, workflow) as replay:
        assert replay.debug(task="0.7", debugger=debugger) is None
        assert replay.position == len(replay.turns)
    assert len(stops) == 2


def test_pdb_works_in_the_code_of_a_workflow(file):
    told = io.StringIO()
    commands = io.StringIO("p 40 + number - 1\nnext\nwhere\ncontinue\n")
    debugger = pdb.Pdb(stdin=commands, stdout=told, nosigint=True, readrc=False)
    tracing = sys.gettrace()
    try:
        with Replay(file, workflow) as replay:
            assert replay.debug(task="0", debugger=debugger.set_trace) is replay.turns[0]
    finally:
        sys.settrace(tracing)
    assert "(Pdb) 42\n" in told.getvalue()
    assert "test_replay.py" in told.getvalue()
    assert "trio.open_nursery()" in told.getvalue()


def test_check_replay_stops_in_a_task(file, monkeypatch):
    stops = []

    class Debugger:
        def set_trace(self, frame):
            stops.append(frame.f_code.co_name)

    monkeypatch.setattr("trioflow.testing.debugging.pdb.Pdb", Debugger)
    check_replay(file, workflow, breakpoint_task="0")
    check_replay(file, workflow, breakpoint_at=1, breakpoint_task="0.9")  # which never runs
    assert stops == ["old"]


def test_a_turn_and_its_tasks_as_text(file):
    with Replay(file, workflow) as replay:
        assert replay.show() == "no turn was made yet"
        replay.step()
        told = replay.show()
        assert told.startswith("turn 0 of ")
        assert "  event started changing" in told
        assert "  command run activity charge 0.0:0" in told
        assert "  task 0 changing waits for signal 'go', at " in told
        for _ in replay:
            pass
        assert "  outcome completed" in replay.show()


def test_a_file_is_kept_readable_and_has_a_version(file):
    text = file.read_text()
    assert '"format": 1' in text
    assert "activity completed" in text
    assert load_history(file).id == "order-7"


def test_a_newer_format_is_refused(file):
    data = msgspec.json.decode(file.read_bytes())
    data["format"] = 2
    with pytest.raises(TrioflowError, match="has format 2"):
        load_history(msgspec.json.encode(data))


def test_what_is_no_history_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("[1, 2]")
    with pytest.raises(TrioflowError, match="is no history"):
        load_history(tmp_path / "x.json")


def test_an_execution_that_is_not_there(file):
    with pytest.raises(TrioflowError, match="has no execution 5; it has 1"):
        Replay(file, workflow, execution=5)


@pytest.mark.parametrize("replayed", [check_replay, Replay])
def test_the_history_of_another_workflow_is_refused(file, replayed):
    @Registry().workflow
    async def cart(user: str) -> None:
        pass

    with pytest.raises(TrioflowError, match="this history is of workflow 'changing', not 'cart'"):
        replayed(file, cart)
