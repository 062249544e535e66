"""Moving a store: what is kept, what breaks off, and who is kept out."""

from __future__ import annotations

import sqlite3

import pytest
import trio
import trio.testing

from tests.client.moving import Failing, filled, flows, go, until, waits
from trioflow import (
    ArgumentError,
    BackendError,
    BackendUnavailable,
    MoveReport,
    StoreFenced,
    StoreMove,
    open_client,
    open_worker,
)
from trioflow._client import exporting
from trioflow._model.limits import Limit
from trioflow.backends.filters import InstanceFilter
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.moves import Refusal, fence_text
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.backends.sqlite.fencing import SqliteFences
from trioflow.testing.conformance.stage import TERMINATED, new

ALL = InstanceFilter()


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(exporting, "_PAGE", 4)


async def empty():
    backend = MemoryBackend()
    await backend.open()
    return backend


async def contents(backend):
    return await backend.export(limit=999), await backend.export_common()


async def is_open(backend):
    try:
        await backend.create([new("probe")])
    except StoreFenced:
        return False
    await backend.terminate("probe", TERMINATED)
    await backend.remove(ALL, ids=["probe"], limit=1)
    return True


async def test_everything_is_there_afterwards():
    source, destination = await filled(), await empty()
    told = []
    report = await StoreMove(source, destination).run(told=told.append)
    assert report == MoveReport(moved=11, unfinished=9, finished=2)
    assert [one.moved for one in told] == [4, 8, 11]
    assert await contents(destination) == await contents(source)
    assert len((await contents(source))[0]) == 11
    assert not await is_open(source)
    assert await is_open(destination)


async def test_finished_ones_can_be_left_behind():
    source, destination = await filled(), await empty()
    report = await StoreMove(source, destination, unfinished_only=True).run()
    assert report == MoveReport(moved=9, unfinished=9, left=2)
    rows, common = await contents(source)
    kept = [row for row in rows if row.record.finished_at is None]
    assert await contents(destination) == (kept, common)


async def test_a_destination_that_was_changed_past_trioflow_is_not_opened(monkeypatch):
    source, destination = await filled(), await empty()
    put = destination.import_common

    async def less(move, common):
        rows, closed = destination._store(), fence_text(await destination.fenced())
        with rows.transaction(), rows.dialect.fences.passing(rows.connection, closed):
            assert rows.execute("DELETE FROM instances WHERE seq = 3").rowcount == 1
        return await put(move, common)

    monkeypatch.setattr(destination, "import_common", less)
    with pytest.raises(BackendError, match="has 10 instances, and should have 11"):
        await StoreMove(source, destination).run()
    assert not await is_open(source)
    assert not await is_open(destination)
    monkeypatch.undo()
    again = StoreMove(source, destination)
    await again.abort()
    assert (await again.run()).moved == 11


async def closed_as_a_move_does_it():
    """Return what a source holds when it has been closed, so that leases are free."""
    source, destination = await filled(), await empty()
    await StoreMove(source, destination).run()
    return await contents(source)


def comparable(contents):
    """Leave out what differs between two stores that were filled alike: when it was."""
    rows, common = contents
    shown = []
    for row in rows:
        record = row.record
        shown.append((record.id, record.status, record.execution, record.turns, record.unread))
        shown.append((len(row.activities), len(row.ended), len(row.requests), row.deaths))
    return shown, [len(one.claims) for one in common.shared], len(common.limits)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("abort", [False, True], ids=["again", "abort"])
