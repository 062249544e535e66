"""The worker: the only place where the engine and a backend meet."""

from __future__ import annotations

from trioflow._worker.compatibility import Compatibility, Misfit, check_compatibility
from trioflow._worker.run import open_worker, run_worker
from trioflow._worker.worker import Worker

__all__ = [
    "Compatibility",
    "Misfit",
    "Worker",
    "check_compatibility",
    "open_worker",
    "run_worker",
]
