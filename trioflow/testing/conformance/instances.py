"""Conformance: creating, taking, and being woken."""

# ruff: noqa: D103, PLR2004 - assertions; a case is described by its name

from __future__ import annotations

from functools import partial

import anyio
import anyio.lowlevel

from trioflow._model.events import ParentRef
from trioflow.backends.commits import InstanceCommit, Message
from trioflow.backends.records import StoredMessage
from trioflow.testing.conformance.stage import DONE, LEASE, Case, Stage, events, new, seqs, step


async def created_instances_are_there(stage: Stage) -> None:
    backend = stage.backend
    parent = ParentRef("gone", 3, "0:1")
    fields = {"input": b"[7]", "metadata": b'{"a":"b"}', "workflow": "w", "queue": "q"}
    assert await backend.create([new("a", parent=parent, **fields), new("b")]) == [True, True]
    row = await stage.record("a")
    assert (row.execution, row.workflow, row.queue, row.status) == (1, "w", "q", "running")
    assert (row.parent, row.input, row.metadata) == (parent, b"[7]", b'{"a":"b"}')
    assert (row.turns, row.events, row.unread, row.worker) == (0, 0, 0, None)
    assert (row.outcome, row.custom_status, row.finished_at) == (b"", b"", None)
    assert row.ready_at is not None
    assert row.created_at <= backend.now() + 1
    assert (await stage.record("b")).parent is None
    assert await backend.get("c") is None


async def an_id_is_used_once_at_a_time(stage: Stage) -> None:
    backend = stage.backend
    await stage.create("a", input=b"[1]")
    assert await backend.create([new("a", input=b"[2]"), new("b")]) == [False, True]
    assert (await stage.record("a")).input == b"[1]"
    assert await backend.create([new("c"), new("c")]) == [True, False]