async def test_a_move_that_breaks_off_at_any_call_can_be_made_again_or_given_up(abort, after):
    for number in range(1, 99):
        source, destination = await filled(), await empty()
        failing = Failing(number, after=after)
        try:
            await StoreMove(failing(source), failing(destination)).run()
        except BackendUnavailable:
            assert failing.struck
        fenced = await source.fenced()
        again = StoreMove(Failing()(source), Failing()(destination))
        if abort and fenced is not None:
            await again.abort()
            assert await is_open(source), number
            assert await is_open(destination), number
            assert await destination.count(ALL) == 0
            assert not (await destination.limits()).limits
            assert await source.fenced() is None
        report = await again.run()
        assert report.unfinished == 9
        assert await contents(destination) == await contents(source), number
        assert await destination.count(ALL) == 11
        assert not await is_open(source)
        assert await is_open(destination)
        if not failing.struck:
            break
    assert 15 < number < 99


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("complete", [False, True], ids=["half", "complete"])
async def test_giving_up_that_breaks_off_at_any_call_can_be_made_again(complete, after):
    for number in range(1, 99):
        source, destination = await filled(), await empty()
        broken = Failing(0 if complete else 18)
        try:
            await StoreMove(broken(source), broken(destination)).run()
        except BackendUnavailable:
            assert not complete
        before = await contents(source)
        failing = Failing(number, after=after)
        try:
            await StoreMove(failing(source), failing(destination)).abort()
        except BackendUnavailable:
            assert failing.struck
            if await source.fenced() is not None or not await is_open(destination):
                await StoreMove(Failing()(source), Failing()(destination)).abort()
        assert await is_open(source), number
        assert await is_open(destination), number
        assert await destination.count(ALL) == 0
        assert await contents(source) == before
        if not failing.struck:
            break
    assert 6 < number < 99


@pytest.mark.parametrize("number", [1, 2], ids=["source", "destination"])
async def test_opening_that_breaks_off_is_done_by_the_next_abort(number, monkeypatch, tmp_path):
    ends = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    async with open_client(ends[0], registry=flows) as client:
        await client.start(waits.options(id="w"))
    await StoreMove(*ends).run()
    with monkeypatch.context() as patch:
        break_off(patch, number)
        with pytest.raises(BackendUnavailable):
            await StoreMove(*ends).abort()
    await StoreMove(*ends).abort()
    await are_as_new(ends[:1], "w")
    await are_as_new(ends[1:])


@pytest.mark.parametrize("again", ["run", "abort"])
@pytest.mark.parametrize("number", [1, 2], ids=["destination", "source"])
async def test_a_refused_move_that_breaks_off_closes_nothing(number, again, monkeypatch, tmp_path):
    ends = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    for end in ends:
        async with open_client(end, registry=flows) as client:
            await client.start(waits.options(id="w"))
    with monkeypatch.context() as patch:
        patch.setattr(StoreMove, "_obstacles", nothing_in_the_way)
        break_off(patch, number)
        with pytest.raises(BackendUnavailable):
            await StoreMove(*ends).run()
    if again == "run":
        with pytest.raises(BackendError, match="holds instances already"):
            await StoreMove(*ends).run()
    if again == "abort" or number == len(ends):  # a look at the destination changes nothing
        await StoreMove(*ends).abort()
    await are_as_new(ends, "w")


def break_off(patch, number):
    """Let the removal of a fence fail when it is tried for the n-th time."""
    take_down, calls = SqliteFences.take_down, []

    def fail(self, connection):
        calls.append(connection)
        if len(calls) == number:
            raise BackendUnavailable("the server is gone")
        take_down(self, connection)

    patch.setattr(SqliteFences, "take_down", fail)


async def nothing_in_the_way(self, source, destination):
    return []


async def are_as_new(urls, *ids):
    for url in urls:
        backend = SqliteBackend(url.removeprefix("sqlite:///"))
        await backend.open()
        assert await backend.fenced() is None
        assert await is_open(backend)
        assert [one.id for one in await backend.list(ALL, limit=9)] == list(ids)
        await backend.aclose()


async def test_what_was_complete_is_not_made_again():
    source, destination = await filled(), await empty()
    move = StoreMove(source, destination)
    await move.run()
    await destination.create([new("started since")])
    assert await move.run() == MoveReport(unfinished=9, finished=2)
    assert await move.check() == MoveReport(unfinished=9, finished=2)
    assert await destination.get("started since") is not None


async def ends_of_a_broken_move():
    """Return two stores, with a move that broke off before anything was at the destination."""
    source, destination = await filled(), await empty()
    wrapped = Overridden(destination, import_instances=fails)
    with pytest.raises(BackendUnavailable):
        await StoreMove(source, wrapped).run()
    return source, destination


async def fails(*args, **kwargs):
    raise BackendUnavailable("the power is cut")


class Overridden:
    """A store of which some methods are replaced."""

    def __init__(self, backend, **methods):
        self._backend = backend
        vars(self).update(methods)

    def __getattr__(self, name):
        return getattr(self._backend, name)


def before(call, first):
    """Return a call that does something else first, once."""
    left = [first]

    async def wrapped(*args, **kwargs):
        if left:
            await left.pop()()
        return await call(*args, **kwargs)

    return wrapped


