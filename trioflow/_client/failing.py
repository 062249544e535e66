"""What an execution has failed by, found in its turns: since when, and which of its calls."""

from __future__ import annotations

from collections.abc import Sequence

from trioflow._codec.failures.failures import holds
from trioflow._codec.values import Codec
from trioflow._model import events as ev
from trioflow._model.commands import CancelActivity, CancelChild
from trioflow._model.turns import Failed, Turn
from trioflow.backends.records import InstanceRecord

__all__ = ["failed_calls", "first_turn_of_failure", "first_turn_to_drop", "has_failed"]

_Answer = ev.ActivityAnswer | ev.ChildAnswer | ev.SignalAnswer | ev.RequestAnswer
_Failed = ev.ActivityFailed | ev.ChildFailed


def first_turn_of_failure(turns: Sequence[Turn]) -> int:
    """Return the number of the turn in which a failed execution began to fail.

    Mostly that is its last one. But a nursery in which a task fails cancels the others first, and
    the workflow ends when these have stopped: then it is the turn that has cancelled them.
    """
    given = {
        command.id: number
        for number, turn in enumerate(turns)
        for command in turn.commands
        if isinstance(command, CancelActivity | CancelChild)
    }
    number = len(turns) - 1
    while True:
        answered = [event for event in turns[number].events if isinstance(event, _Answer)]
        cancelled_in = [given[event.id] for event in answered if event.id in given]
        if len(cancelled_in) < len(turns[number].events) or not cancelled_in:
            return number
        number = min(cancelled_in)


def first_turn_to_drop(turns: Sequence[Turn], codec: Codec) -> int:
    """Return the number of the first turn that a reset of a failed execution drops.

    That in which it began to fail. Or an earlier one in which a failure came that it has raised
    since, as code does that gathers failures: if it has asked for nothing meanwhile, there is
    nothing that would be done again.
    """
    keep = quiet = first_turn_of_failure(turns)
    while quiet and not turns[quiet - 1].commands:
        quiet -= 1
    came = failed_calls(turns, quiet, codec)
    for number in range(quiet, keep):
        if any(isinstance(each, _Failed) and each.id in came for each in turns[number].events):
            return number
    return keep


def failed_calls(turns: Sequence[Turn], keep: int, codec: Codec) -> set[str]:
    """Return the ids of the calls whose failure, come since a turn, has failed an execution.

    That is what it raised, as it came, in a group or as a cause.
    """
    outcome = turns[-1].outcome
    if not isinstance(outcome, Failed):
        return set()
    raised = outcome.failure.legible(codec)
    return {
        event.id
        for turn in turns[keep:]
        for event in turn.events
        if isinstance(event, _Failed) and holds(raised, event.failure.legible(codec))
    }


def has_failed(record: InstanceRecord) -> bool:
    """Return whether an instance ended in a way that its parent takes for a failure."""
    return record.status in ("failed", "terminated")
