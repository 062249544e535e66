"""What a round checks is broken here on purpose, one thing after the other: each is noticed."""

# mypy: ignore-errors

from __future__ import annotations

import re
from dataclasses import replace

import msgspec
import pytest
import trio

from tests.races.calls import Told
from tests.races.checks import check, read_log, read_store, story
from tests.races.flows import LOG, drains, family, numbers, registry
from tests.races.plans import draw
from trioflow import open_worker
from trioflow._model import events as ev
from trioflow._model.commands import CancelActivity
from trioflow._model.turns import Completed
from trioflow.backends.records import ParentRef

changed = msgspec.structs.replace


class Round:
    """What a round without faults leaves."""

    def __init__(self, plan, told, log, histories):
        self.plan, self.told, self.log, self.histories = plan, told, log, histories

    def faults(self):
        return list(check(self.plan, self.told, self.log, self.histories))

    def at(self, workflow):
        return next(i for i, one in enumerate(self.histories) if one.record.workflow == workflow)

    def record(self, workflow, **changes):
        """Change an instance's row."""
        at = self.at(workflow)
        one = self.histories[at]
        self.histories[at] = replace(one, record=changed(one.record, **changes))

    def turn(self, workflow, number, **changes):
        """Change one of its turns."""
        turns = self.histories[self.at(workflow)].turns
        turns[number] = changed(turns[number], **changes)

    def turns(self, workflow):
        return self.histories[self.at(workflow)].turns


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Make a round of one family and one that drains."""
    log = tmp_path_factory.mktemp("round") / "log"
    told = Told()

    async def main():
        async with open_worker(
            "memory://", registry=registry, queues=["default", "other"]
        ) as worker:
            client = worker.client
            parent = await client.start(family.options(id="family"), "t1", 2)
            drain = await client.start(drains.options(id="drains-0"), "t2", [])
            await drain.signal(numbers, 5)
            told.accepted["drains-0"] = [5]
            told.started.update({"family": ["t1"], "drains-0": ["t2"]})
            with trio.fail_after(30):
                await parent.result()
                await drain.result()
            return await read_store(client.backend)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(LOG, str(log))
        histories = trio.run(main)
    return draw(1, proxied=False, chaos="none"), told, read_log(log), histories


@pytest.fixture
def left_over(left):
    plan, told, log, histories = left
    copies = [replace(one, turns=list(one.turns)) for one in histories]
    return Round(plan, told, list(log), copies)


def completed(turns):
    """Return the number of the first turn with an activity's result, and that."""
    return next(
        (number, event)
        for number, turn in enumerate(turns)
        for event in turn.events
        if isinstance(event, ev.ActivityCompleted)
    )


def test_a_round_without_faults_has_none(left_over):
    assert left_over.faults() == []
    assert "Started" in story(left_over.histories[0])


# --- each of the rules, broken --------------------------------------------------------------------


def not_ended(left):
    left.record("drains", status="running")


def suspended(left):
    left.record("drains", status="suspended", outcome=b'{"kind":"engine"}')


def held(left):
    left.record("drains", worker="somebody")


def unread(left):
    left.record("drains", unread=2)


def failed(left):
    left.record("drains", status="failed", outcome=b'{"outcome":"failed"}')


def outlived(left):
    record = left.histories[left.at("family")].record
    ref = ParentRef(record.id, record.execution, "0:0", record.life)
    left.record("drains", parent=ref, finished_at=record.finished_at + 1)


def headless(left):
    del left.turns("drains")[0]


def diverged(left):
    left.turn("family", 0, commands=[])


def endless(left):
    turns = left.turns("drains")
    turns[-1] = changed(turns[-1], outcome=None)


def undead(left):
    turns = left.turns("drains")
    turns.insert(0, changed(turns[0], outcome=turns[-1].outcome))


def answered_twice(left):
    number, event = completed(left.turns("drains"))
    left.turn("drains", number, events=[*left.turns("drains")[number].events, event])


def answered_unasked(left):
    number, event = completed(left.turns("drains"))
    left.turn("drains", number, events=[changed(event, id="0.9:9")])


def invented(left):
    number, event = completed(left.turns("drains"))
    left.turn("drains", number, events=[changed(event, result=msgspec.Raw(b'"invented"'))])


def begun_after_its_cancel(left):
    number, turn = next((n, turn) for n, turn in enumerate(left.turns("drains")) if turn.commands)
    cancel = CancelActivity(turn.commands[0].id)
    left.turn("drains", number, now=turn.now - 60, commands=[*turn.commands, cancel])


def start_lost(left):
    left.told = replace(left.told, started={"race-1": ["t99"]})


def signal_lost(left):
    left.told = replace(left.told, accepted={"drains-0": [5, 6]})


def signal_doubled(left):
    turns = left.turns("drains")
    turns[-1] = changed(turns[-1], outcome=Completed(msgspec.Raw(b"[5,5]")))


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (not_ended, "has not ended"),
        (suspended, "is suspended"),
        (held, "has ended and has a worker"),
        (unread, "has ended with 2 messages in its inbox"),
        (failed, "drains drains-0 failed"),
        (outlived, "ended at .*, its parent at"),
        (headless, "does not begin with Started"),
        (diverged, "does not replay: .*match its history"),
        (endless, "is completed, and its history has no end"),
        (undead, "goes on after its end"),
        (answered_twice, "has two answers to"),
        (answered_unasked, "has an answer to 0.9:9, which it never asked for"),
        (invented, "has a result of .* that nobody had: invented"),
        (begun_after_its_cancel, "began .* s after its cancel"),
        (start_lost, "the start of race-1 with t99 was accepted, and nothing is left of it"),
        (signal_lost, r"drains-0 has lost accepted signals: \[6\]"),
        (signal_doubled, r"drains-0 got signals twice: \[5\]"),
    ],
    ids=lambda param: getattr(param, "__name__", ""),
)
def test_what_is_broken_is_noticed(left_over, breaks, said):
    breaks(left_over)
    faults = "\n".join(left_over.faults())
    assert re.search(said, faults), faults
