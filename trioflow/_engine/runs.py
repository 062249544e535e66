"""Calls of the schedules' own workflow: start a run, and terminate one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trioflow._codec.limits import check_characters
from trioflow._engine.requests import ask
from trioflow._model.commands import StartDetached, StartOptions, TerminateInstance
from trioflow._model.events import ScheduleRef
from trioflow._model.ids import check_command_id
from trioflow._model.schedules import Due, Target
from trioflow.errors import InstanceAlreadyExists

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["start_run", "terminate_instance"]


async def start_run(caller: Caller, target: Target, run: Due) -> bool:
    """Start a run of a schedule; return whether it had not been started before.

    The instance tells this one of its end (`run_ended`), in whatever execution it is then.
    """
    execution = caller.execution
    what = "start of a run of workflow"
    state = await caller.begin(what, target.workflow)
    command_id = state.next_id()
    command = execution.commands.find_recorded(command_id)
    if type(command) is not StartDetached or command.workflow != target.workflow:
        check_command_id(command_id, what)
        me = execution.identity
        command = StartDetached(
            id=command_id,
            workflow=target.workflow,
            instance=run.id,
            input=caller.count_new(target.input.encode(), f"{target.workflow}() arguments"),
            queue=target.queue,
            priority=target.priority,
            options=msgspec.structs.replace(
                target.options or StartOptions(), schedule=ScheduleRef(me.id, me.life, run.at)
            ),
            attributes=target.attributes,
            reuse_finished=False,
            metadata=execution.outgoing(target.metadata)
            if execution.carries or target.metadata
            else None,
        )
    else:
        caller.count_recorded(command.input)
    try:
        await ask(caller, command)
    except InstanceAlreadyExists:
        return False
    return True


async def terminate_instance(caller: Caller, instance: str, reason: str) -> None:
    """End an instance at once, and wait until that is stored. No codec hides the reason."""
    execution = caller.execution
    what = "terminate of instance"
    state = await caller.begin(what, instance)
    command_id = state.next_id()
    command = execution.commands.find_recorded(command_id)
    if type(command) is not TerminateInstance:
        check_command_id(command_id, what)
        check_characters(instance, "an instance's id")
        command = TerminateInstance(id=command_id, instance=instance, reason=reason)
    await ask(caller, command)
