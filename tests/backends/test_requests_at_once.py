"""A request that somebody else makes meanwhile, and that ends the instance, was made before."""

from __future__ import annotations

import pytest
import trio

from tests.stores import marked, open_store, opened
from trioflow.backends.commits import NewInstance
from trioflow.backends.sql.operations import changes

STORES = ("postgres", "mariadb")


@pytest.fixture(params=marked(STORES))
def new_backend(request, tmp_path, servers):
    return open_store(request.param, tmp_path, servers)


@pytest.fixture
def meanwhile(monkeypatch):
    """Return a list: what is put into it is called once, when a request was found to be new."""
    calls = []
    was_made = changes._was_made

    def overtaken(*args):
        made = was_made(*args)
        if calls:
            trio.run(calls.pop())  # on the store's thread, in the middle of its transaction
        return made

    monkeypatch.setattr(changes, "_was_made", overtaken)
    return calls


def ending(new_backend, *, request):
    """Return what makes a request and lets the instance end by it, on a connection of its own."""

    async def make():
        async with opened(new_backend()) as other:
            assert await other.send("a", b"{}", request=request) == "done"
            assert await other.terminate("a", b"{}") == "done"

    return make


@pytest.mark.parametrize(("request_id", "effect"), [("r", "unchanged"), ("s", "finished")])
async def test_it_is_sent_once(new_backend, request_id, effect, meanwhile):
    async with opened(new_backend()) as backend:
        await backend.create([NewInstance("a", "flow", "default", b"[]")])
        meanwhile.append(ending(new_backend, request="r"))
        assert await backend.send("a", b"{}", request=request_id) == effect


@pytest.mark.parametrize(("request_id", "repeated"), [("r", True), ("s", False)])
async def test_it_starts_nothing_anew(new_backend, request_id, repeated, meanwhile):
    async with opened(new_backend()) as backend:
        await backend.create([NewInstance("a", "flow", "default", b"[]", life="first")])
        meanwhile.append(ending(new_backend, request="r"))
        again = NewInstance("a", "flow", "default", b"[]", life="second")
        reached = await backend.create_and_send(again, b"{}", request=request_id)
        assert (reached.repeated, reached.created) == (repeated, not repeated)
        assert (await backend.get("a")).life == ("first" if repeated else "second")
