"""What a worker is told by whoever runs it, checked where it is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from trioflow._codec.values import Codec, JsonCodec
from trioflow._model.interceptors import Interceptor, check_interceptors
from trioflow._model.options import check_choice, check_count, check_seconds
from trioflow._model.propagation import Propagator
from trioflow._observe import Observer, check_observers
from trioflow._registry import Registry, default_registry
from trioflow._worker.code_check import Check

__all__ = ["WorkerOptions"]

_COUNTS = ("max_activities", "max_threads", "max_instances", "max_steps")


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """The options of `open_worker`, which describes them, under the same names.

    An option is added here, with its default and its check, and to the keywords of `open_worker`
    and `run_worker`. They repeat the defaults for type checkers, editors and ``help()``.

    Raises:
        ValueError: A number is out of its range.
        DefinitionError: There is no such ``check``.
        TypeError: Queues were given as one string, a number as something else, or an observer or
            interceptor is none.
    """

    registry: Registry = default_registry
    queues: Sequence[str] = ("default",)
    activity_queues: Sequence[str] | None = None
    workflows: bool = True
    activities: bool = True
    max_activities: int = 1000
    max_threads: int = 40
    max_processes: int | None = None
    max_instances: int = 5000
    cache_size: int = 1000
    lease: float = 15.0
    drain: float = 10.0
    sticky: float = 1.0
    stuck_after: float = 2.0
    max_steps: int = 1_000_000
    codec: Codec = field(default_factory=JsonCodec)
    name: str | None = None
    check: Check = "off"
    propagators: Sequence[Propagator] = ()
    interceptors: Sequence[Interceptor] = ()
    keep_finished: float | None = None
    keep_executions: float | None = None
    observers: Sequence[Observer] = ()

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for what in _COUNTS:
            check_count(what, getattr(self, what), 1)
        if self.max_processes is not None:
            check_count("max_processes", self.max_processes, 1)
        check_count("cache_size", self.cache_size, 0)
        check_choice("check", self.check, get_args(Check))
        for what in ("lease", "stuck_after"):
            check_seconds(what, getattr(self, what))
        for what in ("drain", "sticky"):
            check_seconds(what, getattr(self, what), zero=True)
        for what in ("keep_finished", "keep_executions"):
            if getattr(self, what) is not None:
                check_seconds(what, getattr(self, what))
        check_interceptors(self.interceptors)
        check_observers(self.observers)
        for what in ("queues", "activity_queues"):
            if isinstance(name := getattr(self, what), str):
                raise TypeError(
                    f"{what} are a sequence of names, not one string: {what}=[{name!r}]"
                )

    @property
    def kept(self) -> tuple[float | None, float | None]:
        """For how long finished instances, and ended executions of any, are kept."""
        return self.keep_finished, self.keep_executions

    @property
    def served_queues(self) -> Sequence[str]:
        """The queues whose instances are run; empty for a worker that runs activities only."""
        return self.queues if self.workflows else ()

    @property
    def served_activity_queues(self) -> Sequence[str]:
        """The queues whose activities are run; empty for a worker that runs workflows only."""
        if not self.activities:
            return ()
        return self.queues if self.activity_queues is None else self.activity_queues

    @property
    def processes(self) -> int:
        """How many activities may run in processes: as many as there are processors by default."""
        if self.max_processes is not None:
            return self.max_processes
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
