"""The methods of a client that create and find schedules."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from trioflow._client.arguments import check_id, check_workflow
from trioflow._client.listing import SCHEDULES
from trioflow._client.native_cancel import raises_native_cancels
from trioflow._client.schedules import (
    ScheduleDescription,
    ScheduleHandle,
    describe_schedule,
    start_of,
)
from trioflow._codec.values import Codec
from trioflow._model.bound import BoundWorkflow
from trioflow._model.calendars import Calendar
from trioflow._model.options import check_count
from trioflow._model.schedules import Overlap
from trioflow._model.workflows import Workflow
from trioflow.backends.abc import Backend
from trioflow.errors import InstanceAlreadyExists

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["ScheduleCalls"]

R = TypeVar("R")


class ScheduleCalls(abc.ABC):
    """The methods of a client for schedules."""

    codec: Codec

    @property
    @abc.abstractmethod
    def backend(self) -> Backend:
        """The store."""

    async def schedule(
        self,
        id: str,
        calendar: Calendar,
        call: BoundWorkflow[R],
        *,
        overlap: Overlap = "skip",
        catch_up: float = 3600.0,
        jitter: float = 0.0,
    ) -> ScheduleHandle[R]:
        """Have a workflow run again and again, from now on.

        The id of a run is that of the schedule with its time: ``daily/2026-11-26T08:00:00Z``;
        ``info().scheduled_at`` is that time. ``client.list(id_prefix="daily/")`` shows the runs.

        Args:
            id: The schedule's id. It is that of an instance, too: the schedule is one.
            calendar: When: ``Cron("0 9 * * mon-fri", tz="Europe/Madrid")`` or
                ``Every(minutes=5)``.
            call: What: ``report.bind("all")``, with all options but those that say when it starts.
            overlap: What happens if a run is due while another is under way. ``"skip"``: it is left
                out. ``"buffer_one"``: it begins when that has ended; one waits, and others that are
                due meanwhile are left out. ``"buffer_all"``: they all wait, up to 1,000 of them.
                ``"cancel_other"`` and ``"terminate_other"``: that one is cancelled or terminated,
                and the new one begins when it has ended. ``"allow"``: it begins.
            catch_up: By how many seconds a run may be late and is still begun, because no worker
                was there; what is missed by more is only counted. Ten seconds are always allowed;
                ``math.inf`` leaves out nothing.
            jitter: A run begins up to so many seconds after its time, each at a moment of its own
                that depends on the ids alone, but never before one with an earlier time.

        Returns:
            A handle of the schedule.

        Raises:
            InstanceAlreadyExists: There is an unfinished instance, or a schedule, of this id; then
                ``client.schedule_handle(id).replace(…)`` changes it.
            ArgumentError: The arguments of the call do not fit, ``calendar`` or ``call`` is
                something else, or the id is too long for those of its runs.
            DefinitionError: There is no such ``overlap``.
            TypeError, ValueError: ``catch_up`` or ``jitter`` is no number of seconds.
            BackendUnavailable: The store cannot be reached or written.
        """
        terms = {"overlap": overlap, "catch_up": catch_up, "jitter": jitter}
        client = cast("Client", self)
        definition, state = start_of(client, id, calendar, call, terms)
        try:
            await client.start(definition, state)
        except InstanceAlreadyExists:
            known = f"if it is a schedule, client.schedule_handle({id!r}).replace(…) changes it"
            raise InstanceAlreadyExists(id, known) from None
        return ScheduleHandle(client, id, call.definition)

    @overload
    def schedule_handle(self, id: str) -> ScheduleHandle[Any]: ...

    @overload
    def schedule_handle(self, id: str, workflow: Workflow[..., R]) -> ScheduleHandle[R]: ...

    def schedule_handle(
        self, id: str, workflow: Workflow[..., Any] | None = None
    ) -> ScheduleHandle[Any]:
        """Return a handle of a schedule by its id; whether it exists shows when it is used.

        Args:
            id: The schedule's id.
            workflow: What it runs, for the type of the results.

        Raises:
            TypeError, ValueError, ArgumentError: As `handle`.
        """
        check_workflow(workflow)
        return ScheduleHandle(cast("Client", self), check_id(id), workflow)

    @raises_native_cancels
    async def schedules(
        self, *, limit: int = 100, after: str | None = None
    ) -> list[ScheduleDescription]:
        """Return the schedules, newest first.

        Args:
            limit: How many at most.
            after: The id of the last one of the page before.

        Raises:
            ValueError: ``limit`` is negative.
            InstanceNotFound: ``after`` has been removed meanwhile.
            UndecodableValue: Another codec has stored one of them.
        """
        most, last = check_count("limit", limit, 0), None if after is None else check_id(after)
        found = await self.backend.list(SCHEDULES, limit=most, after=last)
        return [describe_schedule(record, self.codec) for record in found]
