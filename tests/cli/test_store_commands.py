"""The commands that speak to a store: what they print, and how they end."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from rich.console import Console

from trioflow import JsonCodec, Registry, WrappedCodec, default_registry, open_client, open_worker
from trioflow._cli import looking, output, speaking
from trioflow._cli.app import app
from trioflow._cli.speaking import start
from trioflow._cli.values import MOMENT, MOMENT_AHEAD, json_or_text

STORE = "sqlite:///shop.db"
FLOWS = """
import trio
from trioflow import Query, Signal, Update, activity, set_attributes, workflow

approved = Signal("approved", bool)
add = Update("add", argument=int, result=int)
size = Query("size", result=int)

@activity(name="cli_charge")
async def charge(order: str, amount: int) -> str:
    if amount < 0:
        raise RuntimeError("below\\x1b[31m zero")
    return f"receipt of {order}"

@activity(name="cli_pack")
async def pack(order: str) -> None:
    await trio.sleep_forever()

@workflow(name="cli_order")
async def order(order: str, amount: int = 3) -> str:
    items: list[int] = []
    size.handler(lambda: len(items))
    @add.handler
    async def _(item: int) -> int:
        items.append(item)
        return len(items)
    set_attributes(amount=amount)
    receipt = await charge.options(retry=once)(order, amount)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pack, order)
        with trio.move_on_after(86400):
            await approved.receive()
        nursery.cancel_scope.cancel()
    return receipt

