"""Options of a wrong kind are refused where they are given; the error names them."""

from __future__ import annotations

import math
from datetime import timedelta
from functools import partial

import pytest
import trio

from trioflow import DefinitionError, Registry, Retry, RetryPolicy, open_worker, run_worker
from trioflow.authoring import activity_by_name
from trioflow.testing import open_tester

flows = Registry()
minute = timedelta(minutes=1)


@flows.activity
async def pay() -> None: ...


def workflow(**options):
    async def flow() -> None: ...

    return Registry().workflow(**options)(flow)


def activity(**options):
    async def work() -> None: ...

    return Registry().activity(**options)(work)


async def _work(options):
    async with open_worker("memory://", registry=Registry(), **options):
        pass


def worker(**options):
    return trio.run(_work, options)


def by_name(**options):
    return activity_by_name("pay", **options)


SECONDS = [
    (activity, "timeout"),
    (activity, "schedule_timeout"),
    (pay.options, "timeout"),
    (pay.options, "schedule_timeout"),
    (by_name, "timeout"),
    (workflow, "timeout"),
    (worker, "lease"),
    (worker, "drain"),
    (worker, "sticky"),
    (worker, "stuck_after"),
    (Retry, "after"),
]


@pytest.mark.parametrize(("give", "name"), SECONDS)
def test_seconds_are_numbers(give, name):
    seconds = rf"{name}\S* is in seconds, a number, not "
    with pytest.raises(TypeError, match=seconds + r".*timedelta.*give its \.total_seconds\(\)$"):
        give(**{name: minute})
    with pytest.raises(TypeError, match=seconds + "'10'$"):
        give(**{name: "10"})
    give(**{name: 10})


@pytest.mark.parametrize(("give", "name"), SECONDS[:-1])
def test_seconds_are_in_their_range(give, name):
    for value in (-1, math.nan):
        with pytest.raises(ValueError, match=f"{name} is a number of seconds, .*, not {value}"):
            give(**{name: value})
    with pytest.raises(TypeError, match=f"{name} is in seconds"):
        give(**{name: True})


def test_only_what_may_be_at_once_takes_zero():
    worker(drain=0, sticky=0)
    for give, name in ((worker, "lease"), (activity, "timeout")):
        with pytest.raises(ValueError, match="above 0"):
            give(**{name: 0})


@pytest.mark.parametrize("name", ["initial_interval", "max_interval", "timeout"])
def test_seconds_of_a_policy(name):
    with pytest.raises(ValueError, match=rf"^{name} is in seconds.*\.total_seconds\(\)$"):
        RetryPolicy(**{name: minute})
    with pytest.raises(ValueError, match=f"^{name}='10': it is a number"):
        RetryPolicy(**{name: "10"})


@pytest.mark.parametrize(
    ("give", "name"),
    [
        (workflow, "max_events"),
        (worker, "max_activities"),
        (worker, "max_threads"),
        (worker, "max_instances"),
        (worker, "max_steps"),
        (worker, "cache_size"),
    ],
)
def test_counts_are_whole_numbers(give, name):
    for value in ("10", 1.5, None, True, minute):
        with pytest.raises(TypeError, match=f"{name} is a whole number, not "):
            give(**{name: value})
    with pytest.raises(ValueError, match=f"{name} is at least"):
        give(**{name: -1})


@pytest.mark.parametrize(
    ("give", "name", "value", "meant"),
    [
        (activity, "on_cancel", "abandonn", "abandon"),
        (pay.options, "on_cancel", "Wait", "wait"),
        (by_name, "on_cancel", "abandonn", "abandon"),
        (activity, "runtime", "asyncioo", "asyncio"),
    ],
)
def test_a_misspelled_choice_names_the_one_that_was_meant(give, name, value, meant):
    with pytest.raises(DefinitionError, match=rf"{name} is '.*, not '{value}'; .* '{meant}'\?"):
        give(**{name: value})


def test_a_choice_of_another_kind():
    with pytest.raises(DefinitionError, match="on_cancel is 'wait' or 'abandon', not 3$"):
        pay.options(on_cancel=3)


async def run_with(**options):
    await run_worker("memory://", registry=Registry(), **options)


async def tested(**options):
    async with open_tester(registry=Registry(), **options):
        pass


@pytest.mark.parametrize(
    ("taker", "option", "said"),
    [
        (pay.options, "timout", r"activity.options\(\) .*'timout'; did you mean timeout="),
        (pay.options, "retries", r"'retries'; say retry=RetryPolicy\(max_attempts=3\)"),
        (workflow().options, "retires", r"workflow.options\(\) .*'retires'; did you mean retry="),
        (workflow().options, "xyz", "'xyz'; there are id, queue, priority, "),
        (worker, "que", r"open_worker\(\) has no option 'que'; did you mean queues="),
        (lambda **o: trio.run(partial(run_with, **o)), "que", r"run_worker\(\) .* mean queues="),
        (lambda **o: trio.run(partial(tested, **o)), "start", r"open_tester\(\) .* start_time="),
        (lambda **o: trio.run(partial(tested, **o)), "leas", r"open_tester\(\) .* mean lease="),
    ],
)
def test_an_option_that_is_not_known_is_named_with_the_nearest(taker, option, said):
    with pytest.raises(DefinitionError, match=said):
        taker(**{option: 3})


@pytest.mark.parametrize("decorate", [Registry().workflow, Registry().activity])
def test_a_name_where_the_function_stands_is_told_its_keyword(decorate):
    with pytest.raises(DefinitionError, match=r"\('pay'\): .* say name='pay'"):
        decorate("pay")
