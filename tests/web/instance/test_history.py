"""A history line by line: what is found, which turns are read for it, what cannot be decoded."""

# mypy: ignore-errors

from __future__ import annotations

import msgspec
import pytest

from tests.web.instance.histories import START, digest_of, done, raw, run, started, turns_of
from trioflow import JsonCodec, Undecodable, open_client
from trioflow._codec.failures.failures import Failure
from trioflow._model import commands as co
from trioflow._model import events as ev
from trioflow._model.turns import Completed, encode_turn
from trioflow.backends import MemoryBackend
from trioflow.web._instance import digest as digests
from trioflow.web._instance.facts import KINDS, Wanted, fact_of, lines_of, tag_of, things_of
from trioflow.web._instance.history import read_page

FAILURE = Failure(type="shop.Declined", message="no money")
STEPS = (
    (0, [started(rules=7, seed="s")], [run("0:0"), co.StartChild("0:1", "ship", "i/7", raw())]),
    (1, [done("0:0", {"receipt": 1})], [run("0:2", "pack", "o-1")]),
    (2, [ev.ActivityFailed("0:2", FAILURE), ev.ChildCompleted("0:1", raw())], []),
    (3, [ev.Woken()], [], Completed(result=raw("sent"))),
)


def said(lines):
    return [(line.turn, line.index, line.tag, line.name) for line in lines]


def test_every_event_command_and_outcome_is_a_line():
    assert said(digest_of(*STEPS).lines) == [
        (0, 0, "started", "order"),
        (0, 1, "run activity", "charge"),
        (0, 2, "start child", "ship"),
        (1, 0, "activity completed", "charge"),
        (1, 1, "run activity", "pack"),
        (2, 0, "activity failed", "pack"),
        (2, 1, "child completed", "ship"),
        (3, 0, "woken", ""),
        (3, 1, "completed", ""),
    ]


def test_a_line_that_cannot_be_read_says_so():
    digest = digest_of(*STEPS[:1])
    digest.add([b"\xff"])
    assert said(digest.lines)[-1] == (1, 0, "unreadable", "")
    assert digest.lines[-1].bad


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 9),
        ({"kind": "activities"}, 4),
        ({"kind": "sub-workflows"}, 2),
        ({"kind": "no such kind"}, 0),
        ({"name": "PACK"}, 2),
        ({"name": "0:1"}, 2),
        ({"name": "i/7"}, 1),
        ({"failed": True}, 1),
        ({"failed": True, "name": "charge"}, 0),
    ],
)
def test_lines_are_found_by_kind_name_and_failure(wanted, count):
    assert len(digest_of(*STEPS).found(Wanted(**wanted))) == count


def test_the_place_of_a_turn_counts_what_is_wanted():
    digest = digest_of(*STEPS)
    assert digest.place(2, Wanted()) == 5
    assert digest.place(2, Wanted(kind="timers")) == 0
    assert digest.place(99, Wanted()) == 9


def test_every_kind_of_fact_is_of_one_kind():
    tags = [tag for kind in KINDS.values() for tag in kind]
    assert len(tags) == len(set(tags))
    known = {
        str(each.__struct_config__.tag)
        for union in (ev.Event, co.Command)
        for each in union.__args__
    }
    assert known - set(tags) == set()


def test_a_line_says_what_is_in_it():
    turn = turns_of(STEPS[0])[0]
    lines = lines_of(0, turn, {})
    facts = [fact_of(*each) for each in zip(lines, [turn] * 3, things_of(turn), strict=True)]
    assert [fact.side for fact in facts] == ["event", "command", "command"]
    assert [fact.now for fact in facts] == [START] * 3
    assert facts[0].more == {"rules": 7}  # the seed is of no use to people
    assert facts[2].instance == "i/7"
    assert bytes(facts[1].value) == b'{"order":null}'


def test_a_promise_shows_no_secret():
    (turn,) = turns_of((0, [ev.PromiseResolved("0123456789abcdef", raw(1))], []))
    (line,) = lines_of(0, turn, {})
    assert fact_of(line, turn, turn.events[0]).more == {"promise": "012345\N{HORIZONTAL ELLIPSIS}"}


def test_tags_are_those_that_are_stored():
    assert tag_of(ev.Woken()) == "woken"
    assert tag_of(run("0:0")) == "run activity"


# --- reading -----------------------------------------------------------------------------------


