"""The question of what an instance's tasks wait for, which every workflow answers."""

from __future__ import annotations

from trioflow._model.info import TaskInfo
from trioflow._model.queries import Query

__all__ = ["TASKS"]

TASKS = Query("trioflow:tasks", result=list[TaskInfo])
"""Is answered by the worker itself, before any handler of the workflow's."""
