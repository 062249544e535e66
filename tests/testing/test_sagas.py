"""Sagas in any order of events: nothing that was done is kept unless all of it is."""

# mypy: ignore-errors

from __future__ import annotations

from functools import partial

import pytest
import trio

from trioflow import Registry, RetryPolicy, saga
from trioflow.testing import explore

flows = Registry()
steady = RetryPolicy(max_attempts=None)


@flows.activity
async def book(what: str) -> str:
    raise AssertionError


@flows.activity(retry=steady)
async def unbook(what: str) -> None:
    raise AssertionError


@flows.workflow
async def journey() -> str:
    async with saga() as s:
        await s.do(partial(book, "hotel"), undo=partial(unbook, "hotel"))
        async with trio.open_nursery() as nursery:
            for what in ("flight", "car"):
                nursery.start_soon(partial(s.do, partial(book, what), undo=partial(unbook, what)))
    return "booked"


@flows.workflow
async def forgets() -> str:
    async with saga() as s:
        await s.do(partial(book, "hotel"), undo=partial(unbook, "hotel"))
        await book("flight")
        await book("car")
    return "booked"


def check(run):
    done, undone, refused = (
        {call.args[0] for call in run.called(activity) if (call.error is None) is fine}
        for activity, fine in ((book, True), (unbook, True), (unbook, False))
    )
    if run.status == "completed":
        assert not undone
    elif done - undone:
        # What undoes was refused for good, and the workflow says so.
        assert done - undone <= refused
        assert run.status == "failed"


def search(workflow):
    functions = {book: str, unbook: lambda what: None}
    trio.run(
        lambda: explore(
            workflow, activities=functions, registry=flows, check=check, seed=1, examples=150
        )
    )


def test_all_or_nothing():
    search(journey)


def test_a_step_that_is_not_undone_is_found():
    with pytest.raises(AssertionError):
        search(forgets)
