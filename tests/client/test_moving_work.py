"""Work goes on where it was moved to: from each kind of store to each other one."""

from __future__ import annotations

import itertools

import pytest
import trio

from tests.client.moving import (
    MIXED,
    ask,
    attempts,
    begin,
    flows,
    go,
    sleeps,
    until,
    works,
)
from tests.stores import ALL, LOCAL, SERVERS, open_store
from trioflow import (
    ArgumentError,
    BackendError,
    Every,
    StoreMove,
    attribute,
    open_client,
    open_worker,
)
from trioflow.backends.filters import InstanceFilter
from trioflow.testing.conformance.stage import new

EVERYTHING = InstanceFilter()
PAIRS = [
    pytest.param(one, other, marks=[] if {one, other} <= {*LOCAL} else [pytest.mark.servers])
    for one, other in itertools.permutations(ALL, 2)
]


@pytest.fixture(autouse=True)
def no_attempts():
    attempts.clear()


async def under_way(worker, source, number):
    """Start all kinds of workflows, wait until each is in the midst of it, and close the store."""
    client = worker.client
    await begin(client, number)
    for n in range(number):
        await client.handle(f"waits-{n}").signal(go, "first")

    async def is_mixed():
        running = attempts.keys()
        blocked = sum(attempt == 1 for _, attempt in running)
        return blocked >= 3 * number + 1 and await client.count(status="completed") >= 1

    await until(source, is_mixed)
    await client.handle("rounds-0").signal(go, "next")
    await until(source, lambda: is_in(source, "rounds-0", 2))


async def is_in(backend, id, execution):
    return (await backend.get(id)).execution == execution


async def ends(client, number):
    """Let all end, and see that each has the right result."""
    for n in range(number):
        await client.handle(f"mixed-{n}").signal(go, "signal")
        await client.handle(f"waits-{n}").signal(go, "second")
        for _ in range(1 if n == 0 else 2):
            await client.handle(f"rounds-{n}").signal(go, "next")
    for name in ("first", "second"):
        await client.handle(name).signal(go, "free")
    for n in range(number):
        found = await client.handle(f"mixed-{n}").result()
        assert found == [*sorted([f"m{n}", *MIXED]), "end"]
        assert await client.handle(f"waits-{n}").result() == ["first", "second"]
        assert await client.handle(f"rounds-{n}").result() == 2
        assert len(await client.backend.executions(f"rounds-{n}")) == 1
    for name in ("first", "second"):
        assert await client.handle(name).result() == name
    assert await client.handle("done-1").result() == "slept done"
    assert await client.handle("later-1").result() == "slept later"
    assert await client.count(where=attribute("text") == "m0") == 1


@pytest.mark.parametrize(("one", "other"), PAIRS)
async def test_what_is_under_way_goes_on_elsewhere(one, other, tmp_path, servers):
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    source = open_store(one, tmp_path / "from", servers)()
    destination = open_store(other, tmp_path / "to", servers)()
    number = 2
    await source.open()
    await destination.open()
    try:
        with trio.fail_after(40):
            async with trio.open_nursery() as nursery:
                worker = await nursery.start(works, source)
                await under_way(worker, source, number)
                report = await StoreMove(source, destination).run()
            assert report.moved == 3 * number + 4 + number
            before = dict(attempts)
            kept = await source.export(limit=999)
            assert await destination.export(limit=999) == kept
            async with open_worker(destination, registry=flows) as worker:
                handle = worker.client.handle("waits-0")
                assert await handle.update(ask, "who?") == "who? answered"
                await ends(worker.client, number)
        # No attempt was made twice, and what was interrupted once more.
        assert max(attempts.values()) == 1
        assert any(key not in before for key in attempts)
        assert not await destination.count(InstanceFilter(status=("running", "suspended")))
        assert await source.count(InstanceFilter(status=("running",)))
    finally:
        await source.aclose()
        await destination.aclose()


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
async def test_servers_say_what_they_do_not_take(kind, tmp_path, servers):
    source = open_store("memory", tmp_path, servers)()
    await source.open()
    wrong = {"mariadb": "x" * 501, "postgres": "a\0b"}[kind]
    await source.create([new("before"), new(wrong), new("after")])
    destination = open_store(kind, tmp_path, servers)()
    move = StoreMove(source, destination)
    report = await move.check()
    assert [one.instance for one in report.problems] == [wrong]
    with pytest.raises(BackendError, match="does not take instance") as caught:
        await move.run()
    assert isinstance(caught.value.__cause__, ArgumentError)
    await move.abort()
    await source.create([new("open again")])
    assert await destination.count(EVERYTHING) == 0
    await source.aclose()
    await destination.aclose()


@pytest.mark.servers
@pytest.mark.parametrize("kind", SERVERS)
async def test_a_transaction_that_is_open_is_done_before_or_refused(kind, tmp_path, servers):
    """A fence waits for those who are writing; whoever comes later is kept out."""
    make = open_store(kind, tmp_path, servers)
    source, beside = make(), make()
    destination = open_store("memory", tmp_path, servers)()
    for backend in (source, beside, destination):
        await backend.open()
    created = []

    async def start_all():
        number = 0
        while True:
            try:
                await beside.create([new(f"i{number}")])
            except BackendError:
                return
            created.append(f"i{number}")
            number += 1

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start_all)
            while len(created) < 5:
                await trio.lowlevel.checkpoint()
            await StoreMove(source, destination).run()
    moved = [one.id for one in await destination.list(EVERYTHING, limit=9999)]
    assert moved[::-1] == created
    for backend in (source, beside, destination):
        await backend.aclose()


async def test_a_client_goes_on_with_a_schedule(tmp_path, servers):
    source = open_store("memory", tmp_path, servers)()
    await source.open()
    url = f"sqlite:///{tmp_path}/a.db"
    async with open_client(source, registry=flows) as client:
        await client.schedule("nightly", Every(hours=1), sleeps.bind(0.0))
        before = await client.schedules()
    await StoreMove(source, url).run()
    async with open_client(url, registry=flows) as client:
        assert await client.schedules() == before
        await client.schedule_handle("nightly").pause()
