"""The options of a worker: one object, and the keywords of the two public functions."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from trioflow import open_worker, run_worker
from trioflow._worker.options import WorkerOptions

BY_DEFAULT = {"registry", "codec"}  # None to users: the default registry, and JsonCodec


@pytest.mark.parametrize("function", [open_worker, run_worker])
def test_the_public_functions_take_every_option_with_its_default(function):
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "task_status"
    }
    fields = {field.name: field.default for field in dataclasses.fields(WorkerOptions)}
    assert list(keywords) == list(fields)
    assert {name: default for name, default in keywords.items() if name not in BY_DEFAULT} == {
        name: default for name, default in fields.items() if name not in BY_DEFAULT
    }
    assert all(keywords[name] is None for name in BY_DEFAULT)
    told = inspect.getdoc(function)
    assert function is run_worker or all(f"\n    {name}: " in told for name in fields)


def test_options_are_checked_where_they_are_given():
    for name in ("max_activities", "max_threads", "max_instances", "max_steps"):
        with pytest.raises(ValueError, match=f"{name} is at least 1"):
            open_worker("memory://", **{name: 0})
        with pytest.raises(TypeError, match=f"{name} is a whole number"):
            open_worker("memory://", **{name: 1.0})
    for name in ("lease", "stuck_after"):
        with pytest.raises(ValueError, match=f"{name} is a number of seconds, above 0"):
            open_worker("memory://", **{name: 0.0})
    for name in ("drain", "sticky"):
        with pytest.raises(ValueError, match=f"{name} is a number of seconds, 0 or more"):
            open_worker("memory://", **{name: -1.0})
    with pytest.raises(ValueError, match="cache_size is at least 0"):
        open_worker("memory://", cache_size=-1)
    for name in ("queues", "activity_queues"):
        said = rf"{name} are a sequence of names, not one string: {name}=\['mails'\]"
        with pytest.raises(TypeError, match=said):
            open_worker("memory://", **{name: "mails"})


def test_a_worker_of_one_kind_serves_no_queue_of_the_other():
    only_activities = WorkerOptions(queues=("a", "b"), workflows=False)
    assert only_activities.served_queues == ()
    assert only_activities.served_activity_queues == ("a", "b")
    only_workflows = WorkerOptions(queues=("a",), activity_queues=("c",), activities=False)
    assert only_workflows.served_queues == ("a",)
    assert only_workflows.served_activity_queues == ()
    assert WorkerOptions(queues=("a",), activity_queues=()).served_activity_queues == ()


def test_as_many_processes_as_processors_if_nothing_is_said():
    assert WorkerOptions().processes >= 1
    assert WorkerOptions(max_processes=7).processes == 7
    with pytest.raises(ValueError, match="max_processes is at least 1"):
        WorkerOptions(max_processes=0)
