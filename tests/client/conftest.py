"""The fixtures of the worker's tests."""

from __future__ import annotations

from tests.worker.conftest import backend, cached, flow, sqlite

__all__ = ["backend", "cached", "flow", "sqlite"]
