"""Every planted mistake is found by `explore` with its default settings."""

from __future__ import annotations

import re

import pytest
import trio

from tests.testing import planted as p
from trioflow.errors import DeterminismError, TrioflowError
from trioflow.testing import ReplayError, check_replay, explore
from trioflow.testing.elsewhere import ReplayElsewhere

functions = {
    p.charge: lambda n: f"charged {n}",
    p.ship: lambda n: f"shipped {n}",
    p.refund: lambda n: None,
    p.fetch: lambda name: 1,
}


def find(workflow, *args, **options):
    options = {"activities": functions, "registry": p.flows, "seed": 1, **options}
    trio.run(lambda: explore(workflow, *args, **options))


def steps(error):
    """How many choices of the found schedule are not the usual one."""
    found = re.search(r"Schedule\(\[(.*?)\]\)", "\n".join(error.__notes__))
    return 0 if found is None else sum(int(n) > 0 for n in found[1].split(",") if n.strip())


def test_a_set_of_strings_shows_in_another_process():
    with pytest.raises(ReplayElsewhere, match="iterates_a_set"):
        find(p.iterates_a_set, examples=5)


def test_a_dict_of_a_set_shows_in_another_process():
    with pytest.raises(ReplayElsewhere):
        find(p.dict_of_a_set, examples=5)


def test_a_global_counter():
    with pytest.raises(ReplayError) as caught:
        find(p.counts_globally)
    assert steps(caught.value) <= 5


def test_a_call_that_is_not_awaited():
    with pytest.raises(TrioflowError, match="'ship' was called at .* is not awaited") as caught:
        find(p.forgets_an_await)
    assert steps(caught.value) <= 5


def test_an_order_by_address():
    with pytest.raises((ReplayError, ReplayElsewhere)):
        find(p.orders_by_address)


def test_a_weak_reference_and_the_collector():
    with pytest.raises((ReplayError, ReplayElsewhere)):
        find(p.asks_the_collector)


def test_a_primitive_shared_by_two_instances():
    with pytest.raises((DeterminismError, ReplayError)):
        find(p.shares_a_limiter)


def test_changed_code(tmp_path):
    with pytest.raises(ReplayError) as caught:
        find(p.before, deploy=p.after, save_to=tmp_path / "found.json")
    assert steps(caught.value) <= 5
    with pytest.raises(ReplayError):
        check_replay(tmp_path / "found.json", p.after)


def test_changed_code_with_a_patch_passes():
    find(p.before, deploy=p.after_with_a_patch, examples=60)
    find(p.after_with_a_patch, deploy=p.after_the_patch, examples=60)


def test_the_new_code_is_replayed_in_other_processes():
    find(p.in_a_module, deploy=p.in_a_module_with_a_patch, examples=20)


def test_a_patch_that_is_removed_too_early():
    with pytest.raises(ReplayError) as caught:
        find(p.after_with_a_patch, deploy=p.after)
    assert caught.value.report.patch == "ship-first"
    assert steps(caught.value) <= 5


def test_a_patch_that_is_deprecated_while_the_old_way_is_taken():
    with pytest.raises(ReplayError):
        find(p.before, deploy=p.after_the_patch)


def test_a_patch_that_two_places_ask_for():
    with pytest.raises((DeterminismError, ReplayError)) as caught:
        find(p.before, deploy=p.after_patched_twice)
    assert "two places" in str(caught.value)


def test_an_activity_that_must_run_once():
    def check(simulation):
        assert len(simulation.called(p.charge)) <= 1

    with pytest.raises(AssertionError) as caught:
        find(p.charges, check=check, failures=False)
    assert steps(caught.value) <= 5


def test_cleanup_without_a_shield():
    def check(simulation):
        if simulation.status == "cancelled" and simulation.called(p.charge):
            assert simulation.called(p.refund)

    with pytest.raises(AssertionError) as caught:
        find(p.cleans_up_without_a_shield, check=check)
    assert steps(caught.value) <= 5


def test_a_lost_signal():
    def check(simulation):
        if simulation.status == "completed":
            assert simulation.result() == 7

    with pytest.raises(AssertionError) as caught:
        find(p.loses_a_signal, check=check, signals=[(p.go, 7)])
    assert steps(caught.value) <= 5


def test_a_signal_that_is_lost_in_a_race():
    def check(simulation):
        told = [what for what in simulation.trace if "comes" in what]  # the signal, or the time
        if simulation.status == "completed" and told[0] == "signal 'go' comes":
            assert simulation.result() == [7]

    with pytest.raises(AssertionError) as caught:
        find(p.loses_a_signal_in_a_race, check=check, signals=[(p.go, 7)])
    assert steps(caught.value) <= 5


def test_check_then_act():
    def check(simulation):
        if simulation.status == "completed":
            assert simulation.result() == 1

    with pytest.raises(AssertionError) as caught:
        find(p.checks_then_acts, check=check)
    assert steps(caught.value) <= 5


def succeeded(simulation, activity):
    return any(call.error is None for call in simulation.called(activity))


def test_a_compensation_that_fails():
    def check(simulation):
        charged, shipped = succeeded(simulation, p.charge), succeeded(simulation, p.ship)
        if simulation.status == "failed" and charged and not shipped:
            assert succeeded(simulation, p.refund)

    with pytest.raises(AssertionError) as caught:
        find(p.compensates, check=check)
    assert steps(caught.value) <= 5


def test_a_right_workflow_passes():
    find(p.is_right, examples=40)
