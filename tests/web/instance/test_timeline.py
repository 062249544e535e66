"""What a timeline shows of a history, its axis, and its picture."""

# mypy: ignore-errors

from __future__ import annotations

import math
import re
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from tests.web.instance.histories import (
    START,
    digest_of,
    done,
    raw,
    run,
    started,
    timeline,
    turns_of,
)
from trioflow._client.description import ActivityDescription
from trioflow._codec.failures.failures import Failure
from trioflow._model import commands as co
from trioflow._model import events as ev
from trioflow._model.turns import Cancelled, Completed, Continued, Failed, Reset, Turn, encode_turn
from trioflow.backends.records import ActivityKey
from trioflow.web._instance.drawing import draw
from trioflow.web._instance.scale import Piece, Scale, offset, scale_of

HOSTILE = "<script>alert('1')</script>\" onload=x & ]]>"
FAILURE = Failure(type="shop.Declined", message="no\nmoney")


def shown(bars):
    return [
        (bar.kind, bar.name, bar.start - START, bar.end and bar.end - START, bar.status)
        for bar in bars
    ]


def pending(id, attempt, failure=None):
    return ActivityDescription(
        key=ActivityKey("i", 1, id),
        activity="charge",
        queue="default",
        priority=0,
        attempt=attempt,
        scheduled_at=START,
        input={},
        options=None,
        failure=failure,
    )


# --- bars and marks --------------------------------------------------------------------------


def test_each_call_is_a_bar_from_its_command_to_its_answer():
    seen = timeline(
        (0, [started()], [run("0:0"), co.StartChild("0:1", "ship", "i/1", raw())]),
        (2, [done("0:0")], [co.SendSignal("0:2", "other", "note", raw())]),
        (3, [ev.ChildFailed("0:1", FAILURE), ev.SignalSent("0:2")], [run("0:3", "pack")]),
        (5, [ev.ActivityCancelled("0:3", "too late")], [], Completed(result=raw())),
    )
    assert shown(seen.bars) == [
        ("activity", "charge", 0, 2, "completed"),
        ("sub-workflow", "ship", 0, 3, "failed"),
        ("signal sent", "note", 2, 3, "completed"),
        ("activity", "pack", 3, 5, "cancelled"),
    ]
    assert seen.bars[1].note == "Declined: no money"
    assert seen.bars[1].instance == "i/1"
    assert (seen.status, seen.end) == ("completed", START + 5)
    assert seen.turns == [START, START + 2, START + 3, START + 5]


def test_what_lasts_says_its_attempt_and_its_last_failure():
    steps = ((0, [started()], [run("0:0"), run("0:1"), run("0:2")]),)
    seen = timeline(*steps, activities=[pending("0:0", 3, FAILURE), pending("0:1", 1)])
    assert [(bar.status, bar.attempt, bar.end) for bar in seen.bars] == [
        ("retrying", 3, None),
        ("running", 1, None),
        ("running", 0, None),
    ]
    assert seen.bars[0].note == "attempt 2: Declined: no money"
    assert seen.end is None


def test_what_an_execution_has_left_behind_ends_with_it():
    steps = ((0, [started()], [run("0:0")]), (7, [ev.Woken()], [], Continued(input=raw())))
    (bar,) = timeline(*steps).bars
    assert (bar.status, bar.end) == ("left", START + 7)
    (bar,) = timeline(steps[0], ended=True).bars  # it was terminated
    assert (bar.status, bar.end) == ("left", START)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Completed(result=raw()), "completed"),
        (Failed(failure=FAILURE), "failed"),
        (Cancelled(), "cancelled"),
        (Continued(input=raw()), "continued"),
    ],
)
def test_the_status_is_that_of_the_execution(outcome, status):
    assert timeline((0, [started()], [], outcome)).status == status


def test_an_execution_that_was_left_by_a_reset_says_so():
    digest = digest_of((0, [started()], [run("0:0")]))
    digest.add([encode_turn(Turn(START + 1, [], reset=Reset(0, "wrong")))])
    assert digest.reader.status == "left"


def test_an_update_is_a_bar_from_its_request_to_its_answer():
    seen = timeline(
        (0, [started(carried=[ev.UpdateRequested("r0", "add", raw(1))])], []),
        (1, [ev.UpdateRequested("r1", "add", raw(1))], [co.AnswerUpdate("u0:0", "r0", "add")]),
        (2, [], [co.AnswerUpdate("u1:0", "r1", "add", failure=FAILURE)]),
    )
    assert shown(seen.bars) == [
        ("update", "add", 0, 1, "completed"),
        ("update", "add", 1, 2, "failed"),
    ]


def test_what_instances_share_is_waited_for_and_then_held():
    steps = [
        (0, [started()], [co.ClaimShared("0:0", "lock:a")]),
        (4, [ev.RequestDone("0:0")], []),
        (9, [ev.Woken()], [co.ReleaseShared("0:0", "lock:a")]),
    ]
    (waiting,) = timeline(*steps[:1]).bars
    (held,) = timeline(*steps[:2]).bars
    (over,) = timeline(*steps).bars
    assert waiting.name == "lock 'a'"
    assert (waiting.status, waiting.held_at) == ("waiting", None)
    assert (held.status, held.held_at, held.end) == ("running", START + 4, None)
    assert (over.status, over.end) == ("completed", START + 9)


