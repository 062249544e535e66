"""Hypothesis strategies for schedules, and `explore`, which needs no ``@given``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

try:
    import hypothesis
    from hypothesis import HealthCheck
    from hypothesis import strategies as st
    from hypothesis.errors import FlakyFailure
except ImportError as exc:  # pragma: no cover
    raise ImportError(
        "schedules() and explore() need Hypothesis; get it with: pip install 'trioflow[testing]'"
    ) from exc

from trioflow._codec.values import Codec
from trioflow._model.interceptors import Interceptor, those_around
from trioflow._model.propagation import Propagator
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry
from trioflow.authoring import Signal
from trioflow.testing.elsewhere import replay_elsewhere
from trioflow.testing.hypothesis_plugin import register
from trioflow.testing.simulation import (
    Functions,
    Schedule,
    SimulatedUpdate,
    Simulation,
    simulate,
)

__all__ = ["explore", "schedules"]

R = TypeVar("R")

register()

_MOST = 40  # steps in which something may go wrong
_REPLAYED = 5  # histories that are replayed in other processes


def schedules(max_steps: int = _MOST) -> st.SearchStrategy[Schedule]:
    """Return a strategy for schedules.

    They shrink towards a run in which nothing goes wrong.

    Args:
        max_steps: For how many steps the schedule decides; after them nothing goes wrong.
    """
    anything = st.lists(st.one_of(st.just(0), st.integers(0, 31)), max_size=max_steps)
    # The same thing goes wrong again and again: rare together, and where many mistakes are.
    the_same = st.integers(1, 12).flatmap(
        lambda number: st.lists(st.sampled_from((0, number)), max_size=max_steps)
    )
    return st.one_of(anything, the_same).map(Schedule)


async def explore(
    workflow: Workflow[..., R],
    /,
    *args: Any,
    activities: Functions | None = None,
    signals: Sequence[tuple[Signal[Any], Any]] = (),
    updates: Sequence[SimulatedUpdate] = (),
    cancels: bool = True,
    failures: bool = True,
    crashes: bool = True,
    terminates: bool = False,
    resets: bool = False,
    instances: int = 2,
    deploy: Workflow[..., Any] | None = None,
    registry: Registry | None = None,
    codec: Codec | None = None,
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
    check: Callable[[Simulation[R]], object] | None = None,
    save_to: str | Path | None = None,
    examples: int | None = None,
    seed: int | None = None,
    settings: hypothesis.settings | None = None,
) -> None:
    """Run a workflow in many orders of events, and raise what is found, in its simplest form.

    First under many schedules in this process; then some of the histories are replayed in fresh
    processes, with other hash seeds and the garbage collector at other times: what depends on the
    order of a set of strings, or on memory, shows only there. (That needs a workflow that can be
    imported: one at the top level of a module.)

    Args:
        workflow: The workflow.
        *args: Its arguments.
        activities: See `simulate`, as for the others.
        signals: As there.
        updates: As there.
        cancels: As there.
        failures: As there.
        crashes: As there.
        terminates: As there.
        resets: As there.
        instances: How many run side by side once, so that what they share by mistake is seen. In
            all other runs, and for ``check``, there is one.
        deploy: As there.
        registry: As there.
        codec: As there.
        propagators: As there. Other processes do not have them: where there is one, nothing is
            replayed there.
        interceptors: As there. Where one is around workflows, nothing is replayed there, either.
        check: As there.
        save_to: As there.
        examples: How many schedules are tried; by default 200, or what ``settings`` say.
        seed: For the same schedules each time; drawn by Hypothesis if not given.
        settings: Hypothesis' settings, for example with an example database, so that what was found
            is tried first the next time. By default those of the loaded profile
            (``derandomize`` too), without a database.

    Raises:
        Exception: What `simulate` or ``check`` has raised, with the schedule and what happened as
            notes.
    """
    histories: list[Simulation[R]] = []

    def simulate_once(schedule: Schedule, side_by_side: int = 1) -> Simulation[R]:
        return simulate(
            workflow,
            *args,
            schedule=schedule,
            activities=activities,
            signals=signals,
            updates=updates,
            cancels=cancels,
            failures=failures,
            crashes=crashes,
            terminates=terminates,
            resets=resets,
            instances=side_by_side,
            deploy=deploy,
            registry=registry,
            codec=codec,
            propagators=propagators,
            interceptors=interceptors,
            check=check if side_by_side == 1 else None,
            save_to=save_to,
        )

    def run(schedule: Schedule) -> None:
        simulation = simulate_once(schedule)
        if len(histories) < _REPLAYED:
            histories.append(simulation)

    simulate_once(Schedule())
    if instances > 1:
        simulate_once(Schedule(), instances)
    # All calls share the code of `run`, by which Hypothesis' database tells tests apart.
    run._hypothesis_internal_add_digest = workflow.name.encode()  # type: ignore[attr-defined]  # noqa: SLF001
    found = _settings(settings, examples)(hypothesis.given(schedules())(run))
    if seed is not None:
        found = hypothesis.seed(seed)(found)
    try:
        found()
    except FlakyFailure as flaky:
        # It does not fail each time under the same schedule, which is a mistake of its own.
        error: Exception = flaky.exceptions[0]
        error.add_note("the same schedule does not always show it")
        raise error from None
    # The new code has to fit all of them, the old one not those that the new one has gone on with.
    if propagators or those_around(interceptors, "workflow"):
        return
    newest = workflow if deploy is None else deploy
    await replay_elsewhere(newest, [simulation.history() for simulation in histories])


def _settings(given: hypothesis.settings | None, examples: int | None) -> hypothesis.settings:
    """Return what is given, or the loaded profile, with what fits whole runs of workflows."""
    changes: dict[str, Any] = {} if given is not None else {"database": None, "max_examples": 200}
    if examples is not None:
        changes["max_examples"] = examples
    return hypothesis.settings(
        given,
        **changes,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
        ],
    )
