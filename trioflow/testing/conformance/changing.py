"""Conformance: what is told of changes, so that nobody who waits looks too late."""

from __future__ import annotations

from trioflow.backends._common.watching import selection_of
from trioflow.backends.abc import Concern
from trioflow.backends.commits import ActivityRetry, NewQuestion, Unit
from trioflow.testing.conformance.stage import DONE, TERMINATED, Case, Stage, key, named, step

__all__ = ["CASES"]


class _Ear:
    """Says of what there may be something new since it was asked last."""

    def __init__(self, stage: Stage) -> None:
        self._backend = stage.backend
        self._changed = selection_of(stage.backend)
        self._seen = stage.backend.changes()

    def hears(self, *what: Concern, worker: str = "w2") -> bool:
        seen, self._seen = self._seen, self._backend.changes()
        return all(self._changed(each, seen, worker) for each in what)


async def what_clients_do_is_told_of(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    ear = _Ear(stage)
    await stage.create("a", life="l1")
    assert ear.hears("instances")
    await stage.take()
    await stage.stored(step("a", 0, life="l1"))
    assert await stage.backend.send("a", b"{}") == "done"
    assert ear.hears("instances", worker="w1")
    asked = NewQuestion("q", "a", "l1", b"{}", stage.backend.now() + 60)
    assert await stage.backend.ask(asked) == "done"
    assert ear.hears("questions")
    assert await stage.backend.terminate("a", TERMINATED) == "done"
    assert ear.hears("outcomes")


async def what_a_commit_leaves_is_told_of(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b")
    ear = _Ear(stage)
    await stage.stored(step("a", 0, activities=named("0:0")))
    assert ear.hears("activities")
    (task,) = (await stage.backend.take_activities("w1", ["default"], 1)).activities
    ear = _Ear(stage)
    again = ActivityRetry(key("a", "0:0"), task.attempt + 1, stage.backend.now(), task.failure)
    assert await stage.backend.commit("w1", [Unit(retries=[again])]) == [None]
    assert ear.hears("activities", worker="w1")
    await stage.stored(step("a", 1, leased=False, wake_at=stage.backend.now() + 60))
    assert ear.hears("instances")
    await stage.stored(step("b", 0, closing=DONE))
    assert ear.hears("outcomes")


async def what_a_worker_leaves_is_told_of(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, activities=named("0:0", leased=True)))
    ear = _Ear(stage)
    await stage.backend.release_worker("w1")
    assert ear.hears("instances", "activities")


CASES: list[Case] = [
    what_clients_do_is_told_of,
    what_a_commit_leaves_is_told_of,
    what_a_worker_leaves_is_told_of,
]
