"""Runs a workflow without a worker and a store, in an order of events that a schedule chooses.

The theory. A workflow's execution is a fold over turns. What reaches it, and in which order, is up
to the world: activities end in any order, fail, or take longer than they may; signals and cancels
come at any moment; a worker is killed before or after it has stored something; an execution is
evicted and replayed. `Simulation` is that world. At each step it lists all that could happen next,
and the `Schedule` says which of it does. Everything else is as in production: the engine is the
real one, arguments and results go through the codec, and retries follow their policies.

After every turn the whole history is replayed from its encoded form by a fresh execution. If that
does not give the same commands, the workflow is not deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trioflow._codec.values import Codec, JsonCodec
from trioflow._engine import guard
from trioflow._model.interceptors import Interceptor
from trioflow._model.propagation import Propagator
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry, default_registry
from trioflow.authoring import Signal
from trioflow.testing.simulation.calls import SimulatedFailure, SimulatedFinalFailure
from trioflow.testing.simulation.schedules import Schedule
from trioflow.testing.simulation.simulation import Hazards, SimulatedUpdate, Simulation
from trioflow.testing.simulation.world import Functions, World

__all__ = [
    "Functions",
    "Schedule",
    "SimulatedFailure",
    "SimulatedFinalFailure",
    "SimulatedUpdate",
    "Simulation",
    "simulate",
]

R = TypeVar("R")


def simulate(
    workflow: Workflow[..., R],
    /,
    *args: Any,
    schedule: Schedule | None = None,
    activities: Functions | None = None,
    signals: Sequence[tuple[Signal[Any], Any]] = (),
    updates: Sequence[SimulatedUpdate] = (),
    cancels: bool = True,
    failures: bool = True,
    crashes: bool = True,
    terminates: bool = False,
    resets: bool = False,
    instances: int = 1,
    deploy: Workflow[..., Any] | None = None,
    registry: Registry | None = None,
    codec: Codec | None = None,
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
    check: Callable[[Simulation[R]], object] | None = None,
    save_to: str | Path | None = None,
) -> Simulation[R]:
    """Run a workflow in the order of events that a schedule chooses, and replay it after each turn.

    It is quick and takes no real time. It may be called with or without a running event loop.

    Args:
        workflow: The workflow.
        *args: Its arguments.
        schedule: What happens when; by default nothing goes wrong. See `schedules`.
        activities: What stands for each activity, by activity or name: a function, async or not,
            that returns at once. Sub-workflows may be given too; otherwise their own code runs.
        signals: What a client sends, in this order: pairs of a signal and a value.
        updates: What a client asks for, in this order: pairs of an update and its argument, or
            ``(update,)`` for one that has none. ``answers`` of the simulation has the answers.
        cancels: Whether a client may cancel the instance.
        failures: Whether attempts of activities may fail though their function does not, or take
            too long. They raise `SimulatedFailure`, `SimulatedFinalFailure` or `ActivityTimeout`.
        crashes: Whether workers may be killed: after an activity has run and before that is stored,
            or between a turn and its commit.
        terminates: Whether a client may terminate the instance.
        resets: Whether a client may reset the instance once, to before its last turn or its first.
        instances: How many instances run side by side, with the same arguments and signals.
        deploy: The workflow's new code, which is deployed at some time.
        registry: Where sub-workflows and the types of activities are found; by default all that
            were decorated in this process.
        codec: How values are stored; by default `JsonCodec`.
        propagators: Those of the workers and of the client, for ``activity_info().metadata``,
            ``info().metadata`` and what they take over. They add to the metadata of the instance
            what they find where this is called.
        interceptors: Those of the workers: they are around workflows, and around the functions that
            stand for activities. Those functions return at once, so an interceptor must not wait.
        check: Called with the simulation once it has ended. What it raises is an error found.
        save_to: Where the history of the first instance is written if an error is found; a file
            for `check_replay`.

    Returns:
        The simulation: its ``status``, ``result()``, ``answers``, ``calls`` and ``trace``.

    Raises:
        DefinitionError: ``activities`` has a name that is not registered, or a function that cannot
            take the arguments of what it stands for.
        ReplayError: The workflow is not deterministic, or the new code does not fit the history.
        DeterminismError: The workflow does what it must not.
        Stuck: It does not end within a great many steps.
    """
    guard.install()
    codec = JsonCodec() if codec is None else codec
    schedule = Schedule() if schedule is None else schedule
    schedule.begin()
    world = World(
        workflow,
        workflow.signature.encode(codec, args, {}, workflow.name),
        functions=activities or {},
        registry=default_registry if registry is None else registry,
        codec=codec,
        instances=instances,
        deploy=deploy,
        propagators=propagators,
        interceptors=interceptors,
    )
    simulation: Simulation[R] = Simulation(
        world,
        schedule=schedule,
        signals=signals,
        updates=updates,
        hazards=Hazards(
            cancels=cancels,
            failures=failures,
            crashes=crashes,
            terminates=terminates,
            resets=resets,
        ),
    )
    try:
        simulation.run()
        if check is not None:
            check(simulation)
    except Exception as exc:
        told = f"what happened:\n{simulation.told()}"
        if save_to is not None:
            simulation.history().save(save_to)
            told += f"\nthe history is in {save_to}"
        exc.add_note(told)
        raise
    return simulation