async def test_a_slow_call_does_not_close_what_is_complete():
    source, destination = await ends_of_a_broken_move()

    async def another_is_quicker():
        await StoreMove(source, destination).run()
        await destination.create([new("started since")])
        await destination.register_worker("w", "one of the destination's")

    slow = Overridden(destination, fence=before(destination.fence, another_is_quicker))
    assert await StoreMove(source, slow).run() == MoveReport(unfinished=9, finished=2)
    assert destination.heartbeat("w").alive
    assert await is_open(destination)
    assert await destination.count(ALL) == 12
    assert not await is_open(source)


@pytest.mark.parametrize("call", ["import_instances", "import_common", "lift_fence"])
async def test_what_is_given_up_meanwhile_does_not_end(call):
    source, destination = await ends_of_a_broken_move()

    async def given_up():
        broken = Overridden(source, lift_fence=fails)
        with pytest.raises(BackendUnavailable):
            await StoreMove(broken, destination).abort()

    slow = Overridden(destination, **{call: before(getattr(destination, call), given_up)})
    with pytest.raises(StoreFenced, match="given it up"):
        await StoreMove(source, slow).run()
    with pytest.raises(BackendError, match="is being given up.*abort"):
        await StoreMove(source, destination).run()
    (problem,) = (await StoreMove(source, destination).check()).problems
    assert "is being given up" in problem.why
    assert not await is_open(source)
    assert not await is_open(destination)
    await StoreMove(source, destination).abort()
    await StoreMove(source, destination).run()
    assert await contents(destination) == await contents(source)
    assert await destination.count(ALL) == 11


async def test_what_ends_meanwhile_is_not_given_up():
    source, destination = await ends_of_a_broken_move()
    slow = Overridden(
        destination, clear=before(destination.clear, StoreMove(source, destination).run)
    )
    with pytest.raises(StoreFenced, match="ended it"):
        await StoreMove(source, slow).abort()
    assert await is_open(destination)
    assert await destination.count(ALL) == 11
    assert not await is_open(source)


async def test_a_destination_is_not_closed_for_what_was_given_up():
    source, destination = await filled(), await empty()
    abort = StoreMove(source, destination).abort
    slow = Overridden(destination, fence=before(destination.fence, abort))
    with pytest.raises(StoreFenced, match="given it up"):
        await StoreMove(source, slow).run()
    assert await is_open(source)
    assert await is_open(destination)
    assert await destination.count(ALL) == 0


async def test_a_slow_call_does_not_open_what_another_one_fills():
    source, destination = await filled(), await empty()
    with pytest.raises(BackendUnavailable):
        await StoreMove(source, Overridden(destination, fence=fails)).run()

    async def another_begins():
        wrapped = Overridden(destination, import_common=fails)
        with pytest.raises(BackendUnavailable):
            await StoreMove(source, wrapped).run()

    slow = Overridden(destination, fence=before(destination.fence, another_begins))
    await StoreMove(source, slow).run()
    assert await contents(destination) == await contents(source)
    assert await destination.count(ALL) == 11


async def test_a_move_of_another_store_is_not_given_up(tmp_path):
    other, source, destination = await empty(), f"sqlite:///{tmp_path}/a.db", await empty()
    async with open_client(source, registry=flows) as client:
        await client.start(waits.options(id="w"))

    async def another_gives_up():
        with pytest.raises(BackendError, match="nothing to give up"):
            await StoreMove(other, destination).abort()

    call = before(destination.import_instances, another_gives_up)
    await StoreMove(source, Overridden(destination, import_instances=call)).run()
    assert await destination.count(ALL) == 1


async def _is_started(destination):
    await destination.create([new("started since")])


async def _is_taken(destination):
    await destination.register_worker("w", "one of the destination's")
    assert (await destination.take_instances("w", ("default",), 1)).instances


async def _is_ended(destination):
    assert await destination.terminate("paused", TERMINATED) == "done"


async def _is_removed(destination):
    for record in await destination.list(InstanceFilter(status=("running",)), limit=99):
        await destination.terminate(record.id, TERMINATED)
    await destination.terminate("paused", TERMINATED)
    await destination.remove(ALL, limit=99)


async def _is_limited(destination):
    await destination.set_limit(Limit(kind="queue", name="set since", concurrency=1))


