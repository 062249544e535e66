"""What was stored though nobody could say so is looked for."""

from __future__ import annotations

import pytest

from tests.stores import ALL, marked, open_store, opened
from trioflow.backends.commits import NewInstance
from trioflow.errors import BackendUnavailable


@pytest.mark.parametrize("store", marked(ALL))
async def test_a_change_whose_answer_is_lost_wakes(store, tmp_path, servers, monkeypatch):
    async with opened(open_store(store, tmp_path, servers)()) as backend:
        run = backend._run

        async def lose(*args):
            await run(*args)
            raise BackendUnavailable("the answer is lost")

        seen = backend.changes()
        with monkeypatch.context() as patch:
            patch.setattr(backend, "_run", lose)
            with pytest.raises(BackendUnavailable):
                await backend.create([NewInstance("a", "flow", "default", b"[]")])
        assert await backend.get("a") is not None
        assert backend.changed("instances", seen)
