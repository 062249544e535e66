"""The commands that reach all that filters mean; troubles; and bringing a schema up to date."""

from __future__ import annotations

import json
import sqlite3
from contextlib import nullcontext

import pytest
import trio
from click.testing import CliRunner

from trioflow import Registry, SharedLock, open_client, open_worker
from trioflow._cli.app import app
from trioflow.backends.commits import ActivityRetry, InstanceCommit, NewActivity, NewInstance, Unit
from trioflow.backends.records import ActivityKey
from trioflow.backends.sqlite import schema as sqlite_schema
from trioflow.backends.sqlite.backend import SqliteBackend

STORE = "sqlite:///flow.db"
FAILURE = b'{"type":"ValueError","message":"no such card"}'


def cli(*arguments: str, **options):
    return CliRunner().invoke(app, arguments, catch_exceptions=False, **options)


def in_store(work):
    async def main():
        async with open_client(STORE, registry=Registry()) as client:
            return await work(client)

    return trio.run(main)


def statuses():
    return json.loads(cli("count", "--by", "status", "--json").output)


@pytest.fixture
def flows(tmp_path, monkeypatch):
    """A store with six instances of two workflows; nobody runs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIOFLOW_STORE", STORE)

    async def fill(client):
        for number in range(6):
            name = "even" if number % 2 == 0 else "odd"
            new = NewInstance(f"i{number}", name, "default", b"{}", life=f"life{number}")
            assert await client.backend.create([new]) == [True]

    in_store(fill)


def test_filters_say_who_is_meant_and_it_asks(flows):
    refused = cli("terminate", "--workflow", "odd", input="n\n")
    assert refused.exit_code == 1
    assert "Terminate 3 instances?" in refused.stderr
    assert statuses() == {"running": 6}
    assert cli("pause", "--workflow", "odd", input="y\n").stdout == "3 instances: paused\n"
    assert cli("resume", "--id-prefix", "i1", "--yes").stdout == "1 instance: resumed\n"
    assert cli("resume", "i1").stdout == "i1: is not suspended\n"
    assert statuses() == {"running": 4, "suspended": 2}
    said = cli("terminate", "--trouble", "suspended", "--yes", "--reason", "old").stdout
    assert said == "2 instances: terminated\n"
    assert cli("cancel", "--status", "running", "--yes").stdout == "4 instances: cancel requested\n"
    assert statuses() == {"cancelled": 4, "terminated": 2}
    assert cli("remove", "--status", "cancelled", "--yes").stdout == "4 instances: removed\n"
    assert cli("remove", "--ended-until", "0s", "--yes").stdout == "2 instances: removed\n"
    assert statuses() == {}


def as_json(*arguments):
    return json.loads(cli(*arguments, "--json").stdout)


def test_what_was_done_can_be_had_as_json(flows):
    none = {"done": 0, "passed": 0, "refused": {}}
    assert as_json("pause", "--workflow", "odd", "--dry-run") == {"meant": 3, **none}
    assert as_json("pause", "--workflow", "none") == {"meant": 0, **none}
    assert as_json("pause", "--workflow", "odd", "--yes") == {"meant": 3, **none, "done": 3}
    assert as_json("resume", "i1", "i3") == [
        {"id": "i1", "done": True, "error": None},
        {"id": "i3", "done": True, "error": None},
    ]
    assert as_json("retry-now", "i0") == [{"id": "i0", "done": False, "error": None}]
    two = cli("terminate", "i9", "i5", "--yes", "--json")
    refused, done = json.loads(two.stdout)
    assert (two.exit_code, done) == (1, {"id": "i5", "done": True, "error": None})
    assert (refused["id"], refused["done"]) == ("i9", False)
    assert "no instance 'i9'" in refused["error"]
    gone = cli("terminate", "i9", "--yes", "--json")
    assert (gone.exit_code, gone.stdout) == (4, "")
    assert as_json("signal", "i1", "go") == [{"id": "i1", "done": True, "error": None}]
    assert as_json("signal", "go", "--workflow", "even", "--yes") == {"meant": 3, **none, "done": 3}


@pytest.mark.parametrize(
    "command", ["cancel", "terminate", "pause", "resume", "retry-now", "remove"]
)
def test_a_dry_run_only_counts(flows, command):
    in_store(lambda client: client.pause(id_prefix="i1"))
    in_store(lambda client: client.handle("i3").terminate())
    before = statuses()
    number = {"pause": 4, "resume": 1, "remove": 1}.get(command, 5)
    said = cli(command, "--id-prefix", "i", "--dry-run").stdout
    noun = "instance" if number == 1 else "instances"
    assert said == f"{number} {noun}; nothing was done\n"
    assert cli(command, "--workflow", "none").stdout == "0 instances; nothing was done\n"
    assert statuses() == before


def test_a_signal_reaches_all_that_are_meant(flows):
    said = cli("signal", "go", "7", "--workflow", "even", "--yes").stdout
    assert said == "3 instances: signal sent\n"
    assert cli("signal", "i1", "go").stdout == "i1: signal sent\n"
    found = json.loads(cli("list", "--json").output)
    assert [one["unread"] for one in reversed(found)] == [1, 1, 1, 0, 1, 0]
    for wrong in (
        ("go",),
        ("i1", "go", "7", "8"),
        ("i1", "go", "7", "--workflow", "even"),
        ("i1", "go", "--dry-run"),
    ):
        assert cli("signal", *wrong).exit_code == 2, wrong


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cancel",), "which instances?"),
        (("cancel", "i1", "--workflow", "odd"), "not both"),
        (("cancel", "i1", "--dry-run"), "not both"),
        (("resume", "--status", "running"), "nothing is done to instances that are running"),
        (("pause", "--status", "failed"), "nothing is done to instances that have ended"),
        (("remove", "--trouble", "held"), "what has ended is in no trouble"),
        (("list", "--trouble", "late"), "'late' is not one of"),
        (("list", "--trouble-after", "5s"), "give --trouble, too"),
        (("list", "--trouble", "overdue", "--trouble-after", "soon"), "write 30s, 5m or 2h"),
    ],
)
def test_what_cannot_be_meant_is_refused(flows, arguments, said):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert statuses() == {"running": 6}


async def retried(client):
    backend = client.backend
    await backend.register_worker("w", "w", queues=["default"], activity_queues=["default"])
    (taken,) = (await backend.take_instances("w", ["default"], 1)).instances
    called = NewActivity("0:0", "charge", "default", b"{}", leased=True)
    turn = InstanceCommit(
        id=taken.id, execution=1, number=0, life=taken.life, turns=[b"{}"], activities=[called]
    )
    assert await backend.commit("w", [Unit(instances=[turn])]) == [None]
    key = ActivityKey(taken.id, 1, "0:0", taken.life)
    again = ActivityRetry(key, 4, backend.now() + 3600, FAILURE)
    assert await backend.commit("w", [Unit(retries=[again])]) == [None]


def test_what_is_in_trouble_is_counted_and_listed(flows):
    in_store(retried)
    in_store(lambda client: client.handle("i5").pause())
    counted = json.loads(cli("troubles", "--trouble-after", "0", "--json").output)
    expected = {"retrying": 1, "unserved": 0, "overdue": 4, "suspended": 1, "held": 0}
    assert counted == expected
    heading, retrying, *_ = cli("troubles").output.splitlines()
    assert heading.split() == ["TROUBLE", "INSTANCES"]
    assert retrying.split() == ["retrying", "1"]
    _, row = cli("list", "--trouble", "retrying").output.splitlines()
    assert row.split()[0] == "i0"
    assert row.endswith("charge, attempt 4 is next; last: ValueError: no such card")
    overdue = json.loads(
        cli("list", "--trouble", "overdue", "--trouble-after", "0s", "--json").output
    )
    assert [one["id"] for one in overdue] == ["i4", "i3", "i2", "i1"]
    assert cli("count", "--trouble", "suspended").output == "1\n"
    assert cli("retry-now", "--trouble", "retrying", "--yes").stdout == (
        "1 instance: tried again now\n"
    )
    assert cli("retry-now", "i0").stdout == "i0: nothing was waiting\n"


def test_a_schema_is_made_and_brought_up_to_date(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIOFLOW_STORE", STORE)
    missing = cli("migrate", "--check")
    assert (missing.exit_code, missing.stderr) == (
        1,
        "Error: there is no file 'flow.db' yet; trioflow migrate makes it\n",
    )
    now = sqlite_schema._MIGRATIONS
    latest, old = now[-1][0], now[1][0]
    with monkeypatch.context() as earlier:
        earlier.setattr(sqlite_schema, "_MIGRATIONS", now[:2])
        assert cli("migrate").output == f"made {old}\n"
    needed = cli("migrate", "--check")
    said = f"Error: it has {old}, and {latest} is needed: run trioflow migrate\n"
    assert (needed.exit_code, needed.stderr) == (1, said)
    assert cli("migrate", "--check").exit_code == 1
    assert cli("migrate").output == f"migrated from {old} to {latest}\n"
    for arguments in (("migrate",), ("migrate", "--check")):
        assert cli(*arguments).output == f"the schema is up to date: {latest}\n"
        assert as_json(*arguments) == {"before": latest, "after": latest}


def test_an_empty_file_has_no_schema(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sqlite3.connect("flow.db").close()
    found = cli("migrate", "--check", "--store", STORE)
    assert (found.exit_code, "there is no schema yet" in found.stderr) == (1, True)
    state = trio.run(SqliteBackend("flow.db").schema_state)
    assert (state.stored, state.is_latest) == (None, False)


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["postgres", "mariadb", "redis"])
def test_schemas_of_servers_are_brought_up_to_date(kind, servers, monkeypatch):
    url = servers.url(kind)
    if kind == "redis":
        url += ("&" if "?" in url else "?") + "prefix=migrated"
    elif kind == "postgres":
        url += ("&" if "?" in url else "?") + "schema=migrated"
    else:
        url += "&prefix=migrated_"
    monkeypatch.setenv("TRIOFLOW_STORE", url)
    needed = cli("migrate", "--check")
    assert (needed.exit_code, "there is no schema yet" in needed.stderr) == (1, True)
    assert cli("migrate", "--check").exit_code == 1
    assert cli("migrate").output.startswith("made ")
    assert cli("migrate", "--check").output.startswith("the schema is up to date: ")


def test_all_that_have_failed_are_reset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIOFLOW_STORE", STORE)
    registry = Registry()

    @registry.workflow
    async def holds(holding: bool) -> None:
        async with SharedLock("door") if holding else nullcontext():
            raise ValueError("broken")

    @registry.workflow
    async def works() -> None: ...

    async def fail():
        async with open_worker(STORE, registry=registry) as worker:
            for number in range(3):
                id = f"h{number}"
                handle = await worker.client.start(holds.options(id=id), number == 0)
                await handle.wait(status="failed")
            await worker.client.run(works)

    trio.run(fail)
    assert statuses() == {"failed": 3, "completed": 1}
    assert cli("reset", "--workflow", "holds", "--dry-run").output == (
        "3 instances; nothing was done\n"
    )
    asked = cli("reset", "--workflow", "holds", input="n\n")
    assert "Reset 3 instances?" in asked.stderr
    one_turn = cli("reset", "--workflow", "holds", "--turn", "0", "--yes")
    assert (one_turn.exit_code, statuses()["failed"]) == (2, 3)
    assert "--turn: give the ids of the instances" in one_turn.stderr
    others = cli("reset", "--status", "completed")
    assert "nothing is done to instances that are completed" in others.stderr
    done = cli("reset", "--workflow", "holds", "--reason", "mended", "--yes")
    assert (done.exit_code, done.stdout) == (1, "2 instances: reset\n")
    assert "Error: h0: " in done.stderr
    assert "the lock 'door'" in done.stderr
    assert "1 instance was left as it is" in done.stderr
    assert statuses() == {"running": 2, "failed": 1, "completed": 1}
    again = cli("reset", "--status", "failed", "--yes", "--json")
    told = json.loads(again.stdout)
    assert (again.exit_code, told["meant"], told["done"]) == (1, 1, 0)
    assert "the lock 'door'" in told["refused"]["h0"]
    assert cli("reset", "h1", input="n\n").exit_code == 1


def test_what_to_do_is_said_as_a_command(flows):
    cli("pause", "i0")
    assert "`trioflow resume i0` lets it go on" in cli("show", "i0").output
    assert "`trioflow resume i0` lets it go on" in cli("describe", "i0").output
    assert (
        "handle.resume()"
        in json.loads(cli("describe", "i0", "--json").output)[0]["suspension"]["message"]
    )
