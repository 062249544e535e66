"""Who holds what tasks wait for."""

# mypy: ignore-errors

from __future__ import annotations

from trioflow._client.holders import with_holders
from trioflow._model.info import TaskInfo
from trioflow.backends.records import SharedState


class Asked:
    """A store that notes what it is asked for."""

    def __init__(self):
        self.names = []

    async def shared_state(self, name):
        self.names.append(name)
        return SharedState({"lock:a": ["x", "y", "x"]}.get(name, []), [])


async def test_each_name_is_asked_for_once():
    backend = Asked()
    waits = ["the lock 'a'", "the semaphore 'b'", "signal 'a'", "the lock 'a'"]
    tasks = [TaskInfo(f"0.{n}", "0", "f", each, "") for n, each in enumerate(waits)]
    told = await with_holders(backend, tasks)
    held = "the lock 'a', held by x, y"
    assert [each.waits_for for each in told] == [held, "the semaphore 'b'", "signal 'a'", held]
    assert [each.path for each in told] == [each.path for each in tasks]
    assert backend.names == ["lock:a", "semaphore:b"]
