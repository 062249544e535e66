"""Testing: virtual time, fakes, simulation and replay for those who write workflows.

Also the conformance suite and the lockstep machine for those who write a store
(`trioflow.testing.conformance`, `trioflow.testing.lockstep`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from trioflow.testing.bundles import check_bundle, export_bundle, load_bundle, save_bundle
from trioflow.testing.cluster import BrokenInvariant, Cluster, ClusterReport, Faults
from trioflow.testing.context import activity_context
from trioflow.testing.crashes import CrashReport, CrashRun, crash_everywhere
from trioflow.testing.fakes import Fake, FakeCall
from trioflow.testing.history import (
    History,
    Replay,
    ReplayError,
    check_replay,
    export_history,
    load_history,
)
from trioflow.testing.simulation import (
    Schedule,
    SimulatedFailure,
    SimulatedFinalFailure,
    SimulatedUpdate,
    Simulation,
    simulate,
)
from trioflow.testing.stuck import Stuck
from trioflow.testing.tester import Tester, UnmetExpectations, open_tester

if TYPE_CHECKING:
    from trioflow.testing.strategies import explore, schedules

__all__ = [
    "BrokenInvariant",
    "Cluster",
    "ClusterReport",
    "CrashReport",
    "CrashRun",
    "Fake",
    "FakeCall",
    "Faults",
    "History",
    "Replay",
    "ReplayError",
    "Schedule",
    "SimulatedFailure",
    "SimulatedFinalFailure",
    "SimulatedUpdate",
    "Simulation",
    "Stuck",
    "Tester",
    "UnmetExpectations",
    "activity_context",
    "check_bundle",
    "check_replay",
    "crash_everywhere",
    "explore",
    "export_bundle",
    "export_history",
    "load_bundle",
    "load_history",
    "open_tester",
    "save_bundle",
    "schedules",
    "simulate",
]

if sys.modules.get("hypothesis") is not None:
    from trioflow.testing.hypothesis_plugin import register

    register()

_NEEDS_HYPOTHESIS = ("explore", "schedules")


def __getattr__(name: str) -> Any:
    if name in _NEEDS_HYPOTHESIS:
        from trioflow.testing import strategies  # noqa: PLC0415  # an extra

        return getattr(strategies, name)
    raise AttributeError(f"module 'trioflow.testing' has no attribute {name!r}")