async def a_suspended_id_is_taken(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    await stage.stored(step("a", 0, suspended=b"{}", leased=False))
    assert await stage.backend.create([new("a")]) == [False]


async def nothing_ready_gives_nothing(stage: Stage) -> None:
    await stage.workers("w1")
    taken = await stage.backend.take_instances("w1", ("default",), 10)
    assert taken.instances == []
    assert taken.next_at is None


async def taking_gives_all_that_is_needed(stage: Stage) -> None:
    await stage.workers("w1")
    parent = ParentRef("p", 2, "0.1:4")
    await stage.create("a", input=b"[7]", metadata=b"{}", parent=parent)
    row = await stage.record("a")
    await stage.backend.send("a", b"one")
    await stage.backend.send("a", b"two")
    (taken,) = await stage.take()
    assert (taken.id, taken.execution, taken.workflow, taken.queue) == ("a", 1, "flow", "default")
    assert (taken.input, taken.metadata, taken.parent) == (b"[7]", b"{}", parent)
    assert (taken.turns, taken.events, taken.carried, taken.wake_at) == (0, 0, b"", None)
    assert taken.ready_at == row.ready_at
    assert [message.event for message in taken.inbox] == [b"one", b"two"]
    assert (await stage.record("a")).worker == "w1"


async def a_leased_instance_is_nobody_elses(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    assert await stage.take("w2") == []
    await stage.backend.send("a", b"more")
    assert await stage.take("w2") == []


async def only_the_queues_asked_for(stage: Stage) -> None:
    await stage.workers("w1")
    for queue in ("x", "y", "z"):
        await stage.create(f"on-{queue}", queue=queue)
    assert await stage.take_ids(queues=("y",)) == ["on-y"]
    assert await stage.take_ids(queues=("z", "x")) == ["on-x", "on-z"]


async def the_longest_ready_comes_first(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("c", "a", "b")
    assert await stage.take_ids(limit=2) == ["c", "a"]
    assert await stage.take_ids(limit=2) == ["b"]


async def readiness_counts_not_age(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("old", "young")
    for id in ("young", "old"):
        await stage.stored(step(id, 0, leased=False, due=True))
        await stage.pass_time(0.01)
    assert await stage.take_ids() == ["young", "old"]


async def a_limit_across_queues_takes_the_longest_ready(stage: Stage) -> None:
    await stage.workers("w1")
    for id, queue in (("1", "x"), ("2", "y"), ("3", "x"), ("4", "y")):
        await stage.create(id, queue=queue)
    taken = await stage.backend.take_instances("w1", ("y", "x"), 3)
    assert [one.id for one in taken.instances] == ["1", "2", "3"]
    assert taken.next_at is not None
    assert taken.next_at <= stage.backend.now()
    assert await stage.take_ids(queues=("x", "y")) == ["4"]


async def excluded_workflows_are_left(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", workflow="unknown")
    await stage.create("b")
    taken = await stage.backend.take_instances("w1", ("default",), 9, exclude=("unknown", "x"))
    assert [one.id for one in taken.instances] == ["b"]
    assert taken.next_at is None
    assert (await stage.record("a")).worker is None


async def excluded_instances_are_left(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a", "b", "c")
    await stage.create("d", workflow="unknown")
    look = partial(stage.backend.take_instances, "w1", ("default",))
    taken = await look(9, exclude=("unknown",), exclude_ids=("a", "c", "nobody"))
    assert [one.id for one in taken.instances] == ["b"]
    assert (taken.next_at, taken.suspects) == (None, False)
    assert (await stage.record("a")).worker is None
    await stage.backend.send("b", b"1")
    assert (await look(9, exclude_ids=("a", "b", "c", "d"))).instances == []
    assert events((await look(0, exclude_ids=("b",))).instances) == [b"1"]  # it is its own already
    assert await stage.take_ids(exclude=("unknown",), exclude_ids=("c",)) == ["a"]
    assert await stage.take_ids() == ["c", "d"]


async def an_excluded_instance_does_not_wake_anyone(stage: Stage) -> None:
    await stage.workers("w1")
    due = stage.backend.now() + 1000
    for id, wake_at in (("sooner", due), ("later", due + 1000)):
        await stage.hold(id)
        await stage.stored(step(id, 0, leased=False, wake_at=wake_at))
    look = partial(stage.backend.take_instances, "w1", ("default",), 9)
    assert (await look()).next_at == due
    assert (await look(exclude_ids=("sooner",))).next_at == due + 1000
    assert (await look(exclude_ids=("sooner", "later"))).next_at is None


async def messages_come_in_order_and_are_given_again(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    for number in range(12):
        assert await stage.backend.send("a", b"%d" % number) == "done"
    expected = [b"%d" % number for number in range(12)]
    assert events(await stage.take()) == expected
    assert await stage.take() == []
    await stage.backend.send("a", b"more")
    assert events(await stage.take()) == [*expected, b"more"]
    assert (await stage.record("a")).unread == 13


async def numbers_of_messages_are_not_used_again(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    seen: list[int] = []
    for number in range(3):
        await stage.backend.send("a", b"x")
        (taken,) = await stage.take()
        (message,) = taken.inbox
        seen.append(message.seq)
        await stage.stored(step("a", number, consumed=[message.seq]))
    assert seen == sorted(set(seen))


async def sending_says_whether_it_arrived(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    assert await stage.backend.send("nobody", b"x") == "not found"
    await stage.stored(step("a", 0, closing=DONE))
    assert await stage.backend.send("a", b"x") == "finished"
    assert (await stage.record("a")).unread == 0


async def a_timer_makes_ready_when_it_is_due(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    due = stage.backend.now() + LEASE
    await stage.stored(step("a", 0, leased=False, wake_at=due))
    taken = await stage.backend.take_instances("w2", ("default",), 9)
    assert taken.instances == []
    assert taken.next_at == due
    await stage.pass_time(LEASE * 1.1)
    (woken,) = await stage.take("w2")
    assert (woken.id, woken.ready_at, woken.wake_at, woken.inbox) == ("a", due, due, [])


async def a_held_timer_is_its_workers(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    due = stage.backend.now() + LEASE
    await stage.stored(step("a", 0, wake_at=due))
    assert (await stage.backend.take_instances("w1", ("default",), 9)).next_at == due
    assert (await stage.backend.take_instances("w2", ("default",), 9)).next_at is None
    await stage.pass_time(LEASE * 1.1)
    assert await stage.take("w2") == []
    assert await stage.take_ids("w1") == ["a"]


async def a_message_comes_before_the_timer(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a")
    due = stage.backend.now() + 1000
    await stage.stored(step("a", 0, leased=False, wake_at=due))
    await stage.backend.send("a", b"x")
    for _ in range(2):
        (taken,) = await stage.take()
        assert taken.ready_at < due
        assert taken.wake_at == due
        await stage.backend.send("a", b"y")


async def sticky_instances_wait_for_their_worker(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, leased=False))
    assert await stage.take("w2", sticky=LEASE) == []
    await stage.backend.send("a", b"x")
    ready_at = (await stage.record("a")).ready_at
    taken = await stage.backend.take_instances("w2", ("default",), 9, sticky=LEASE)
    assert taken.instances == []
    assert taken.next_at is not None
    assert ready_at is not None
    assert abs(taken.next_at - ready_at - LEASE) < 1e-6
    assert await stage.take_ids("w1", sticky=LEASE) == ["a"]


async def sticky_time_ends(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    await stage.stored(step("a", 0, leased=False, due=True))
    assert await stage.take("w2", sticky=LEASE) == []
    await stage.pass_time(LEASE * 1.1)
    assert await stage.take_ids("w2", sticky=LEASE) == ["a"]


async def sticky_means_living_workers_only(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a", "b")
    await stage.stored(step("a", 0, leased=False, due=True))
    await stage.backend.release_worker("w1")
    assert sorted(await stage.take_ids("w2", sticky=1000.0)) == ["a", "b"]


async def a_given_up_instance_is_ready_at_once(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("a")
    given_up = InstanceCommit(id="a", execution=1, number=0, leased=False, due=True)
    await stage.stored(given_up)
    (taken,) = await stage.take("w2")
    assert (taken.turns, taken.inbox) == (0, [])


async def a_change_wakes_who_waits(stage: Stage) -> None:
    backend = stage.backend
    seen = backend.changes()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(backend.wait_change, seen, 1000.0)
            group.start_soon(backend.wait_change, seen, 1000.0)
            await anyio.lowlevel.checkpoint()
            await stage.create("a")
        assert backend.changes() > seen
        await backend.wait_change(seen, 1000.0)


async def a_commit_for_others_counts_as_a_change(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.hold("a", "b")
    numbers = [stage.backend.changes()]
    message = Message("b", b"x")
    commits = (step("a", 0, messages=[message]), step("a", 1, leased=False))
    for commit in commits:
        await stage.stored(commit)
        numbers.append(stage.backend.changes())
    taken = {one.id: one for one in await stage.take()}
    await stage.stored(step("b", 0, closing=DONE, consumed=seqs(taken["b"])))
    numbers.append(stage.backend.changes())
    assert numbers == sorted(set(numbers))


async def waiting_ends_with_its_time(stage: Stage) -> None:
    with anyio.fail_after(30):
        await stage.backend.wait_change(stage.backend.changes(), 0.0)


async def inbox_rows_carry_their_numbers(stage: Stage) -> None:
    await stage.workers("w1")
    await stage.create("a")
    await stage.backend.send("a", b"1")
    await stage.backend.send("a", b"2")
    (taken,) = await stage.take()
    first, second = taken.inbox
    await stage.stored(step("a", 0, consumed=[first.seq]))
    (again,) = await stage.take()
    assert again.inbox == [StoredMessage(second.seq, b"2", second.at)]
    assert (await stage.record("a")).unread == 1


async def a_full_worker_gets_what_is_its_own(stage: Stage) -> None:
    await stage.workers("w1", "w2")
    await stage.hold("mine")
    await stage.hold("theirs", worker="w2")
    await stage.create("free")
    for id in ("mine", "theirs", "free"):
        assert await stage.backend.send(id, id.encode()) == "done"
    assert events(await stage.take("w1", 0)) == [b"mine"]
    assert await stage.take_ids("w1", 0) == []
    assert await stage.take_ids("w1") == ["free"]


CASES: tuple[Case, ...] = (
    created_instances_are_there,
    an_id_is_used_once_at_a_time,
    a_suspended_id_is_taken,
    nothing_ready_gives_nothing,
    taking_gives_all_that_is_needed,
    a_leased_instance_is_nobody_elses,
    only_the_queues_asked_for,
    the_longest_ready_comes_first,
    readiness_counts_not_age,
    a_limit_across_queues_takes_the_longest_ready,
    excluded_workflows_are_left,
    excluded_instances_are_left,
    an_excluded_instance_does_not_wake_anyone,
    messages_come_in_order_and_are_given_again,
    numbers_of_messages_are_not_used_again,
    sending_says_whether_it_arrived,
    a_timer_makes_ready_when_it_is_due,
    a_held_timer_is_its_workers,
    a_message_comes_before_the_timer,
    sticky_instances_wait_for_their_worker,
    sticky_time_ends,
    sticky_means_living_workers_only,
    a_given_up_instance_is_ready_at_once,
    a_change_wakes_who_waits,
    a_commit_for_others_counts_as_a_change,
    waiting_ends_with_its_time,
    inbox_rows_carry_their_numbers,
    a_full_worker_gets_what_is_its_own,
)
