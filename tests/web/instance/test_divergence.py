"""The report of a suspension: what is recorded beside what the code gives, with its lines."""

# mypy: ignore-errors

from __future__ import annotations

import inspect

import msgspec
import pytest
import trio

from tests.worker.flow import until_turns
from trioflow import Registry, Signal, SuspendReport, open_client, open_worker
from trioflow.backends import MemoryBackend
from trioflow.web._instance import divergence, reading

approved = Signal("approved", bool)
old, new = Registry(), Registry()


@old.activity(name="charge")
async def charge(order: str) -> str:
    return f"receipt of {order}"


@old.activity(name="pack")
async def pack(order: str) -> None:
    pass


@old.activity(name="send")
async def send(order: str) -> None:
    pass


@old.workflow(name="order")
async def order(order: str) -> None:
    await charge(order)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pack, order)
        nursery.start_soon(send, order)
    await approved.receive()


@new.activity(name="charge")
async def new_charge(order: str) -> str:
    return f"receipt of {order}"


@new.activity(name="send")
async def new_send(order: str) -> None:
    pass


@new.workflow(name="order")
async def changed(order: str) -> None:
    receipt = await new_charge(order)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(new_send, receipt)  # and nothing is packed
        nursery.start_soon(new_send, order)
    await approved.receive()


def line_of(function, text):
    """Return where a line of a function stands."""
    lines, first = inspect.getsourcelines(function.__wrapped__)
    return first + next(n for n, line in enumerate(lines) if text in line)


@pytest.fixture
def diverged(harness):
    """A client of a store with an instance that is suspended, and the view of it."""
    made = []

    class Around:
        async def __aenter__(self):
            backend = MemoryBackend()
            self.opened = open_client(backend)
            client = await self.opened.__aenter__()
            async with open_worker(backend, registry=old, drain=0) as worker:
                handle = await worker.client.start(order.options(id="o-1"), "tea")
                await until_turns(handle, 3)
            await client.handle("o-1").signal(approved, True)
            async with open_worker(backend, registry=new, drain=0) as worker:
                await worker.client.handle("o-1").wait(status="suspended")
            made.extend([client, await reading.instance_of(client, "o-1")])

        async def __aexit__(self, *exc):
            await self.opened.__aexit__(*exc)

    harness.enter(Around())
    return made


def rows_of(found):
    return [(row.id, row.recorded, row.current, row.same) for row in found.rows]


async def test_without_a_registry_the_history_stands_beside_what_the_worker_said(diverged):
    client, view = diverged
    found = await reading.suspension_of(client, view, None)
    assert (found.replay, found.turn, found.task) == ("not tried", 1, "0.0")
    assert rows_of(found) == [
        ("0.0:0", "run activity pack", "activity 'send' (0.0:0)", False),
        ("0.1:0", "run activity send", None, False),
    ]
    assert found.rows[0].recorded_value == {"order": "tea"}
    assert (found.before, found.now) == (None, None)
    assert found.report is found.stored is view.instance.suspension


@pytest.mark.host("asyncio")
async def test_pages_on_asyncio_replay_too(diverged):
    client, view = diverged
    found = await reading.suspension_of(client, view, new)
    assert found.now.line == line_of(changed, "new_send, receipt")
    told = await reading.tasks_of(client, view, old, timeout=0.01)
    assert told.by == "replay"
    assert [task.waits_for for task in told.tasks] == ["signal 'approved'"]
    assert told.tasks[0].since is not None


async def test_with_a_registry_each_command_has_the_line_that_gives_it(diverged):
    client, view = diverged
    found = await reading.suspension_of(client, view, new)
    assert (found.replay, found.turn, found.task) == ("diverges", 1, "0.0")
    assert rows_of(found) == [
        ("0.0:0", "run activity pack", "run activity send", False),
        ("0.1:0", "run activity send", "run activity send", True),
    ]
    assert found.rows[0].current_value == {"order": "receipt of tea"}
    here, next_ = line_of(changed, "new_send, receipt"), line_of(changed, "new_send, order")
    assert found.rows[0].place == f"{__file__}:{here}"
    assert found.rows[1].place == f"{__file__}:{next_}"
    assert (found.now.file, found.now.line) == (__file__, here)
    assert [line.text for line in found.now.lines if line.here] == [
        "        nursery.start_soon(new_send, receipt)  # and nothing is packed"
    ]
    assert found.before.line == line_of(changed, "await new_charge")
    assert msgspec.json.encode(found)


async def test_code_that_replays_the_history_is_told_of(diverged):
    client, view = diverged
    found = await reading.suspension_of(client, view, old)
    assert (found.replay, found.found, found.rows) == ("replays", None, [])
    assert found.report.kind == "diverged"


async def test_a_history_is_replayed_only_if_the_instance_is_suspended(diverged):
    client, view = diverged
    await client.handle("o-1").resume()
    view = await reading.instance_of(client, "o-1")
    found = await reading.suspension_of(client, view, new)
    assert (found.replay, found.report) == ("not tried", None)


async def test_no_file_is_read_because_a_report_names_it(diverged, tmp_path, monkeypatch):
    client, view = diverged
    secret = tmp_path / "secret.txt"
    secret.write_text("the password\n" * 9)
    asked = []
    monkeypatch.setattr(divergence.linecache, "getlines", lambda file: asked.append(file) or [])
    report = SuspendReport(kind="diverged", message="?", turn=1, line=f"{secret}:1")
    await client.handle("o-1").resume()
    await client.backend.suspend("o-1", msgspec.json.encode(report))
    view = await reading.instance_of(client, "o-1")
    for registry in (None, old, new):
        found = await reading.suspension_of(client, view, registry)
        assert "password" not in msgspec.json.encode(found).decode()
    assert set(asked) == {__file__}


@pytest.mark.parametrize("kind", ["paused", "crashes its worker"])
async def test_other_suspensions_have_a_report_and_the_turn(diverged, kind):
    client, _ = diverged
    await client.handle("o-1").resume()
    report = SuspendReport(kind=kind, message="why", turn=99)
    await client.backend.suspend("o-1", msgspec.json.encode(report))
    view = await reading.instance_of(client, "o-1")
    found = await reading.suspension_of(client, view, None)
    assert (found.report.kind, found.rows, found.turn) == (kind, [], 99)


async def test_a_turn_that_cannot_be_read_ends_the_comparison(diverged, monkeypatch):
    client, view = diverged
    read = client.backend.turns_from

    async def broken(*args, **options):
        return [*(await read(*args, **options))[:1], b"{"]

    client.backend.turns_from = broken
    found = await reading.suspension_of(client, view, new)
    del client.backend.turns_from
    assert (found.replay, found.found.kind, found.turn) == ("diverges", "unreadable history", 1)
