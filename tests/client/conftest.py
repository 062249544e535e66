"""The fixtures of the worker's tests."""

from __future__ import annotations

from tests.worker.conftest import cached, flow, sqlite

__all__ = ["cached", "flow", "sqlite"]
