"""Ids of tasks and commands: they print, read and sort as stored histories have them."""

# mypy: ignore-errors

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow._model.ids import MAIN_TASK, CommandId, TaskIds, TaskPath, order_of

numbers = st.integers(0, 10**12)
kinds = st.text("abcdefghijklmnopqrstuvwxyz", max_size=3)
paths = st.lists(numbers, min_size=1, max_size=6).map(tuple)
tasks = st.builds(TaskPath, kinds, paths)
ids = st.builds(CommandId, tasks, numbers, st.text(max_size=10))
of_today = st.builds(CommandId, st.builds(TaskPath, st.just(""), paths), numbers)


@given(ids)
def test_what_is_printed_is_read_again(one):
    assert CommandId.parse(str(one)) == one


@given(of_today)
def test_commands_print_as_they_always_did(one):
    assert str(one) == f"{'.'.join(map(str, one.task.numbers))}:{one.number}"


@given(of_today, of_today)
def test_commands_sort_as_they_always_did(one, other):
    def order(text):
        path, _, number = text.partition(":")
        return tuple(map(int, path.split("."))), int(number)

    assert (order_of(str(one)) < order_of(str(other))) == (order(str(one)) < order(str(other)))
    assert (one < other) == (order(str(one)) < order(str(other)))


@given(ids, ids)
def test_ids_sort_as_their_texts(one, other):
    assert one.order == order_of(str(one))
    assert (one < other) == (order_of(str(one)) < order_of(str(other)))
    assert one < other or other < one or one == other


def test_a_marker_comes_before_the_command_whose_number_it_has():
    shuffled = ["0:3", "0:2", "0:3!b", "0.0:0", "0:3!a", "0:10", "1:0", "u0:0"]
    assert sorted(shuffled, key=order_of) == [
        *("0:2", "0:3!a", "0:3!b", "0:3", "0:10", "0.0:0", "1:0", "u0:0"),
    ]


@pytest.mark.parametrize(
    "text", ["", "0", ":0", "0:", "0.:1", "a:1", "0:1!", "-1:0", "0:x", "0:1 "]
)
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match="is no id of a command"):
        CommandId.parse(text)


@given(st.lists(st.integers(0, 3), max_size=6), st.integers(0, 5))
def test_a_task_makes_the_ids_of_its_place(indices, given_before):
    task = TaskIds(None, 0)
    for index in indices:
        task = TaskIds(task, index)
    for _ in range(given_before):
        task.next_id()
    path = TaskPath("", (0, *indices))
    assert task.path == str(path)
    assert CommandId.parse(task.next_id()) == CommandId(path, given_before)


def test_roots_have_paths_of_their_own():
    assert TaskIds(None, 0).path == MAIN_TASK
    assert TaskIds(None, 2).next_id() == "2:0"
    handler = TaskIds(None, 7, "u")
    assert handler.path == "u7"
    assert CommandId.parse(TaskIds(handler, 1).next_id()).task == TaskPath("u", (7, 1))
