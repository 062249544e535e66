"""Whether this process is one of those that a worker runs activities in."""

from __future__ import annotations

__all__ = ["in_activity_process"]

in_activity_process = False
"""Set in them before anything else happens."""
