"""What a reset keeps, gives back and undoes, planned from turns alone."""

from __future__ import annotations

import msgspec
import pytest

from trioflow._client.failing import first_turn_of_failure
from trioflow._client.resetting import Plan
from trioflow._codec.failures.failures import Failure
from trioflow._model import commands as cm
from trioflow._model import events as ev
from trioflow._model.randomness import RandomSource
from trioflow._model.turns import Cancelled, Turn, decode_turn, encode_turn
from trioflow.backends.records import InstanceRecord, StoredMessage

NOTHING = msgspec.Raw(b"null")
STARTED = ev.Started("flow", NOTHING)


def ask(id):
    return cm.RunActivity(id, "act", NOTHING)


def signal(name):
    return ev.SignalReceived(name, NOTHING)


def row(id="a", *, status="running", parent=None, turns=0, outcome=b""):
    return InstanceRecord(
        id=id,
        execution=3,
        workflow="flow",
        queue="q",
        status=status,
        parent=parent,
        turns=turns,
        events=0,
        unread=0,
        ready_at=None,
        worker=None,
        input=b"",
        metadata=b"",
        outcome=outcome,
        custom_status=b"",
        created_at=0.0,
        finished_at=None,
    )


def planned(turns, keep, inbox=(), *, status="running", children=(), again=()):
    """Return the plan of a reset of an instance, which has these sub-workflows open."""
    rows = [StoredMessage(n, ev.encode_event(event), at) for n, (event, at) in enumerate(inbox)]
    record = row(status=status, turns=len(turns))
    stored = [encode_turn(turn) for turn in turns]
    plan = Plan(record, stored, turns, keep, rows, again=again)
    assert plan.open_children() == [child.id for child in children]
    plan.reset({child.id: child for child in children}, RandomSource())
    return plan.beginning


def came(beginning):
    return [(ev.decode_event(one.event), one.at, one.own) for one in beginning.inbox]


def test_what_was_received_keeps_its_order_though_clocks_are_apart():
    turns = [
        Turn(1.0, [STARTED]),
        Turn(9.0, [signal("a")]),  # by the clock of its worker
        Turn(9.5, [signal("b"), ev.Woken()], at=[7.0, 9.2]),
    ]
    inbox = [(signal("c"), 0.0), (signal("d"), 8.0)]
    assert came(planned(turns, 1, inbox)) == [
        (signal("a"), 7.0, False),
        (signal("b"), 7.0, False),
        (signal("c"), 0.0, False),
        (signal("d"), 8.0, False),
    ]


def test_answers_to_what_is_kept_come_back_and_no_others():
    kept = ev.ActivityCompleted("0:0", NOTHING)
    dropped = ev.ActivityCompleted("0:2", NOTHING)
    unread = ev.ActivityFailed("0:1", Failure(type="E"))
    turns = [
        Turn(1.0, [STARTED], [ask("0:0"), ask("0:1"), ask("0:3")]),
        Turn(2.0, [signal("a")], [ask("0:2")]),
        Turn(3.0, [kept, dropped]),
    ]
    begin = planned(turns, 1, [(unread, 4.0)])
    assert came(begin) == [(signal("a"), 2.0, False), (kept, 3.0, True), (unread, 4.0, True)]
    assert [new.command for new in begin.activities] == ["0:3"]
    assert msgspec.json.decode(begin.activities[0].options) == {"execution": 3}
    (first,) = map(decode_turn, begin.turns)
    assert first.events[0].origins == [ev.Origin("a", 3, 1)]
    assert (begin.events, begin.wake_at) == (4, 1.0)


def test_what_dropped_turns_cancelled_begins_anew():
    cancelled = ev.ActivityCancelled("0:0")
    turns = [
        Turn(1.0, [STARTED], [ask("0:0"), ask("0:1")]),
        Turn(2.0, [signal("a")], [cm.CancelActivity("0:1")]),
        Turn(3.0, [signal("b")], [cm.CancelActivity("0:0")]),
        Turn(4.0, [cancelled]),
    ]
    begin = planned(turns, 2)
    # That of the turn that is kept is cancelled, though nobody has said so yet.
    assert came(begin) == [(signal("b"), 3.0, False), (ev.ActivityCancelled("0:1"), 2.0, True)]
    assert [new.command for new in begin.activities] == ["0:0"]


