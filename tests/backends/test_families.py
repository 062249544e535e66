"""A terminate takes the whole family along, also who is started while it looks for it."""

from __future__ import annotations

import pytest

from tests.stores import marked, open_store, opened
from trioflow.backends.commits import Unit
from trioflow.backends.sql.operations.commit import commit
from trioflow.testing.conformance.stage import TERMINATED, child, new, step

STORES = ("postgres", "mariadb")


@pytest.mark.parametrize("store", marked(STORES))
async def test_who_is_started_while_a_family_is_looked_for_is_terminated_too(
    store, tmp_path, servers, monkeypatch
):
    """One starts before the rows of those that were found are locked, and starts another then."""
    connect = open_store(store, tmp_path, servers)
    async with opened(connect()) as backend, opened(connect()) as workers:
        await workers.register_worker("w", "w")
        await workers.create([new("a"), child("b", "a")])
        await workers.take_instances("w", ["default"], 9)
        rows = backend._store()
        looks = [
            [step("b", 0), step("c", 0, new=child("c", "b"))],
            [step("c", 1), step("d", 0, new=child("d", "c"))],
        ]

        def overtaken(look):
            def looked(sql, *parameters):
                answer = look(sql, *parameters)
                if sql == rows.queries.family and looks:
                    done = commit(workers._store(), "w", [Unit(instances=looks.pop(0))])
                    assert done == [None]
                return answer

            return looked

        monkeypatch.setattr(rows, "each", overtaken(rows.each))
        monkeypatch.setattr(rows, "execute", overtaken(rows.execute))
        assert await backend.terminate("a", TERMINATED) == "done"
        assert not looks
        found = {id: (await backend.get(id)).status for id in "abcd"}
        assert found == dict.fromkeys("abcd", "terminated")