class Stored:
    """A store that has one history, and counts the turns that are read."""

    def __init__(self, *steps):
        self.turns = [encode_turn(turn) for turn in turns_of(*steps)]
        self.read = []

    async def turns_from(self, instance, execution, first, *, limit):
        found = self.turns[first : first + limit]
        self.read += range(first, first + len(found))
        return found


class Reader:
    """What of a client is needed to read a history."""

    def __init__(self, stored, codec=None):
        self.backend = stored
        self.codec = codec or JsonCodec()


async def test_what_was_read_is_not_read_again():
    stored = Stored(*STEPS[:2])
    client = Reader(stored)
    first = await digests.digest_of(client, "i", "life", 1)
    assert (first.turns, stored.read) == (2, [0, 1])
    stored.turns += Stored(*STEPS).turns[2:]
    again = await digests.digest_of(client, "i", "life", 1)
    assert again is first
    assert (again.turns, stored.read) == (4, [0, 1, 2, 3])
    assert again.lines[-4].name == "pack"  # the command was in a turn that was read before
    other = await digests.digest_of(client, "i", "another life", 1)
    assert other is not first


async def test_histories_are_forgotten_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(digests, "_KEPT", 12)
    stored = Stored(*STEPS)
    client = Reader(stored)
    first = await digests.digest_of(client, "a", "", 1)
    await digests.digest_of(client, "b", "", 1)
    assert await digests.digest_of(client, "a", "", 1) is not first


async def page(stored, wanted=None, first=0, limit=3, codec=None, **options):
    client = Reader(stored, codec)
    digest = await digests.digest_of(client, "i", "", 1)
    stored.read.clear()
    return await read_page(client, "i", 1, digest, wanted or Wanted(), first, limit, **options)


async def test_a_page_reads_its_own_turns():
    steps = [(n, [ev.SignalReceived("note", raw(n))], []) for n in range(1, 1000)]
    stored = Stored((0, [started()], []), *steps)
    found = await page(stored, first=500)
    assert [fact.value for fact in found.facts] == [500, 501, 502]
    assert (found.first, found.found, found.lines, found.turns) == (500, 1000, 1000, 1000)
    assert stored.read == [500, 501, 502]


async def test_the_last_lines_may_come_first():
    found = await page(Stored(*STEPS), backwards=True)
    assert [fact.tag for fact in found.facts] == ["completed", "woken", "child completed"]
    rest = await page(Stored(*STEPS), first=6, backwards=True)
    assert [fact.tag for fact in rest.facts] == ["start child", "run activity", "started"]


async def test_a_page_behind_the_end_is_the_last_line():
    found = await page(Stored(*STEPS), first=10**9)
    assert [fact.tag for fact in found.facts] == ["completed"]
    assert (await page(Stored())).facts == []


async def test_turns_far_from_each_other_are_read_by_themselves():
    steps = [(n, [ev.SignalReceived("note", raw(n))], []) for n in range(1, 100)]
    steps[9] = (10, [ev.Woken()], [])
    steps[79] = (80, [ev.Woken()], [])
    stored = Stored((0, [started()], []), *steps)
    found = await page(stored, Wanted(kind="timers"))
    assert [fact.turn for fact in found.facts] == [10, 80]
    assert stored.read == [10, 80]


class Sealing(JsonCodec):
    """A codec that cannot read anything."""

    def decode(self, data, type, **_):
        raise ValueError("no <key>")


async def test_what_cannot_be_decoded_is_shown_as_that():
    found = await page(Stored(*STEPS), limit=9, codec=Sealing())
    values = [fact.value for fact in found.facts if fact.has_value]
    assert values
    assert {type(value) for value in values} == {Undecodable}
    assert msgspec.json.encode(found)  # the API gives the same


async def test_a_turn_that_is_gone_is_shown_as_that():
    stored = Stored(*STEPS)
    client = Reader(stored)
    digest = await digests.digest_of(client, "i", "", 1)
    stored.turns.clear()
    found = await read_page(client, "i", 1, digest, Wanted())
    assert {fact.value.why for fact in found.facts} == {"it has been removed since"}


async def test_a_history_of_a_real_store_is_read(tmp_path):
    async with open_client(MemoryBackend()) as client:
        digest = await digests.digest_of(client, "nobody", "", 1)
    assert (digest.turns, digest.lines) == (0, [])
