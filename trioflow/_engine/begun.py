"""What follows from the first event of an execution, `Started`, for as long as it lasts."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec

from trioflow._model.events import CancelRequested, ScheduleRef, Started
from trioflow._model.info import Identity
from trioflow._model.rules import LIMITED_HANDLERS
from trioflow._model.workflows import Workflow

__all__ = ["Begun"]


class Begun(msgspec.Struct, eq=False):
    """How an execution has begun.

    Attributes:
        identity: The instance and execution that it is.
        started: The event; ``None`` until it is applied.
    """

    identity: Identity
    started: Started | None = None

    @property
    def taken_over(self) -> bool:
        """Whether that was by a reset or a fork, so that calls may be older than the execution."""
        return self.started is not None and bool(self.started.origins)

    @property
    def seed(self) -> str:
        """The seed of the random generators; a task's path is added to it."""
        if self.started is not None and self.started.seed:
            return self.started.seed
        if self.started is not None and self.started.origins:
            first = self.started.origins[0]
            return f"{first.instance}/{first.execution}"
        return f"{self.identity.id}/{self.identity.execution}"

    @property
    def schedule(self) -> ScheduleRef | None:
        """The schedule that has begun the instance, if one has."""
        return None if self.started is None else self.started.schedule

    @property
    def handlers_end_at(self) -> float:
        """When handlers of updates are cancelled: at the instance's timeout, if it has one."""
        started = self.started
        if started is None or started.deadline_at is None or started.rules < LIMITED_HANDLERS:
            return inf
        return started.deadline_at

    def source_changed(self, definition: Workflow[..., Any]) -> bool | None:
        """Return whether the source is another than at the start; ``None`` if unknown."""
        began = "" if self.started is None else self.started.code
        now = definition.fingerprint if began else ""
        return began != now if now else None

    def is_asked_by(self, cancel: CancelRequested) -> bool:
        """Return whether a cancel comes from a client, or from the parent that the instance has."""
        by, parent = cancel.by, None if self.started is None else self.started.parent
        if by is None or by == parent:
            return True
        if parent is None or not cancel.adopted:
            return False
        return msgspec.structs.replace(by, execution=parent.execution) == parent
