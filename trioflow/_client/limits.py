"""The methods of a client for limits across workers, and for what instances share."""

from __future__ import annotations

import abc
from typing import Any

from trioflow._model.activities import Activity
from trioflow._model.limits import Limit, LimitKind, check_limit
from trioflow._model.shared import SharedEvent, SharedLock, SharedSemaphore, key_of_shared
from trioflow._model.workflows import Workflow
from trioflow.backends.abc import Backend
from trioflow.backends.records import SharedState
from trioflow.errors import ArgumentError

__all__ = ["LimitCalls"]


class LimitCalls(abc.ABC):
    """The methods of a client for limits across workers, and for what instances share."""

    @property
    @abc.abstractmethod
    def backend(self) -> Backend:
        """The store."""

    async def set_limit(
        self,
        *,
        queue: str | None = None,
        activity: str | Activity[..., Any] | None = None,
        workflow: str | Workflow[..., Any] | None = None,
        concurrency: int | None = None,
        rate: int | None = None,
        per: float = 1.0,
        key: str | None = None,
        key_concurrency: int | None = None,
    ) -> None:
        """Limit how much of one kind is under way, across all workers of the store.

        It holds once this has returned; what is under way already goes on, and counts. A limit
        that was set before for the same is replaced.

        Args:
            queue: Limits the activities of this queue,
            activity: or those of this name in all queues,
            workflow: or the instances of this workflow: at most ``concurrency`` that have begun
                and not ended. Others wait, and begin in their order.
            concurrency: How many activities run at once, at most.
            rate: How many begin within any ``per`` seconds, at most; each attempt counts.
            per: See ``rate``.
            key: The name of an argument. Then the activities take turns by its values: one with
                many that wait does not keep those of another value from beginning.
            key_concurrency: How many run at once of one value of that argument, at most.

        Raises:
            ArgumentError: Not one of the three is given, or a number is none that can be.
            BackendUnavailable: The store does not answer; it may have been set.
        """
        limit = _limit_of(
            *(queue, activity, workflow),
            concurrency=concurrency,
            rate=rate,
            per=per,
            key=key,
            key_concurrency=key_concurrency,
        )
        await self.backend.set_limit(limit)

    async def remove_limit(
        self,
        *,
        queue: str | None = None,
        activity: str | Activity[..., Any] | None = None,
        workflow: str | Workflow[..., Any] | None = None,
    ) -> bool:
        """Remove a limit; return whether there was one. What waited for it can begin at once.

        Raises:
            ArgumentError: Not one of the three is given.
            BackendUnavailable: The store does not answer.
        """
        return await self.backend.remove_limit(*_limited(queue, activity, workflow))

    async def limits(self) -> list[Limit]:
        """Return all limits, by kind and name.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        return [*(await self.backend.limits()).limits.values()]

    async def shared(self, shared: SharedLock | SharedSemaphore | SharedEvent) -> SharedState:
        """Return which instances hold a lock or a semaphore, and which wait for it or an event.

        Args:
            shared: Which one; any object of the same kind and name: ``SharedLock("account-7")``.

        Raises:
            ArgumentError: It is none of these.
            BackendUnavailable: The store does not answer.
        """
        return await self.backend.shared_state(key_of_shared(shared))


def _limited(
    queue: str | None,
    activity: str | Activity[..., Any] | None,
    workflow: str | Workflow[..., Any] | None,
) -> tuple[LimitKind, str]:
    """Return what is limited: its kind and its name.

    Raises:
        ArgumentError: Not one of the three is given.
    """
    named: list[tuple[LimitKind, str]] = []
    if queue is not None:
        named.append(("queue", queue))
    if activity is not None:
        named.append(("activity", activity.name if isinstance(activity, Activity) else activity))
    if workflow is not None:
        named.append(("workflow", workflow.name if isinstance(workflow, Workflow) else workflow))
    if len(named) != 1:
        raise ArgumentError("a limit is for one thing: give queue=, activity= or workflow=")
    return named[0]


def _limit_of(
    queue: str | None,
    activity: str | Activity[..., Any] | None,
    workflow: str | Workflow[..., Any] | None,
    *,
    concurrency: int | None,
    rate: int | None,
    per: float,
    key: str | None,
    key_concurrency: int | None,
) -> Limit:
    """Return a limit.

    Raises:
        ArgumentError: Not one of the three is given, or a number or a name is none that can be.
    """
    kind, name = _limited(queue, activity, workflow)
    limit = check_limit(
        Limit(
            kind=kind,
            name=name,
            concurrency=concurrency,
            rate=rate,
            per=per,
            key=key,
            key_concurrency=key_concurrency,
        )
    )
    known = activity.signature if isinstance(activity, Activity) else None
    if known is not None and key is not None and not known.has_parameter(key):
        raise ArgumentError(
            f"set_limit(activity={name!r}): it has no argument {key!r} to take turns by"
        )
    return limit