@pytest.mark.parametrize("begins", [_is_started, _is_taken, _is_ended, _is_removed, _is_limited])
async def test_what_has_begun_at_the_destination_is_not_given_up(begins):
    source, destination = await filled(), await empty()
    move = StoreMove(source, destination)
    await move.run()
    await begins(destination)
    there = await destination.count(ALL)
    with pytest.raises(BackendError, match="cannot be given up any more"):
        await move.abort()
    assert await is_open(destination)
    assert await destination.count(ALL) == there
    assert not await is_open(source)


@pytest.mark.parametrize("removed", [1, 4, 7, 8], ids=lambda number: f"{number} before it")
async def test_what_is_removed_while_a_store_is_checked_is_passed_over(removed, monkeypatch):
    source, destination = await empty(), await empty()
    ids = [f"n{number:02}" for number in range(14)]
    await source.create([new(id) for id in ids])
    pages = []

    async def check(page):
        pages.append([one.id for one in page])
        if len(pages) == 2:
            for id in ids[8 - removed : 8]:
                await source.terminate(id, TERMINATED)
                await source.remove(ALL, ids=[id], limit=1)
        return [Refusal(one.id, "no") for one in page]

    monkeypatch.setattr(destination, "check_import", check)
    report = await StoreMove(source, destination).check()
    assert [one.instance for one in report.problems] == ids
    assert sorted({id for page in pages for id in page}) == ids
    assert len(pages) <= 5  # it does not begin anew


async def test_there_must_be_something_to_give_up():
    source, destination = await filled(), await empty()
    with pytest.raises(BackendError, match="nothing to give up"):
        await StoreMove(source, destination).abort()


async def test_a_store_is_not_moved_to_itself():
    for source in (await filled(), await empty()):
        with pytest.raises(BackendError, match="name two stores|holds instances"):
            await StoreMove(source, source).run()
        assert await is_open(source)


async def test_a_destination_that_is_in_use_is_left_alone():
    source, destination = await filled(), await empty()
    await destination.create([new("somebody's")])
    for call in (StoreMove(source, destination).run, StoreMove(source, destination).abort):
        with pytest.raises(BackendError):
            await call()
        assert await is_open(source)
        assert await is_open(destination)
    report = await StoreMove(source, destination).check()
    assert [(one.instance, "holds instances" in one.why) for one in report.problems] == [
        (None, True)
    ]


async def test_a_destination_that_fills_while_it_is_looked_at_is_left_alone(monkeypatch):
    source, destination = await filled(), await empty()
    fence = destination.fence

    async def late(wanted):
        await destination.create([new("somebody's")])
        return await fence(wanted)

    monkeypatch.setattr(destination, "fence", late)
    with pytest.raises(BackendError, match="holds instances already"):
        await StoreMove(source, destination).run()
    assert await is_open(source)
    assert await is_open(destination)