@pytest.mark.parametrize("status", ["running", "cancelled"])
def test_a_sub_workflow_that_a_dropped_turn_cancelled_begins_anew(status):
    """Whether it is about to end or has ended already, unheard."""
    turns = [
        Turn(1.0, [STARTED], [cm.StartChild("0:0", "flow", "kid", NOTHING)]),
        Turn(2.0, [signal("a")], [cm.CancelChild("0:0", "kid")]),
    ]
    ended = msgspec.json.encode(Cancelled())
    kid = row("kid", status=status, parent=ev.ParentRef("a", 3, "0:0"), outcome=ended)
    begin = planned(turns, 1, children=[kid])
    assert came(begin) == [(signal("a"), 2.0, False)]
    assert [child.id for child in begin.children] == ["kid"]
    # Where that turn is kept, it is waited for, or its end is the answer.
    begin = planned(turns, 2, children=[kid])
    assert [type(event) for event, _, _ in came(begin)] == (
        [] if status == "running" else [ev.ChildCancelled]
    )
    assert begin.children == []


def test_a_failure_of_what_the_kept_turns_have_cancelled_is_not_tried_again():
    failed = ev.ActivityFailed("0:0", Failure(type="E"))
    turns = [
        Turn(1.0, [STARTED], [ask("0:0")]),
        Turn(2.0, [signal("a")], [cm.CancelActivity("0:0")]),
        Turn(3.0, [failed, signal("b")]),
    ]
    begin = planned(turns, 2, again={"0:0"})
    assert came(begin) == [(failed, 3.0, True), (signal("b"), 3.0, False)]
    assert begin.activities == []
    begin = planned(turns, 1, again={"0:0"})
    assert came(begin) == [(signal("a"), 2.0, False), (signal("b"), 3.0, False)]
    assert [new.command for new in begin.activities] == ["0:0"]


def test_a_cancel_that_has_ended_it_is_forgotten():
    asked, later = ev.CancelRequested("enough"), ev.CancelRequested("and again")
    turns = [Turn(1.0, [STARTED]), Turn(2.0, [asked])]
    assert came(planned(turns, 1)) == [(asked, 2.0, False)]
    assert came(planned(turns, 1, status="cancelled")) == []
    assert came(planned(turns, 1, [(later, 3.0)])) == [(asked, 2.0, False), (later, 3.0, False)]


def test_a_second_reset_knows_who_has_made_the_turns():
    began = msgspec.structs.replace(STARTED, origins=[ev.Origin("a", 1, 2), ev.Origin("a", 2, 3)])
    turns = [Turn(1.0, [began]), *(Turn(2.0 + n, [signal("s")]) for n in range(4))]

    def origins(keep):
        first = decode_turn(planned(turns, keep).turns[0])
        return [(one.execution, one.turns) for one in first.events[0].origins]

    assert origins(5) == [(1, 2), (2, 3), (3, 5)]
    assert origins(3) == [(1, 2), (2, 3)]
    assert origins(1) == [(1, 1)]


def test_where_a_failure_began():
    turns = [
        Turn(1.0, [STARTED], [ask("0.0:0"), ask("0.1:0")]),
        Turn(2.0, [ev.ActivityCompleted("0.0:0", NOTHING)], [cm.CancelActivity("0.1:0")]),
        Turn(3.0, [ev.ActivityCancelled("0.1:0")]),
    ]
    assert first_turn_of_failure(turns) == 1
    assert first_turn_of_failure(turns[:2]) == 1
    assert first_turn_of_failure(turns[:1]) == 0
    turns[2] = Turn(3.0, [ev.ActivityCancelled("0.1:0"), signal("a")])
    assert first_turn_of_failure(turns) == 2


def test_what_others_were_asked_counts_as_done_if_a_terminate_took_the_answer():
    start = cm.StartDetached("0:2", "child", "flow", "q", NOTHING)
    turns = [
        Turn(1.0, [STARTED], [cm.SendSignal("0:0", "b", "s", NOTHING), ask("0:1")]),
        Turn(2.0, [ev.SignalSent("0:0")], [cm.SendSignal("0:3", "b", "s", NOTHING), start]),
    ]
    done = [(ev.SignalSent("0:3"), 2.0, False), (ev.RequestDone("0:2"), 2.0, False)]
    assert came(planned(turns, 2)) == done
    assert came(planned(turns, 1)) == [(ev.SignalSent("0:0"), 2.0, False)]
    refused = ev.SignalFailed("0:3", Failure(type="E"))
    unread = [(refused, 3.0), (ev.RequestDone("0:2"), 3.0)]
    assert [event for event, _, _ in came(planned(turns, 2, unread))] == [
        each for each, _ in unread
    ]