def test_moments_are_marks():
    seen = timeline(
        (0, [started(carried=[ev.SignalReceived("early", raw())])], []),
        (1, [ev.SignalReceived("note", raw()), ev.Woken()], [co.EmitValue("0:0", "log", raw())]),
        (2, [ev.PromiseRejected("secret", FAILURE)], [co.RecordSideEffect("0:1")]),
        (3, [ev.CancelRequested("stop")], []),
    )
    assert [(mark.kind, mark.name, mark.turn, mark.bad) for mark in seen.marks] == [
        ("signal", "early", 0, False),
        ("signal", "note", 1, False),
        ("timer", "", 1, False),
        ("stream", "log", 1, False),
        ("promise", "rejected", 2, True),
        ("side effect", "", 2, False),
        ("cancel", "", 3, False),
    ]
    assert "secret" not in draw(seen).svg


def test_events_have_the_times_at_which_they_came():
    turn = Turn(START + 9, [done("0:0"), ev.Woken()], at=[START + 3, START + 4])
    digest = digest_of((0, [started()], [run("0:0")]))
    digest.add([encode_turn(turn)])
    assert next(iter(digest.reader.bars.values())).end == START + 3
    assert digest.reader.marks[0].at == START + 4


def test_a_turn_that_cannot_be_read_is_left_out():
    digest = digest_of((0, [started()], [run("0:0")]))
    digest.add([b"{broken", *(encode_turn(turn) for turn in turns_of((2, [done("0:0")], [])))])
    assert digest.reader.unread == 1
    assert digest.turns == 3
    assert next(iter(digest.reader.bars.values())).end == START + 2


def test_bars_come_in_parts():
    steps = [(0, [started()], []), *((n, [], [run(f"0:{n}")]) for n in range(1, 8))]
    seen = timeline(*steps, first=2, limit=3)
    assert [bar.id for bar in seen.bars] == ["0:3", "0:4", "0:5"]
    assert (seen.first, seen.total) == (2, 7)


# --- the axis ----------------------------------------------------------------------------------


def places(seen, *times, **options):
    scale = scale_of(seen, **options)
    return [round(scale.at(START + time), 3) for time in times]


def test_times_are_places_from_left_to_right():
    seen = timeline((0, [started()], [run("0:0")]), (10, [done("0:0")], []), ended=True)
    assert places(seen, 0, 2.5, 10) == [0, 25, 100]
    assert places(seen, -5, 15) == [0, 100]


def test_a_long_time_without_anything_is_cut_short():
    day = 86_400.0
    steps = [(0, [started()], [run("0:0")]), (1, [done("0:0")], [])]
    steps += [(day, [ev.Woken()], [run("0:1")]), (day + 1, [done("0:1")], [])]
    seen = timeline(*steps, ended=True)
    scale = scale_of(seen)
    assert [piece.cut for piece in scale.pieces] == [False, True, False]
    assert places(seen, 1, day) == [47.5, 52.5]
    assert places(seen, 1, day, true_scale=True) == [0.001, 99.999]


def test_times_that_are_all_alike_are_not_cut():
    steps = [(5 * n, [started() if n == 0 else ev.Woken()], []) for n in range(20)]
    seen = timeline(*steps, ended=True)
    assert not any(piece.cut for piece in scale_of(seen).pieces)


def test_an_activity_that_takes_long_is_not_cut_for_others_that_do_not():
    steps = [(0, [started()], [run("0:0")]), (0.01, [done("0:0")], [run("0:1")])]
    seen = timeline(*steps, (120, [done("0:1")], []), ended=True)
    assert not any(piece.cut for piece in scale_of(seen).pieces)


def test_the_next_wake_up_belongs_to_the_axis():
    seen = timeline((0, [started()], [run("0:0")]), now=60.0, wakes_at=START + 1_000_000)
    scale = scale_of(seen)
    assert scale.end == START + 1_000_000
    assert scale.at(START + 60) > 90
    assert "wakes at" in draw(seen).svg


@pytest.mark.parametrize("wakes_at", [1e12, float(sys.maxsize), 1e300, 1.7e308, math.inf, math.nan])
@pytest.mark.parametrize("true_scale", [False, True])
def test_a_wake_up_that_is_very_far_away_can_be_drawn(wakes_at, true_scale):
    seen = timeline((0, [started()], [run("0:0")]), (9, [done("0:0")], []), wakes_at=wakes_at)
    ticks = scale_of(seen, true_scale=true_scale).ticks()
    assert 0 < len(ticks) < 20
    assert all(len(tick.label) < 20 for tick in ticks)
    assert len(draw(seen, true_scale=true_scale).svg) < 10_000


def test_the_lines_of_the_axis_end_though_times_cannot_be_told_apart():
    assert len(list(Scale([Piece(1e300, math.nextafter(1e300, 2e300), 0, 100)]).ticks())) < 20


