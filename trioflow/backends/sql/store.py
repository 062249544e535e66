"""The SQL store as a whole: synchronous, on one connection."""

from __future__ import annotations

from trioflow.backends.sql.asking import Asking
from trioflow.backends.sql.working import Working

__all__ = ["SqlStore"]


class SqlStore(Asking, Working):
    """Every method of `Backend` that touches the store, each one transaction, synchronously."""
