"""Fields of the worker's log records, for whoever reads them with a program.

Every record of `trioflow.worker` has ``worker`` (the id of its row, which its leases name) and
``worker_name``. One about an instance has ``instance``, ``execution`` and ``workflow``; one about
an activity ``instance``, ``execution``, ``command``, ``activity``, ``attempt`` and ``queue``, and
once it has failed for good ``traceback``, which formatters show as they show that of an exception.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any, Protocol

from trioflow._worker.registration import Registration
from trioflow.backends.records import ActivityKey, ActivityTask

__all__ = ["current_worker", "of_activity", "of_instance", "of_key"]

current_worker: ContextVar[Registration | None] = ContextVar("trioflow_worker", default=None)
"""The worker that the running code belongs to."""


class _Instance(Protocol):
    """What `HeldInstance` has."""

    id: str
    workflow: str

    @property
    def number(self) -> int: ...


def of_instance(instance: _Instance) -> dict[str, Any]:
    """Return the fields of a record about an instance."""
    return {
        "instance": instance.id,
        "execution": instance.number,
        "workflow": instance.workflow,
    }


def of_key(key: ActivityKey) -> dict[str, Any]:
    """Return the fields of a record about an activity of which only the key is known."""
    return {"instance": key.instance, "execution": key.execution, "command": key.command}


def of_activity(task: ActivityTask) -> dict[str, Any]:
    """Return the fields of a record about an attempt of an activity."""
    return {
        **of_key(task.key),
        "activity": task.activity,
        "attempt": task.attempt,
        "queue": task.queue,
    }


class _OfWorker(logging.Filter):
    """Adds what each record has, and shows the traceback of one that has it as text."""

    def filter(self, record: logging.LogRecord) -> bool:
        worker = current_worker.get()
        if worker is not None:
            vars(record).setdefault("worker", worker.id)
            vars(record).setdefault("worker_name", worker.name)
        traceback = vars(record).get("traceback")
        if traceback:
            record.exc_text = traceback  # `extra` cannot set it
        return True


logging.getLogger("trioflow.worker").addFilter(_OfWorker())
