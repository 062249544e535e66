"""The client's side: starting instances, speaking with them, waiting for their end."""

from __future__ import annotations

from trioflow.client.client import Client, open_client
from trioflow.client.description import ActivityDescription, Description, Undecodable
from trioflow.client.handle import Handle
from trioflow.client.history import ExecutionHistory

__all__ = [
    "ActivityDescription",
    "Client",
    "Description",
    "ExecutionHistory",
    "Handle",
    "Undecodable",
    "open_client",
]
