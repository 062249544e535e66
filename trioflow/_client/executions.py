"""The executions of an id over time, of all lives that had it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from trioflow._client.description import Description, ExecutionDescription, describe
from trioflow._codec.values import Codec
from trioflow.backends.abc import Backend
from trioflow.backends.records import EndedExecution, InstanceRecord

__all__ = ["describe_executions", "row_of_life"]

_SHOWN = ("outcome", "result", "failure", "reason", "custom_status")


def describe_executions(kept: Sequence[EndedExecution], codec: Codec) -> list[ExecutionDescription]:
    """Read what is kept of an id's executions for people; in order."""
    befores = [None, *(one.record for one in kept)]
    return [_describe(one, before, codec) for one, before in zip(kept, befores, strict=False)]


def _describe(
    row: EndedExecution, before: InstanceRecord | None, codec: Codec
) -> ExecutionDescription:
    record, seen = row.record, _seen(row.record, codec)
    return ExecutionDescription(
        number=record.execution,
        life=record.life,
        workflow=record.workflow,
        status=record.status if row.how == "ended" else row.how,
        started_at=_started_at(record, before),
        ended_at=record.finished_at or 0.0,
        turns=record.turns,
        result=seen.result,
        failure=seen.failure,
        reason=seen.reason,
        custom_status=seen.custom_status,
        undecodable={name: why for name, why in seen.undecodable.items() if name in _SHOWN},
    )


def _seen(record: InstanceRecord, codec: Codec) -> Description:
    # Of one that was continued the input is not there.
    return describe(
        msgspec.structs.replace(record, input=record.input or b"{}", metadata=b""), [], codec
    )


def _started_at(record: InstanceRecord, before: InstanceRecord | None) -> float | None:
    if before is None or before.execution < record.execution - 1:
        return record.created_at if record.execution == 1 else None
    return before.finished_at if before.life == record.life else record.created_at


async def row_of_life(backend: Backend, id: str, life: str) -> InstanceRecord | None:
    """Return the row of an instance whose id another one has taken, if it is kept."""
    for one in reversed(await backend.executions(id)):
        if one.how == "ended" and one.record.life == life:
            return one.record
    return None
