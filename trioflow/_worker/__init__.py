"""The worker: the only place where the engine and a backend meet."""

from __future__ import annotations

from trioflow._worker.run import open_worker, run_worker
from trioflow._worker.worker import Worker

__all__ = ["Worker", "open_worker", "run_worker"]