from trioflow import RetryPolicy
once = RetryPolicy(max_attempts=1)
"""


def cli(*arguments: str, **options):
    return CliRunner().invoke(app, arguments, catch_exceptions=False, **options)


async def packing(client):
    """Wait until the instance that runs does what it goes on doing."""
    seen = client.backend.changes()
    while [each.activity for each in (await client.handle("good").describe()).activities] != [
        "cli_pack"
    ]:
        await client.wait_change(seen)
        seen = client.backend.changes()


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A store with a running, a failed and a paused instance; `shop(*commands)` runs a worker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(default_registry, "_workflows", dict(Registry()._workflows))
    monkeypatch.setattr(default_registry, "_activities", {})
    monkeypatch.setenv("TRIOFLOW_STORE", STORE)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    Path("cli_flows.py").write_text(FLOWS)
    for id_, *rest in (("good", "a"), ("bad", "b", "amount=-1"), ("held", "c", "7")):
        started = cli("start", "cli_order", *rest, "-m", "cli_flows", "--id", id_)
        assert started.output == f"{id_}\n"

    def with_worker(*commands: tuple[str, ...]) -> list:
        results = []

        async def main():
            async with open_worker(STORE, drain=0) as worker:
                await worker.client.handle("bad").wait()
                await packing(worker.client)
                for command in commands:
                    result = await trio.to_thread.run_sync(lambda c=command: cli(*c))
                    results.append(result)

        trio.run(main)
        return results

    yield with_worker
    sys.modules.pop("cli_flows", None)


def test_what_is_in_a_store_is_listed_counted_and_described(shop):
    shop(("pause", "held", "--reason", "for the audit"))
    found = json.loads(cli("list", "--json").output)
    assert [one["id"] for one in found] == ["held", "bad", "good"]
    assert [one["status"] for one in found] == ["suspended", "failed", "running"]
    header, held, bad, good = cli("list").output.splitlines()
    assert header.split() == ["ID", "WORKFLOW", "STATUS", "QUEUE", "STARTED", "DETAIL"]
    assert held.endswith("Z  paused: for the audit")
    assert bad.endswith(r"Z  RuntimeError: below\x1b[31m zero")  # shown, not obeyed
    assert good.split()[:4] == ["good", "cli_order", "running", "default"]

    def ids(*options: str) -> list[str]:
        return [one["id"] for one in json.loads(cli("list", *options, "--json").output)]

    assert ids("--status", "failed", "--status", "suspended") == ["held", "bad"]
    assert ids("--where", "amount>=3", "--root", "--since", "1h") == ["held", "good"]
    assert ids("--where", "amount=7", "--workflow", "cli_order", "--queue", "default") == ["held"]
    assert ids("--until", "1h") == ids("--parent", "good") == ids("--id-prefix", "x") == []
    page = cli("list", "--limit", "2")
    assert page.stderr == "There may be more: --after bad\n"
    assert ids("--after", "bad") == ["good"]

    assert cli("count", "--status", "running").output == "1\n"
    assert json.loads(cli("count", "--by", "attribute:amount", "--json").output) == {
        "-1": 1,
        "3": 1,
        "7": 1,
    }
    assert cli("count", "--by", "workflow").output == "WORKFLOW   COUNT\ncli_order  3\n"
    assert json.loads(cli("stats", "--json").output)[0]["suspended"] == 1
    assert cli("stats").output.startswith("QUEUE    RUNNING  SUSPENDED  PENDING INSTANCES")
    assert cli("workers").output.startswith("NAME")
    assert json.loads(cli("workers", "--json").output) == []

    said = cli("describe", "bad", "held").output
    assert 'input         {"order":"b","amount":-1}\n' in said
    assert "failure       RuntimeError: below\\x1b[31m zero\n" in said
    assert "cli_flows.py" in said  # the traceback
    assert '"reason":"for the audit"' in said
    assert [one["turns"] for one in json.loads(cli("describe", "bad", "--json").output)] == [2]


def test_workers_are_shown_with_what_they_serve_and_hold(shop):
    table, array = shop(("workers",), ("workers", "--json"))
    (one,) = json.loads(array.output)
    assert (one["queues"], one["alive"], one["activities"]) == (["default"], True, 2)
    heading, row = table.output.splitlines()
    assert heading.split()[:5] == ["NAME", "ID", "STATE", "QUEUES", "HOLDS"]
    assert row.split()[1:7] == [one["id"], "alive", "default", "2", "+", "2"]
    assert row.endswith(one["version"])
    assert "15 s" in row


def test_workers_that_are_dead_or_say_nothing_are_shown_as_that(shop):
    async def main():
        async with open_client(STORE) as client:
            register = client.backend.register_worker
            await register("w1", "late", queues=["a", "b"], activity_queues=["c"], lease=-1.0)
            await register("w2", "for ever")

    trio.run(main)
    _, for_ever, late = cli("workers").output.splitlines()
    assert "  w2  alive  (none)  " in for_ever
    assert "  w1  dead   a, b; activities: c  0 + 0  " in late


def test_the_tree_of_tasks_comes_from_a_worker_or_is_replayed_here(shop):
    asked, as_json, while_replayed = shop(
        ("show", "good"), ("show", "good", "--json"), ("show", "good", "-m", "cli_flows")
    )
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    tree = (
        rf"good cli_order running, started {time}\n"
        rf"└── cli_order waits for signal 'approved', since {time}, until {time}  "
        r"cli_flows\.py:\d+\n"
        rf"    └── cli_flows\.pack waits for activity 'cli_pack' \(0\.0:0\), since {time}\n"
        r"activity    cli_pack \(0\.0:0\), on default, attempt 1 runs\n"
    )
    assert re.fullmatch(tree, asked.output)
    assert while_replayed.output == asked.output
    tasks = json.loads(as_json.output)["tasks"]
    assert [(task["path"], task["parent"]) for task in tasks] == [("0", None), ("0.0", "0")]

    alone = cli("show", "good", "--timeout", "0.01")
    assert "no worker has answered a query of instance 'good'" in alone.output
    assert "--module MODULE" in alone.output
    assert "result" not in alone.output
    failed = r"failure     RuntimeError: below\x1b[31m zero"
    awaited = FLOWS[: FLOWS.index("await charge.options")].count("\n") + 1
    raised = f"raised at   cli_flows.py:{awaited}, in order"
    assert f"{failed}\n{raised}\n" in cli("show", "bad").output
    cli("start", "cli_order", "d", "-m", "cli_flows", "--id", "new")
    assert "It has not begun." in cli("show", "new").output


def test_limits_are_shown_also_to_who_waits_for_one(shop):
    assert cli("limits").stdout.splitlines()[1:] == []

    async def limit() -> None:
        async with open_client(STORE) as client:
            await client.set_limit(workflow="cli_order", concurrency=2)
            await client.set_limit(queue="mail", rate=5, per=0.5, key="to", key_concurrency=1)

    trio.run(limit)
    heading, *rows = cli("limits").stdout.splitlines()
    assert re.split(" {2,}", heading) == [
        "OF",
        "NAME",
        "AT ONCE",
        "RATE",
        "BY ARGUMENT",
        "OF ONE VALUE",
    ]
    assert [row.split() for row in rows] == [
        ["queue", "mail", "5", "in", "0.5", "s", "to", "1"],
        ["workflow", "cli_order", "2"],
    ]
    assert [one["name"] for one in json.loads(cli("limits", "--json").stdout)] == [
        "mail",
        "cli_order",
    ]
    cli("start", "cli_order", "d", "-m", "cli_flows", "--id", "new")
    assert "it may wait for the limit of its workflow, 2 at once" in cli("show", "new").output


def test_why_one_is_suspended_is_shown_once(shop):
    shop(("query", "good", "size"))
    Path("cli_flows.py").write_text(
        FLOWS.replace("await charge.options", "await pack(order); x = charge.options")
    )
    del sys.modules["cli_flows"]
    default_registry._workflows.pop("cli_order")
    default_registry._activities.clear()
    cli("show", "good", "-m", "cli_flows")

    async def main():
        async with open_worker(STORE, drain=0) as worker:
            handle = worker.client.handle("good")
            await handle.signal("approved", True)
            seen = worker.client.backend.changes()
            while (await handle.describe()).status != "suspended":
                await worker.client.wait_change(seen)
                seen = worker.client.backend.changes()
            return [
                await trio.to_thread.run_sync(lambda c=c: cli("show", "good", *c).output)
                for c in ((), ("-m", "cli_flows"))
            ]

    asked, replayed = trio.run(main)
    (first,) = re.findall(r"^suspended +\w+: (.*)$", asked, re.MULTILINE)
    assert asked.count(first) == replayed.count(first) == 1
    assert "'good' is suspended. With --module MODULE" in asked


def test_the_tree_is_drawn_again_until_the_end(shop, monkeypatch):
    drawn = threading.Event()

    def print_(*args, **options):
        printed(*args, **options)
        drawn.set()

    printed = looking._print
    monkeypatch.setattr(looking, "_print", print_)

    async def main():
        async with open_worker(STORE, drain=0) as worker, trio.open_nursery() as nursery:
            await packing(worker.client)
            shown: list[str] = []

            async def run():
                follow = ("show", "good", "--follow")
                shown.append((await trio.to_thread.run_sync(lambda: cli(*follow))).output)

            nursery.start_soon(run)
            await trio.to_thread.run_sync(drawn.wait)
            await worker.client.handle("good").signal("approved", True)
        return shown[0]

    whole = trio.run(main)
    assert whole.startswith("good cli_order running, ")
    assert "waits for signal 'approved'" in whole
    assert "good cli_order completed, " in whole
    assert whole.endswith('result      "receipt of a"\n')


def test_histories_are_decoded_followed_and_exported(shop):
    def follow() -> str:
        return cli("history", "good", "--follow").output

    async def main():
        async with open_worker(STORE, drain=0) as worker, trio.open_nursery() as nursery:
            await packing(worker.client)
            shown: list[str] = []

            async def run():
                shown.append(await trio.to_thread.run_sync(follow))

            nursery.start_soon(run)
            handle = worker.client.handle("good")
            await handle.signal("approved", True)
            assert await handle.result() == "receipt of a"
        return shown[0]

    whole = trio.run(main)
    assert whole == cli("history", "good").output
    lines = re.sub(r"  \d{4}-\S+ \S+Z", "", whole).splitlines()
    assert lines[:3] == [
        "turn 0",
        '  event    started cli_order {"order":"a"}',
        '  command  run activity cli_charge (0:0) {"order":"a","amount":3}',
    ]
    assert "  event    signal received approved true" in lines
    assert lines[-1] == '  outcome  completed "receipt of a"'
    grepped = cli("history", "good", "--grep", "signal").output.splitlines()
    assert grepped[1:] == ["  event    signal received approved true"]
    turns = [json.loads(line) for line in cli("history", "good", "--json").output.splitlines()]
    assert [turn["turn"] for turn in turns] == [*range(len(turns))]
    assert turns[0]["events"][0]["input"] == {"order": "a"}
    assert cli("history", "good", "--execution", "2").output == ""

    told = json.loads(cli("export", "good", "good.json", "--json").output)
    assert (told["file"], told["turns"] > 1) == ("good.json", True)
    wrote = cli("export", "good", "good.json")
    assert wrote.output == f"Wrote {len(turns)} turns of good to good.json.\n"
    assert cli("replay", "good.json", "cli_flows").exit_code == 0


def test_values_go_in_and_out(shop):
    results = shop(
        ("query", "good", "size"),
        ("update", "good", "add", "5"),
        ("update", "good", "add", "5", "--request", "r1"),
        ("update", "good", "add", "5", "--request", "r1"),
        ("query", "good", "size"),
        ("signal", "good", "approved", "true"),
        ("result", "good"),
        ("start", "cli_order", "x", "-m", "cli_flows", "--id", "later", "--at", "2999-01-01"),
        ("start", "cli_order", "x", "-1", "-m", "cli_flows", "--wait"),
    )
    said = [result.stdout for result in results[:-1]]
    assert said == [
        "0\n",
        "1\n",
        "2\n",
        "2\n",
        "2\n",
        "good: signal sent\n",
        '"receipt of a"\n',
        "later\n",
    ]
    assert results[-1].exit_code == 2  # -1 is no option
    failed = cli("result", "bad")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert failed.stderr == "Error: RuntimeError: below\\x1b[31m zero\n"
    assert "cli_flows.py" in cli("result", "bad", "--traceback").stderr


@pytest.mark.parametrize("command", [("result", "held"), ("update", "held", "add", "5")])
def test_who_waits_for_a_suspended_instance_is_told_so(shop, monkeypatch, command):
    shop()
    cli("pause", "held")
    told = []

    def tell(text: str, **options: bool) -> None:
        told.append(text)
        if len(told) == 1:
            end = threading.Thread(target=cli, args=("terminate", "held", "--yes"))
            end.start()
            end.join()

    with monkeypatch.context() as waiting:
        waiting.setattr(speaking.click, "echo", tell)
        CliRunner().invoke(app, command)
    why = "`trioflow show held` says why"
    assert told[0] == f"held is suspended, so this waits until it is resumed or ended; {why}"
    assert json.loads(cli("describe", "held", "--json").stdout)[0]["status"] == "terminated"


def test_arguments_are_of_the_types_of_their_parameters(shop):
    shop()
    for text, order in {"4711": "4711", "true": "true", '"4711"': "4711"}.items():
        id_ = cli("start", "cli_order", text, "-m", "cli_flows").stdout.strip()
        (started,) = json.loads(cli("describe", id_, "--json").stdout)
        assert started["input"] == {"order": order}
    for given, why in {
        (): "cli_order() missing a required argument: 'order'",
        ("null",): "cli_order() argument 'order': Expected str, got null",
        ("a", "many"): "cli_order() argument 'amount': Expected int, got str",
    }.items():
        refused = cli("start", "cli_order", *given, "-m", "cli_flows")
        assert (refused.exit_code, refused.stderr) == (1, f"Error: {why}\n")


def test_what_begins_like_json_and_is_none_is_refused(shop):
    shop()
    for text, why in {
        "{bad": "object keys must be strings (byte 1)",
        ' {"a": 1': "it is not complete",
        '"good" and more': "trailing characters (byte 8)",
    }.items():
        for command in (
            ("signal", "good", "approved", text),
            ("update", "good", "add", text),
            ("query", "good", "size", text),
            ("start", "cli_order", f"order={text}", "-m", "cli_flows"),
            ("list", "--where", f"customer={text}"),
        ):
            refused = cli(*command)
            assert refused.exit_code == 2, command
            assert f"begins like JSON, and is none: {why}." in refused.stderr


def test_other_texts_need_no_quotes():
    assert json_or_text("ann") == "ann"
    assert json_or_text("12:30") == "12:30"
    assert json_or_text('"[draft] hello"') == "[draft] hello"


def test_what_is_asked_of_instances_is_done_or_refused_in_one_line(shop):
    shop()
    assert cli("cancel", "held", "--reason", "no more").output == "held: cancel requested\n"
    assert cli("terminate", "good", input="n\n").exit_code == 1  # asks
    assert cli("terminate", "good", "--yes").output == "good: terminated\n"
    some = cli("remove", "--yes", "good", "held", "nobody")
    assert some.stdout == "good: removed\n"
    assert some.stderr.splitlines() == [
        "Error: instance 'held' has not finished: cancel or terminate it first",
        "Error: there is no instance 'nobody'",
        "Error: 2 of 3 instances were left as they are",
    ]
    assert some.exit_code == 1
    assert cli("resume", "bad").stderr == "Error: instance 'bad' has already finished\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["show", "nobody"], 4, "Error: there is no instance 'nobody'\n"),
        (["list", "--store", "sqlite:///other.db"], 3, "there is no file 'other.db'"),
        (["list", "--store", "oracle://x"], 2, "unknown scheme 'oracle'"),
        (["list", "--store", "memory://"], 2, "belongs to one process"),
        (["list", "--store", ""], 2, "set TRIOFLOW_STORE"),
        (["list", "--status", "broken"], 2, "'broken' is not one of"),
        (["list", "--since", "soon"], 2, "'soon' is no time"),
        (["list", "--where", "amount"], 2, "write customer=c7"),
        (["list", "--where", "a>>3"], 2, "'>3' is no number and no time; write amount>=10"),
        (["move", STORE, STORE], 2, "FROM and TO are the same store"),
        (["schedules", "pause", "nope"], 4, "Error: there is no such schedule, 'nope'\n"),
        (["update", "held", "no", "5", "--timeout", "0.01"], 1, "The request is stored as"),
        (["list", "--root", "--parent", "x"], 2, "has a parent or it has none"),
        (["list", "--after", "nobody"], 4, "there is no instance 'nobody'"),
        (["list", "--codec", "no.such:thing"], 2, "No module named 'no'"),
        (["count", "--by", "colour"], 2, "write status, workflow, queue or attribute:NAME"),
        (["start", "nothing", "-m", "cli_flows"], 2, "there is no workflow 'nothing'"),
        (["start", "cli_order", "a", "b", "c", "-m", "cli_flows"], 1, "none is left for 'c'"),
        (["start", "cli_order", "a", "x", "-m", "cli_flows"], 1, "Expected int, got str"),
        (["start", "cli_order", "a", "--id", "held", "-m", "cli_flows"], 1, "already an instance"),
        (["signal", "held", "approved\0"], 1, "signal"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(shop, arguments, code, says):
    result = cli(*arguments)
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert result.exit_code == code


def test_a_codec_reads_what_the_workers_have_written(shop, monkeypatch):
    codec = WrappedCodec(
        JsonCodec(), wrap=(lambda data: data[::-1]), unwrap=lambda data: data[::-1]
    )
    monkeypatch.setattr(sys.modules["cli_flows"], "sealed", codec, raising=False)

    async def main():
        async with open_client(STORE, codec=codec) as client:
            workflow = default_registry.workflows["cli_order"]
            await client.start(workflow.options(id="sealed"), "secret")

    trio.run(main)
    assert "secret" not in cli("describe", "sealed").output
    assert '{"order":"secret"}' in cli("describe", "sealed", "--codec", "cli_flows:sealed").output


def test_tables_fit_the_terminal_and_pipes_get_all(monkeypatch, capsys):
    rows = [("i" * 30, "running", "x" * 100)]
    output.print_table(("ID", "STATUS", "DETAIL"), rows)
    assert capsys.readouterr().out.splitlines()[1] == f"{'i' * 30}  running  {'x' * 100}"
    terminal = Console(force_terminal=True, width=50, soft_wrap=True, color_system="standard")
    monkeypatch.setattr(output, "console", lambda: terminal)
    output.print_table(("ID", "STATUS", "DETAIL"), rows)
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) == 50
    assert lines[1].startswith(f"{'i' * 30}  running  xxx")
    assert lines[1].endswith("x…")


def test_shells_complete_commands_and_ids(shop):
    def complete(words: str, number: int) -> list[str]:
        env = {
            "_TRIOFLOW_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(number),
        }
        result = CliRunner().invoke(app, [], prog_name="trioflow", env=env)
        return [line.partition(",")[2] for line in result.output.splitlines()]

    assert complete("trioflow desc", 1) == ["describe"]
    assert complete("trioflow show h", 2) == ["held"]
    assert "_TRIOFLOW_COMPLETE=bash_complete" in cli("completion", "bash").output


def test_a_span_is_of_the_past_where_one_looks_and_ahead_where_one_starts():
    before = time.time()
    assert MOMENT.convert("2h", None, None) <= time.time() - 7200
    assert MOMENT_AHEAD.convert("2h", None, None) >= before + 7200
    (at,) = [option for option in start.params if option.name == "start_at"]
    assert at.type.convert("1d", None, None) > before
