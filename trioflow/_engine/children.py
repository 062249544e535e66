"""Sub-workflow calls: start a child instance for each attempt and wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, assert_never

import trio

from trioflow._codec.limits import COMMAND_LENGTH, check_id
from trioflow._codec.values import open_text
from trioflow._model import events as ev
from trioflow._model.commands import StartChild
from trioflow._model.ids import check_command_id, derived_id
from trioflow._model.workflows import Workflow
from trioflow.errors import ArgumentError, InstanceCancelled

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["call_workflow"]

R = TypeVar("R")


async def call_workflow(
    caller: Caller, workflow: Workflow[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> R:
    """Start a sub-workflow and wait for its result, as often as its retry policy says."""
    codec = caller.execution.codec
    began_at = caller.execution.now
    attempt = 1
    while True:
        answer, child = await _run_child(caller, workflow, args, kwargs, attempt)
        match answer:
            case ev.ChildCompleted():
                type_ = workflow.signature.result_type
                result: Any = caller.read(answer.result, type_, "{}() result", workflow.name)
                return result  # type: ignore[no-any-return]  # decoded as the annotated type
            case ev.ChildFailed():
                delay = None
                if workflow.retry is not None:
                    elapsed = caller.execution.now - began_at
                    delay = workflow.retry.next_delay(attempt, answer.failure, elapsed, child)
                if delay is None:
                    error = caller.rebuild(answer.failure)
                    error.add_note(f"raised in instance {child!r} ({workflow.name})")
                    raise error
                attempt += 1
                await trio.sleep(delay)
            case ev.ChildCancelled():
                raise InstanceCancelled(child, open_text(codec, answer.reason))
            case _:
                assert_never(answer)


async def _run_child(
    caller: Caller,
    workflow: Workflow[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    attempt: int,
) -> tuple[ev.ChildAnswer, str]:
    """Run one attempt; return how the child ended, and its id."""
    execution = caller.execution
    state = await caller.begin("workflow", workflow.name, attempt)
    command_id = state.next_id()
    command = execution.commands.find_recorded(command_id)
    if type(command) is not StartChild or command.workflow != workflow.name:
        if workflow.if_exists != "raise" or workflow.reuse_finished is not None:
            raise ArgumentError(
                f"workflow {workflow.name!r}: if_exists and reuse_finished are options of a start, "
                "not of a sub-workflow, which has one parent and is waited for by that; leave "
                "them out"
            )
        if len(command_id) > COMMAND_LENGTH:
            check_command_id(command_id, f"workflow {workflow.name!r}")
        me = execution.acting
        command = StartChild(
            id=command_id,
            workflow=workflow.name,
            instance=check_id(workflow.id)
            if workflow.id
            else derived_id(me.id, me.execution, command_id),
            input=caller.count_new(
                workflow.signature.encode(execution.codec, args, kwargs, workflow.name),
                f"{workflow.name}() arguments",
            ),
            queue=workflow.queue or me.queue,
            priority=me.priority if workflow.priority is None else workflow.priority,
            start_at=workflow.starts_at(caller.execution.now),
            options=workflow.overrides,
            attributes=workflow.attributes,
            metadata=execution.outgoing(workflow.metadata)
            if execution.carries or workflow.metadata
            else None,
        )
    else:
        caller.count_recorded(command.input)
    abandon = workflow.on_cancel == "abandon"
    answer: ev.ChildAnswer = await execution.commands.give_and_wait(command, abandon=abandon)
    return answer, command.instance
