"""What is shared is locked in one order: no transaction has to be ended because two are crossed."""

# mypy: ignore-errors

from __future__ import annotations

import random
from contextlib import closing

import pytest
import trio

from tests.backends.mysql_stage import Database
from tests.stores import open_store, opened
from trioflow.backends.commits import InstanceCommit, Message, NewInstance, SharedClaim, Unit
from trioflow.testing.conformance.stage import TERMINATED

_NAMES = ("red", "green", "blue")
_WORKERS = 6
_EACH = 3  # instances of a worker
_COMMITS = 25


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
async def test_locks_between_instances_never_deadlock(kind, tmp_path, servers):
    """Commits ask for several names in any order, and a grant reaches instances of others."""
    make = open_store(kind, tmp_path, servers)
    before = _deadlocks(kind, servers)
    async with opened(make()), trio.open_nursery() as nursery:
        for number in range(_WORKERS):
            nursery.start_soon(_work, make(), number)
    assert _deadlocks(kind, servers) == before


async def _work(backend, number):
    draw = random.Random(number)
    worker = f"w{number}"
    async with opened(backend):
        await backend.register_worker(worker, "stress")
        turns = dict.fromkeys((f"i{draw.randrange(10**6)}-{number}-{n}" for n in range(_EACH)), 0)
        await backend.create([NewInstance(id, "any", worker, b"[]") for id in turns])
        taken = 0
        while taken < _EACH:  # what somebody else has locked at the moment is passed over
            taken += len((await backend.take_instances(worker, (worker,), 10)).instances)
        for _ in range(_COMMITS):
            units = [_unit(draw, id, turns) for id in draw.sample(sorted(turns), 2)]
            assert await backend.commit(worker, units) == [None, None]
        for id in turns:
            # Ended with all that it holds and waits for, which goes to others.
            assert await backend.terminate(id, TERMINATED) == "done"


def _unit(draw, id, turns):
    """Ask for two names, or give back what was asked for last."""
    number = turns[id]
    turns[id] += 1
    how = ("take", "free")[number % 2]
    names = draw.sample(_NAMES, 2) if how == "take" else list(_NAMES)
    messages = [
        Message(id, b'"granted"', execution=1, life="", claim=SharedClaim(how, name, "0:0", 1))
        for name in draw.sample(names, len(names))
    ]
    commit = InstanceCommit(
        id=id, execution=1, number=number, turns=[b"turn"], events=number + 1, messages=messages
    )
    return Unit(instances=[commit])


def _deadlocks(kind, servers):
    """Return how many the server has counted."""
    if kind == "mariadb":
        with closing(Database(servers.url("mariadb"))) as database:
            found = "SELECT count FROM information_schema.innodb_metrics WHERE name = %s"
            return int(database.admin(found, "lock_deadlocks")[0][0])
    psycopg = pytest.importorskip("psycopg")
    with closing(psycopg.connect(servers.url("postgres"), autocommit=True)) as connection:
        found = connection.execute("SELECT sum(deadlocks) FROM pg_stat_database")
        return found.fetchone()[0]
