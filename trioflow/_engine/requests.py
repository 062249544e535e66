"""What a workflow asks of instances that are not its own: to start, and to be cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

import trio

from trioflow._codec.limits import check_characters, check_id, check_reason
from trioflow._codec.values import seal_text
from trioflow._model.commands import CancelInstance, StartDetached, TerminateInstance
from trioflow._model.events import RequestAnswer, RequestDone, RequestFailed
from trioflow._model.ids import check_command_id, derived_id
from trioflow._model.workflows import Workflow

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["ask", "cancel_instance", "start_detached"]


async def start_detached(
    caller: Caller, workflow: Workflow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Start an instance without a parent, wait until it is stored, and return its id."""
    execution = caller.execution
    what = "start_detached() of workflow"
    state = await caller.begin(what, workflow.name)
    command_id = state.next_id()
    command = execution.commands.find_recorded(command_id)
    if type(command) is not StartDetached or command.workflow != workflow.name:
        check_command_id(command_id, f"{what} {workflow.name!r}")
        me = execution.acting
        data = workflow.signature.encode(execution.codec, args, kwargs, workflow.name)
        command = StartDetached(
            id=command_id,
            workflow=workflow.name,
            instance=check_id(workflow.id)
            if workflow.id
            else derived_id(me.id, me.execution, command_id),
            input=caller.count_new(data, f"{workflow.name}() arguments"),
            queue=workflow.queue or me.queue,
            priority=me.priority if workflow.priority is None else workflow.priority,
            start_at=workflow.starts_at(caller.now),
            options=workflow.overrides,
            attributes=workflow.attributes,
            if_exists=workflow.if_exists,
            reuse_finished=workflow.reuses_finished,
            metadata=execution.outgoing(workflow.metadata)
            if execution.carries or workflow.metadata
            else None,
        )
    else:
        caller.count_recorded(command.input)
    await ask(caller, command)
    return command.instance


async def cancel_instance(caller: Caller, instance: str, reason: str | None) -> None:
    """Ask an instance to end, and wait until the request is stored."""
    execution = caller.execution
    what = "cancel_instance()"
    state = await caller.begin(what, instance)
    command_id = state.next_id()
    command = execution.commands.find_recorded(command_id)
    if type(command) is not CancelInstance:
        check_command_id(command_id, what)
        check_characters(instance, "an instance's id")
        why = seal_text(execution.codec, check_reason(reason))
        command = CancelInstance(id=command_id, instance=instance, reason=why)
    await ask(caller, command)


async def ask(caller: Caller, command: StartDetached | CancelInstance | TerminateInstance) -> None:
    """Give a command to another instance, and wait until it is stored; raise what was refused."""
    execution = caller.execution
    with trio.CancelScope(shield=True):  # it is under way; the answer comes at once
        answer: RequestAnswer = await execution.commands.give_and_wait(command)
        match answer:
            case RequestDone():
                pass
            case RequestFailed():
                raise caller.rebuild(answer.failure)
            case _:
                assert_never(answer)