@pytest.mark.parametrize("times", [[0.0], [0, 0, 0], [0, 1e-6, 5e5, 1e9], [0, 3, 3, 1e6, 2e6, 9e6]])
def test_places_never_go_backwards(times):
    steps = [(at, [started() if not n else ev.Woken()], []) for n, at in enumerate(times)]
    seen = timeline(*steps, now=times[-1])
    scale = scale_of(seen)
    found = [scale.at(START + at) for at in times]
    assert found == sorted(found)
    assert all(0 <= place <= 100 for place in found)
    pieces = scale.pieces
    assert all(a.end == b.start for a, b in pairwise(pieces))
    assert pieces[-1].x + pieces[-1].width == pytest.approx(100)
    labels = [tick.x for tick in scale.ticks()]
    assert labels == sorted(labels)
    draw(seen)


def test_ticks_are_round_and_do_not_run_into_each_other():
    seen = timeline((0, [started()], [run("0:0")]), (100, [done("0:0")], []), ended=True)
    ticks = scale_of(seen).ticks()
    assert [tick.label for tick in ticks[:4]] == ["0", "+15 s", "+30 s", "+45 s"]
    assert all(b.x - a.x >= 6 for a, b in pairwise(ticks))


@pytest.mark.parametrize(
    ("seconds", "step", "text"),
    [
        (0, 1, "0 s"),
        (0.05, 0.01, "50 ms"),
        (16.8, 0.2, "16.8 s"),
        (150, 30, "2m 30s"),
        (90_000, 3600, "1d 1h"),
        (90_000.5, 0.5, "1d 1h 0.5s"),
        (2e9, 1e9, "23148d"),
        (1e300, 1e299, "1.16e+295d"),
    ],
)
def test_an_offset_is_as_exact_as_its_step(seconds, step, text):
    assert offset(seconds, step) == text


# --- the picture -------------------------------------------------------------------------------


def parsed(drawing):
    return ET.fromstring(drawing.svg)


def test_a_picture_is_well_formed_and_its_texts_are_texts():
    child = co.StartChild("0:1", HOSTILE, HOSTILE, raw())
    seen = timeline(
        (0, [started()], [run("0:0", HOSTILE), child, co.EmitValue("0:2", HOSTILE, raw())]),
        (1, [ev.SignalReceived(HOSTILE, raw())], []),
        (2, [ev.ActivityFailed("0:0", Failure(type="E", message=HOSTILE))], []),
    )
    root = parsed(draw(seen))
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names <= {"svg", "g", "rect", "line", "text", "circle", "title"}
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not {name for name in attributes if name.startswith("on") or name == "style"}
    titles = "\n".join(
        element.text or "" for element in root.iter() if element.tag.endswith("title")
    )
    assert f"activity {HOSTILE} (0:0): failed" in titles
    assert f"E: {HOSTILE}" in titles
    assert draw(seen).rows[0].label == HOSTILE


def test_few_bars_have_a_row_each_and_many_share_them():
    few = timeline((0, [started()], [run(f"0:{n}") for n in range(3)]))
    assert [row.id for row in draw(few).rows] == ["0:0", "0:1", "0:2"]
    steps = [(0, [started()], [run("0.0:0", "a"), run("0.1:0", "b")])]
    for n in range(1, 251):
        commands = [run(f"0.0:{n}", "a"), run(f"0.1:{n}", "b")]
        steps.append((n, [done(f"0.0:{n - 1}"), done(f"0.1:{n - 1}")], commands))
    drawing = draw(timeline(*steps, now=251.0))
    assert [(row.label, len(row.lanes)) for row in drawing.rows] == [("a", 1), ("b", 1)]
    assert drawing.rows[0].note.endswith(" 250")
    assert drawing.left_out == 0
    heights = sum(row.height for row in drawing.rows)
    assert heights < 100


def test_bars_that_overlap_have_lanes_of_their_own():
    steps = [(0, [started()], [run(f"0.{n}:0") for n in range(100)])]
    (row,) = draw(timeline(*steps)).rows
    assert len(row.lanes) == 100
    assert row.height == 100 * row.lane + 6
    drawing = draw(timeline((0, [started()], [run(f"0.{n}:0") for n in range(400)])))
    assert (len(drawing.rows[0].lanes), drawing.left_out) == (150, 250)


def test_very_many_marks_are_drawn_as_some():
    steps = [(n / 10, [ev.SignalReceived("note", raw())], []) for n in range(10_000)]
    drawing = draw(timeline((0, [started()], []), *steps, ended=True))
    assert drawing.svg.count("<circle") <= 701
    assert "and 14 more until" in drawing.svg


def test_what_failed_has_a_sign_and_not_only_a_colour():
    seen = timeline((0, [started()], [run("0:0")]), (1, [ev.ActivityFailed("0:0", FAILURE)], []))
    assert "\N{MULTIPLICATION X}</text>" in draw(seen).svg
    assert re.search(r"Timeline of .*1 bars of 1, 1 failed", draw(seen).said)
