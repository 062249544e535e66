"""What observers are told, by type: those who write one match them.

An observer is given to ``open_worker(…, observers=[…])``, ``run_worker`` and ``open_client``. It
has a method ``observe(observation)``, which is called in the loop's thread, once for each fact:
after it was stored, or, for an attempt of an activity, after that has ended. If it has a method
``flush(*, timeout)``, that is called in a thread when the worker or client ends. Later versions
tell of more; match what you know, and leave the rest alone.
"""

from __future__ import annotations

from trioflow._metadata import fixup_module_metadata
from trioflow._observe import (
    AttemptEnded,
    BatchStored,
    ExecutionEnded,
    ExecutionReplayed,
    InstanceCreated,
    InstanceSuspended,
    InstanceTaken,
    LeaseWasLost,
    Observation,
    Observer,
    TurnStored,
)

__all__ = [
    "AttemptEnded",
    "BatchStored",
    "ExecutionEnded",
    "ExecutionReplayed",
    "InstanceCreated",
    "InstanceSuspended",
    "InstanceTaken",
    "LeaseWasLost",
    "Observation",
    "Observer",
    "TurnStored",
]

fixup_module_metadata(__name__, {name: globals()[name] for name in __all__})
del fixup_module_metadata