@pytest.mark.parametrize("again", ["run", "abort"])
@pytest.mark.parametrize("unfinished_only", [False, True])
async def test_nothing_is_lost_if_it_breaks_off_just_then(again, unfinished_only, monkeypatch):
    """Between closing a destination and finding out that it is in use since a moment ago."""
    source, destination = await filled(), await empty()
    fence = destination.fence

    async def late(wanted):
        await destination.create([new("somebody's")])
        await fence(wanted)
        raise BackendUnavailable("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(destination, "fence", late)
        with pytest.raises(BackendUnavailable):
            await StoreMove(source, destination, unfinished_only=unfinished_only).run()
    assert not await is_open(destination)
    if again == "run":
        with pytest.raises(BackendError, match="holds instances already"):
            await StoreMove(source, destination).run()
    else:
        await StoreMove(source, destination).abort()
    assert await is_open(source)
    assert await is_open(destination)
    assert "somebody's" in [one.id for one in await destination.list(ALL, limit=9)]
    assert await source.fenced() is None


async def test_no_store_is_in_two_moves(tmp_path):
    source, half = await filled(), await empty()
    failing = Failing(18)
    with pytest.raises(BackendUnavailable):
        await StoreMove(failing(source), failing(half)).run()
    assert await half.count(ALL)
    for ends in (
        (await filled(), half),
        (half, await empty()),
        (source, f"sqlite:///{tmp_path}/b"),
    ):
        with pytest.raises(BackendError):
            await StoreMove(*ends).run()
        with pytest.raises(BackendError):
            await StoreMove(*ends).abort()
    await StoreMove(source, half).run()
    assert await contents(half) == await contents(source)


async def test_where_it_goes_on_elsewhere_is_not_given_up_here(tmp_path):
    source = await filled()
    await StoreMove(source, f"sqlite:///{tmp_path}/a.db").run()
    with pytest.raises(StoreFenced, match="a.db"):
        await StoreMove(source, f"sqlite:///{tmp_path}/b.db").abort()
    assert not await is_open(source)


async def test_what_the_destination_does_not_take_is_named(monkeypatch, tmp_path):
    source, destination = await filled(), SqliteBackend(tmp_path / "a.db")
    await destination.open()
    monkeypatch.setattr(SqliteBackend, "ids", OnlyShort())
    move = StoreMove(source, destination)
    report = await move.check()
    assert [one.instance for one in report.problems] == ["forked"]
    assert report.unfinished == 9
    assert await is_open(source)
    with pytest.raises(BackendError, match="does not take instance 'forked'"):
        await move.run()
    await move.abort()
    assert await is_open(source)
    assert await destination.count(ALL) == 0
    await destination.aclose()


class OnlyShort:
    def demand(self, id):
        if id == "forked":
            raise ArgumentError("that id is not for me")


async def test_a_worker_ends_when_its_store_is_closed():
    source, destination = await empty(), await empty()

    async def work():
        async with open_worker(source, registry=flows) as worker:
            handle = await worker.client.start(waits.options(id="w"))
            await until(source, lambda: has_turns(source, "w"))
            nursery.start_soon(StoreMove(source, destination).run)
            await handle.result()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            with pytest.raises(StoreFenced, match="the store is closed"):
                await work()
    record = await destination.get("w")
    assert (record.turns, record.worker) == (1, None)


async def has_turns(backend, id):
    record = await backend.get(id)
    return record is not None and record.turns


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
async def test_whoever_watches_hears_that_nothing_will_come(shared, autojump_clock, monkeypatch):
    source, destination = await empty(), await empty()
    monkeypatch.setattr(source, "shared", shared)

    async def watch(handle):
        async for _ in handle.watch():
            pass

    async def stream(handle):
        async for _ in handle.stream("steps", str):
            pass

    async def hears(call, handle):
        with trio.fail_after(8), pytest.raises(StoreFenced, match="the memory store"):
            await call(handle)

    async with open_client(source, registry=flows) as client:
        handle = await client.start(waits.options(id="w"))
        async with trio.open_nursery() as nursery:
            for call in (watch, watch, stream, lambda handle: handle.wait()):
                nursery.start_soon(hears, call, handle)
            await trio.testing.wait_all_tasks_blocked()
            await StoreMove(source, destination).run()


async def test_whoever_waits_hears_that_nothing_will_come():
    source, destination = await empty(), await empty()
    async with open_client(source, registry=flows) as client:
        handle = await client.start(waits.options(id="w"))

        async def wait():
            with trio.fail_after(30), pytest.raises(StoreFenced, match="the memory store"):
                await handle.result()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            await StoreMove(source, destination).run()
        with pytest.raises(StoreFenced):
            await handle.signal(go, "late")
        with pytest.raises(StoreFenced):
            await client.start(waits.options(id="another"))
    async with open_client(destination, registry=flows) as client:
        await client.handle("w").signal(go, "in time")


async def test_another_connection_is_kept_out_as_well(tmp_path):
    path = tmp_path / "a.db"
    backend = SqliteBackend(path)
    await backend.open()
    await backend.create([new("a")])
    raw = sqlite3.connect(path)
    other = SqliteBackend(path)
    await other.open()
    await StoreMove(f"sqlite:///{path}", await empty()).run()
    with pytest.raises(StoreFenced):
        await other.send("a", b"1")
    with pytest.raises(sqlite3.IntegrityError, match="trioflow fence: the store is closed"):
        raw.execute("UPDATE instances SET turns = 7")
    with pytest.raises(StoreFenced):
        backend.in_transaction(raw).create([new("b")], replacing=None)
    raw.close()
    await other.aclose()
    await backend.aclose()


async def test_a_prefix_does_not_matter(tmp_path):
    source = await filled()
    url = f"sqlite:///{tmp_path}/a.db?prefix=flow_"
    await StoreMove(source, url).run()
    back = await empty()
    before = await contents(source)
    await StoreMove(url, back).run()
    assert await contents(back) == before
