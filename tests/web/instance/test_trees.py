"""Trees of tasks, and of instances."""

# mypy: ignore-errors

from __future__ import annotations

import pytest
import trio

from tests.worker.flow import until
from trioflow import InstanceNotFound, Registry, TaskInfo, open_worker
from trioflow.backends import MemoryBackend
from trioflow.web._instance import reading
from trioflow.web._instance.trees import task_tree


def task(path, parent=None, name="work", line="/srv/flows.py:3"):
    return TaskInfo(path, parent, name, "the time", line)


def shape(nodes):
    return [(node.task.path, node.left_out, shape(node.children)) for node in nodes]


def test_tasks_stand_below_those_that_spawned_them():
    tasks = [task("0"), task("0.0", "0"), task("0.0.0", "0.0"), task("0.1", "0"), task("u1")]
    assert shape(task_tree(tasks)) == [
        ("0", 0, [("0.0", 0, [("0.0.0", 0, [])]), ("0.1", 0, [])]),
        ("u1", 0, []),
    ]
    assert task_tree(tasks)[0].file == "flows.py:3"
    assert task_tree([]) == []


def test_of_very_many_tasks_that_are_alike_some_are_shown():
    many = [task(f"0.{n}", "0") for n in range(5000)]
    below = [task(f"0.{n}.0", f"0.{n}") for n in range(5000)]
    other = task("0.5000", "0", name="other")
    (root,) = task_tree([task("0"), *many, *below, other])
    assert len(root.children) == 13
    assert root.children[-1].task.name == "other"
    assert root.left_out == 2 * (5000 - 12)


def test_no_tree_is_larger_than_a_page():
    tasks = [task("0"), *(task(f"0.{n}", "0", name=f"task {n}") for n in range(5000))]
    (root,) = task_tree(tasks)
    assert len(root.children) == 1999
    assert root.left_out == 3001


# --- instances -----------------------------------------------------------------------------------

registry = Registry()


@registry.workflow
async def grow(depth: int, width: int) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(width if depth else 0):
            nursery.start_soon(grow, depth - 1, width)
    if not depth:
        await trio.sleep(86_400)


@pytest.fixture
def forest(harness):
    """A client of a store with an instance that has children and grandchildren."""
    made = []

    class Around:
        async def __aenter__(self):
            self.worker = open_worker(MemoryBackend(), registry=registry, drain=0)
            made.append((await self.worker.__aenter__()).client)
            await made[0].start(grow.options(id="root"), 2, 4)

            async def grown():
                return await made[0].count() == 21

            await until(grown)

        async def __aexit__(self, *exc):
            await self.worker.__aexit__(*exc)

    harness.enter(Around())
    return made


async def test_children_and_their_children_come_in_pages(forest):
    (client,) = forest
    family = await reading.family_of(client, "root", limit=3, grandchildren=2)
    assert family.ancestors == []
    assert [len(child.children) for child in family.own.children] == [2, 2, 2]
    assert all(child.more for child in family.own.children)
    assert family.after == family.own.children[-1].id
    rest = await reading.family_of(client, "root", family.after, 3)
    assert len(rest.own.children) == 1
    assert (rest.after, rest.before) == (None, True)
    seen = {child.id for child in (*family.own.children, *rest.own.children)}
    assert len(seen) == 4


async def test_the_way_up_leads_to_the_first_parent(forest):
    (client,) = forest
    child = (await reading.family_of(client, "root")).own.children[0]
    leaf = child.children[0]
    family = await reading.family_of(client, leaf.id)
    assert [each.id for each in family.ancestors] == ["root", child.id]
    assert family.own.command == leaf.command != ""
    assert family.own.children == []


async def test_a_parent_that_is_gone_is_shown_as_gone(forest):
    (client,) = forest
    child = (await reading.family_of(client, "root")).own.children[0]
    get = client.backend.get

    async def without(id):
        return None if id == "root" else await get(id)

    client.backend.get = without
    family = await reading.family_of(client, child.children[0].id)
    del client.backend.get
    assert [(each.id, each.status) for each in family.ancestors] == [
        ("root", ""),
        (child.id, "running"),
    ]


async def test_nobody_has_no_family(forest):
    with pytest.raises(InstanceNotFound):
        await reading.family_of(forest[0], "nobody")
