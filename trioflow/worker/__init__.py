"""The worker: the only place where the engine and a backend meet."""

from __future__ import annotations

from trioflow.worker.running import open_worker, run_worker
from trioflow.worker.worker import Worker

__all__ = ["Worker", "open_worker", "run_worker"]
