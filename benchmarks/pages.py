"""What a page, a command or an overview costs a store that holds many instances.

A million have ended, a hundred thousand have not: some before all of the others, some after them.
They are stored as commits of a worker store them, on SQL stores by plain inserts.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from benchmarks.measuring import Figure, Sizes, scratch
from benchmarks.stores import fresh
from trioflow import Client, attribute, open_client
from trioflow._model.attributes import encode_attributes
from trioflow.backends.abc import Backend
from trioflow.backends.commits import (
    ActivityRetry,
    Closing,
    InstanceCommit,
    NewActivity,
    NewInstance,
    Unit,
)
from trioflow.backends.records import ActivityKey, Trouble
from trioflow.backends.sql.backend import SqlBackend
from trioflow.backends.sql.dialect import Insert
from trioflow.backends.sql.operations.attributes import write_attributes
from trioflow.backends.sql.rows import new_instance_row
from trioflow.backends.sql.statements import CREATE_INSTANCES
from trioflow.backends.sql.store import SqlStore

__all__ = ["attributes", "pages"]

_AT_ONCE = 1000
_ON_PAGE = 50
_WORKER, _DEAD = "living", "dead"
_TURN = b'{"number":0,"now":1700000000.0,"events":[],"commands":[],"outcome":{"outcome":"waits"}}'
_COMPLETED = b'{"outcome":"completed","result":"a receipt of some length"}'
_FAILED = b'{"outcome":"failed","failure":{"type":"ValueError","message":"no such card"}}'
_DAY = 86_400.0
_FAR = 30 * _DAY

Ended = Literal["completed", "failed", "cancelled"]


class _Look(NamedTuple):
    """One thing that is asked of the store."""

    what: str
    ask: Callable[[Client], Awaitable[Any]]


async def _in_trouble(kind: Trouble, client: Client) -> object:
    return await client.list(trouble=kind, limit=50)


def _looks(now: float) -> list[_Look]:
    day = now - _DAY
    looks = [
        _Look("page of all", lambda client: client.list(limit=50)),
        _Look("page of status running", lambda client: client.list(status="running", limit=50)),
        _Look("page of status failed", lambda client: client.list(status="failed", limit=50)),
        _Look(
            "page of status failed or suspended",
            lambda client: client.list(status=("failed", "suspended"), limit=50),
        ),
        _Look("page of a workflow", lambda client: client.list(workflow="checkout", limit=50)),
        _Look("page of a rare workflow", lambda client: client.list(workflow="rare", limit=50)),
        _Look(
            "page of a workflow that failed",
            lambda client: client.list(workflow="checkout", status="failed", limit=50),
        ),
        _Look(
            "page of an attribute",
            lambda client: client.list(where={"customer": "c7"}, limit=50),
        ),
        _Look(
            "page of a range of an attribute",
            lambda client: client.list(where=[attribute("amount") >= 500], limit=50),
        ),
    ]
    looks += [
        _Look(
            f"page of trouble {kind}",
            partial(_in_trouble, kind),
        )
        for kind in get_args(Trouble)
    ]
    return [
        *looks,
        _Look("troubles", lambda client: client.troubles()),
        _Look("stats", lambda client: client.stats()),
        _Look("workers", lambda client: client.workers()),
        _Look(
            "count of failed in 24 h, to 1,000",
            lambda client: client.count(status="failed", finished_after=day, at_most=1000),
        ),
        _Look(
            "count of failed in 24 h",
            lambda client: client.count(status="failed", finished_after=day),
        ),
        _Look("count of suspended", lambda client: client.count(status="suspended")),
    ]


async def pages(sizes: Sizes) -> list[Figure]:
    """Pages of fifty, and what an overview shows, among many instances."""
    ended, open_ones = sizes.of(1_000_000, 2000), sizes.of(100_000, 200)
    rounds = sizes.of(7, 1)
    with scratch(sizes) as directory:
        backend = fresh(sizes.backend, directory)
        await backend.open()
        try:
            begun = time.perf_counter()
            await _fill(backend, ended, open_ones)
            filled = time.perf_counter() - begun
            figures = [
                Figure("pages", "instances that have ended", ended),
                Figure("pages", "instances that have not", open_ones),
                Figure("pages", "stored in", filled, "s"),
            ]
            async with open_client(backend) as client:
                for look in _looks(backend.now()):
                    value = await _quickest(look, client, rounds) * 1e3
                    figures.append(Figure("pages", look.what, value, "ms", "< 100"))
        finally:
            await backend.aclose()
    return figures


async def _timed(look: _Look, client: Client) -> float:
    begun = time.perf_counter()
    await look.ask(client)
    return time.perf_counter() - begun


def _by_attribute() -> list[_Look]:
    def look(what: str, **filters: Any) -> _Look:
        return _Look(what, lambda client: client.list(limit=_ON_PAGE, **filters))

    stage = {"stage": "s3"}
    return [
        look("one of 10,000 values", where={"customer": "c7"}),
        look("one of ten", where=stage),
        look("one of ten, and a status that only old ones have", where=stage, status="running"),
        look("one of ten, and a workflow", where=stage, workflow="ship"),
        look("one of ten, and one of 10,000", where={**stage, "customer": "c3"}),
        look("the upper half of a range", where=[attribute("amount") >= 500]),
        look("the end of a range", where=[attribute("amount") >= 999]),
        look("none has it", where={"customer": "nobody"}),
    ]


async def attributes(sizes: Sizes) -> list[Figure]:
    """A page of fifty by an attribute, among 20,000 instances and among ten times as many."""
    few, many = sizes.of(20_000, 200), sizes.of(200_000, 2000)
    rounds = sizes.of(30, 1)
    figures: list[Figure] = []
    with scratch(sizes) as directory:
        backend = fresh(sizes.backend, directory)
        await backend.open()
        try:
            async with open_client(backend) as client:
                await _fill(backend, few - few // 10, few // 10)
                small = [await _quickest(look, client, rounds) for look in _by_attribute()]
                full = [len(await look.ask(client)) == _ON_PAGE for look in _by_attribute()]
                await _more(backend, few - few // 10, many - few // 10)
                large = [await _quickest(look, client, rounds) for look in _by_attribute()]
        finally:
            await backend.aclose()
    # What finds less in fewer instances has more to do in more of them.
    reach = ["<= 1.5" if same else "" for same in full]
    for look, before, value, ratio in zip(_by_attribute(), small, large, reach, strict=True):
        figures += [
            Figure("attributes", f"{look.what}: of {few:,}", before * 1e3, "ms"),
            Figure("attributes", f"{look.what}: of {many:,}", value * 1e3, "ms", "< 20"),
            Figure("attributes", f"{look.what}: ratio", value / before, "", ratio),
        ]
    return figures


async def _quickest(look: _Look, client: Client, rounds: int) -> float:
    # The quickest: what else the machine does is no cost of the store.
    return min([await _timed(look, client) for _ in range(rounds)])


# --- filling -----------------------------------------------------------------------------------


async def _fill(backend: Backend, ended: int, open_ones: int) -> None:
    queues = ["default", "elsewhere"]
    await backend.register_worker(_WORKER, "one", queues=queues, activity_queues=queues)
    await backend.register_worker(_DEAD, "another", queues=queues, lease=0.0)
    half = open_ones // 2
    await _commit(backend, _open_units(0, half, backend.now()))
    await _more(backend, 0, ended)
    await _commit(backend, _open_units(half, open_ones, backend.now()))
    dead = [Unit(instances=[_turn(_new(f"lost-{number}", number))]) for number in range(50)]
    assert await backend.commit(_DEAD, dead) == [None] * len(dead)


async def _more(backend: Backend, first: int, last: int) -> None:
    if isinstance(backend, SqlBackend):
        await _insert(backend, first, last)
    else:
        await _commit(backend, _ended_units(first, last))


async def _commit(backend: Backend, units: Iterator[tuple[Unit, ActivityRetry | None]]) -> None:
    batch: list[Unit] = []
    retries: list[ActivityRetry] = []

    async def store() -> None:
        if batch:
            assert not any(await backend.commit(_WORKER, batch))
        if retries:
            await backend.commit(_WORKER, [Unit(retries=retries)])
        batch.clear()
        retries.clear()

    for unit, retry in units:
        batch.append(unit)
        if retry is not None:
            retries.append(retry)
        if len(batch) == _AT_ONCE:
            await store()
    await store()


_ENDED = Insert("instances", (*CREATE_INSTANCES.columns, "outcome", "finished_at"))


async def _insert(backend: SqlBackend[Any], first: int, last: int) -> None:
    """Store what commits would, but for the histories, which nothing here reads."""

    def insert(store: SqlStore, commits: Sequence[InstanceCommit]) -> None:
        now = store.clock()
        values: list[Any] = []
        for commit in commits:
            assert commit.new is not None
            assert commit.closing is not None
            row = [*new_instance_row(commit.new, 1, now, turns=1, events=2, ready_at=None)]
            row[_ENDED.columns.index("status")] = commit.closing.status
            values += (*row, commit.closing.outcome, now)
        with store.transaction():
            store.write(_ENDED, values)
            write_attributes(
                store, {commit.id: commit.new.attributes for commit in commits if commit.new}
            )

    batch: list[InstanceCommit] = []
    for unit, _ in _ended_units(first, last):
        batch += unit.instances
        if len(batch) == _AT_ONCE:
            await backend._run(insert, backend._store(), batch)  # noqa: SLF001 - past the contract
            batch = []
    if batch:
        await backend._run(insert, backend._store(), batch)  # noqa: SLF001 - past the contract


def _new(id: str, number: int, workflow: str = "checkout", queue: str = "default") -> NewInstance:
    attributes: dict[str, Any] = {"customer": f"c{number % 10_000}", "amount": number % 1000}
    attributes["stage"] = f"s{number % 10}"
    return NewInstance(
        id,
        workflow,
        queue,
        b'{"order":{"id":%d,"lines":[1,2,3]}}' % number,
        life=f"{number:032x}",
        attributes=encode_attributes(attributes),
    )


def _ended_units(first: int, last: int) -> Iterator[tuple[Unit, None]]:
    flows = ("checkout", "ship", "invoice", "remind")
    for number in range(first, last):
        workflow = "rare" if number % 20_000 == 0 else flows[number % 4]
        how: Ended = "completed" if number % 100 else "failed"
        outcome = _COMPLETED if how == "completed" else _FAILED
        id = f"e{number * 7919 % 1_000_003}-{number}"
        new = _new(id, number, workflow)
        yield Unit(instances=[_turn(new, closing=Closing(how, outcome), leased=False)]), None


def _open_units(first: int, last: int, now: float) -> Iterator[tuple[Unit, ActivityRetry | None]]:
    """Of twenty: twelve sleep, three call activities, two are ready; the rest is in trouble."""
    for number in range(first, last):
        kind = number % 20
        id = f"o{number}"
        new = _new(id, number, "ship" if number % 2 else "checkout")
        if kind < 12:
            yield Unit(instances=[_turn(new, wake_at=now + _FAR, leased=False)]), None
        elif kind < 15:
            calls = [NewActivity("0:0", "charge", "default", b"{}", leased=kind == 12)]
            again = None
            if kind == 12 and number % 400 == 12:
                key = ActivityKey(id, 1, "0:0", new.life)
                again = ActivityRetry(key, 3, now + _FAR, b"")
            yield Unit(instances=[_turn(new, activities=calls, leased=False)]), again
        elif kind < 17:
            yield Unit(instances=[_turn(new, due=True, leased=False)]), None
        elif kind == 17:
            yield Unit(instances=[_turn(new, suspended=b'{"kind":"paused"}', leased=False)]), None
        elif kind == 18 and number % 200 == 18:
            lost = msgspec.structs.replace(new, queue="nobody")
            yield Unit(instances=[_turn(lost, due=True, leased=False)]), None
        else:
            yield Unit(instances=[_turn(new, wake_at=now + _FAR)]), None


def _turn(new: NewInstance, **fields: Any) -> InstanceCommit:
    return InstanceCommit(
        id=new.id,
        execution=1,
        number=0,
        life=new.life,
        new=new,
        turns=[_TURN],
        events=2,
        **fields,
    )
