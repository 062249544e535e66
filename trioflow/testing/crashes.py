"""`crash_everywhere`: kill the worker at each moment of a workflow, and see what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import anyio.lowlevel
import msgspec

from trioflow._codec.values import Codec
from trioflow._model.interceptors import Interceptor
from trioflow._model.propagation import Propagator
from trioflow._model.workflows import Workflow
from trioflow._registry import Registry
from trioflow.authoring import Signal
from trioflow.testing.simulation import (
    Functions,
    Schedule,
    SimulatedUpdate,
    Simulation,
    simulate,
)

__all__ = ["CrashReport", "CrashRun", "crash_everywhere"]

R = TypeVar("R")

_KILLS = ("as its worker is killed", "is lost with its worker")
_CANCEL, _TERMINATE, _RESET = "a client cancels", "a client terminates", "a client resets"
_TIME = "the time for "
_EARLY = "the deadline passes: "  # though something else was to come before it
_ASKED = (_CANCEL, _TERMINATE, _RESET, _TIME, _EARLY)


class CrashRun(msgspec.Struct, frozen=True):
    """One run, in which something happened at one step.

    Attributes:
        step: At which step, from 1.
        what: What happened there.
        outcome: How the workflow ended: ``"completed: <result>"``, ``"failed: <error>"``,
            ``"cancelled"``, ``"terminated"`` or ``"running"``.
        repeated: The activities that ran to their end more than once with the same arguments, with
            the number of times.
    """

    step: int
    what: str
    outcome: str
    repeated: dict[str, int]


class CrashReport(msgspec.Struct, Generic[R]):
    """What `crash_everywhere` has seen.

    Attributes:
        outcome: How the workflow ends when nothing goes wrong.
        runs: The runs in which something happened: a worker was killed, or a client or the clock
            asked for something.
    """

    outcome: str
    runs: list[CrashRun]

    @property
    def repeated(self) -> dict[str, int]:
        """The activities that ran more than once in some run, with the greatest number of times.

        Each of them has to be idempotent: ``activity_info().idempotency_key`` helps.
        """
        most: dict[str, int] = {}
        for run in self.runs:
            for name, times in run.repeated.items():
                most[name] = max(times, most.get(name, 0))
        return most

    @property
    def results(self) -> dict[str, int]:
        """The outcomes of the runs in which only workers were killed, and how often each came.

        More than one means that a crash changes what the workflow does.
        """
        counts: dict[str, int] = {}
        for run in self.runs:
            if not run.what.startswith(_ASKED):
                counts[run.outcome] = counts.get(run.outcome, 0) + 1
        return counts


class _At(Schedule):
    """Does what is usual but at given steps, where something in words is done if it can be."""

    def __init__(self, wanted: dict[int, str]) -> None:
        super().__init__()
        self._wanted = wanted
        self.seen: list[Sequence[str]] = []

    @property
    def more(self) -> bool:
        return True

    def begin(self) -> None:
        self.seen.clear()

    def pick(self, possibilities: Sequence[str]) -> int:
        wanted = self._wanted.get(len(self.seen))
        self.seen.append(possibilities)
        return possibilities.index(wanted) if wanted in possibilities else 0


async def crash_everywhere(
    workflow: Workflow[..., R],
    /,
    *args: Any,
    activities: Functions | None = None,
    signals: Sequence[tuple[Signal[Any], Any]] = (),
    updates: Sequence[SimulatedUpdate] = (),
    cancels: bool = False,
    terminates: bool = False,
    resets: bool = False,
    deadlines: bool = False,
    registry: Registry | None = None,
    codec: Codec | None = None,
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
) -> CrashReport[R]:
    """Run a workflow once for each moment, and kill its worker exactly there.

    The moments are: after a turn and before it is stored, and after an activity has run and before
    its result is stored. After every turn the history is replayed, as `simulate` does: that is what
    becomes of a worker that is killed after a turn was stored.

    Args:
        workflow: The workflow.
        *args: Its arguments.
        activities: See `simulate`, as for the others.
        signals: As there.
        updates: As there. The report does not say how they are answered.
        cancels: Whether a client also cancels the instance at each step, alone and before each
            crash that can follow. These are as many runs as the square of the steps.
        terminates: Whether a client also terminates it at each step: which activities have run by
            then, and what cleanup has not?
        resets: Whether a client also resets it at each step, to before its last turn and to its
            beginning, alone and before each crash that can follow.
        deadlines: Whether the next deadline also passes at each step, before what would come
            earlier, alone and before each crash that can follow.
        registry: As there.
        codec: As there.
        propagators: As there.
        interceptors: As there.

    Returns:
        What was seen: ``repeated`` and ``results``, and each run.

    Raises:
        ReplayError: The workflow is not deterministic.
        DeterminismError: The workflow does what it must not.
    """

    def run(wanted: dict[int, str]) -> tuple[Simulation[R], list[Sequence[str]]]:
        schedule = _At(wanted)
        simulation = simulate(
            workflow,
            *args,
            schedule=schedule,
            activities=activities,
            signals=signals,
            updates=updates,
            failures=False,
            cancels=cancels,
            terminates=terminates,
            resets=resets,
            registry=registry,
            codec=codec,
            propagators=propagators,
            interceptors=interceptors,
        )
        return simulation, schedule.seen

    asked = [
        start
        for start, wanted in (
            (_CANCEL, cancels),
            (_TERMINATE, terminates),
            (_RESET, resets),
            (_TIME, deadlines),
        )
        if wanted
    ]
    usual, steps = run({})
    report: CrashReport[R] = CrashReport(_outcome(usual), [])
    for step, possible in enumerate(steps):
        for number, what in enumerate(possible):
            if what.startswith(tuple(asked)) and number > 0:
                simulation, after = run({step: what})
                report.runs.append(_run(step, what, simulation))
                for later in range(step + 1, len(after)):
                    for kill in _kills(after[later]):
                        both, _ = run({step: what, later: kill})
                        report.runs.append(_run(later, f"{what}, then {kill}", both))
            elif what.endswith(_KILLS):
                early = " at its time " in what and not possible[0].startswith(_TIME)
                if deadlines or not early:
                    simulation, _ = run({step: what})
                    report.runs.append(_run(step, _EARLY + what if early else what, simulation))
            await anyio.lowlevel.checkpoint()
    return report


def _kills(possible: Sequence[str]) -> list[str]:
    return [what for what in possible if what.endswith(_KILLS)]


def _run(step: int, what: str, simulation: Simulation[Any]) -> CrashRun:
    return CrashRun(step + 1, what, _outcome(simulation), simulation.repeated())


def _outcome(simulation: Simulation[Any]) -> str:
    if simulation.status not in ("completed", "failed"):
        return simulation.status
    try:
        return f"completed: {simulation.result()!r}"
    except Exception as exc:  # noqa: BLE001  # what the workflow raised
        return f"failed: {type(exc).__name__}: {exc}"
