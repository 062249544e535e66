"""A wall clock that is wrong, for a process that is started with one; imported before trioflow.

`true_time` is the machine's own clock.
"""

from __future__ import annotations

import os
import time

__all__ = ["SHIFT", "true_time"]

SHIFT = "TRIOFLOW_CRASH_CLOCK"
"""The environment variable that says by how many seconds the clock is ahead."""

true_time = time.time

if shift := float(os.environ.get(SHIFT, "0")):

    def _shifted_time() -> float:
        return true_time() + shift

    time.time = _shifted_time
