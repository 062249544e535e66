"""The client's side: starting instances, speaking with them, waiting for their end."""

from __future__ import annotations

from trioflow.client.client import Client, open_client
from trioflow.client.description import Description, ExecutionHistory
from trioflow.client.handle import Handle

__all__ = ["Client", "Description", "ExecutionHistory", "Handle", "open_client"]
