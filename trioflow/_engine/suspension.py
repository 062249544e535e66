"""Suspension: the exception that stops an execution, and the reports for people."""

from __future__ import annotations

from trioflow._model.info import SuspendReport
from trioflow._model.rules import CURRENT_RULES

__all__ = [
    "NeedsSuspension",
    "does_not_wait",
    "raised_in",
    "undecodable",
    "unknown_rules",
    "unreadable_turn",
]


class NeedsSuspension(Exception):
    """The instance must be suspended; the turn that was begun must not be stored.

    What the turn consumed stays unread, so that it is made again once the instance is resumed.
    The execution is of no use any more and must be evicted.

    Attributes:
        report: Why, and what to do.
    """

    def __init__(self, report: SuspendReport) -> None:
        super().__init__(report.message)
        self.report = report


def does_not_wait(
    *, workflow: str, instance: str, turn: int, limit: int, task: str, line: str, cancelled: bool
) -> SuspendReport:
    """Report a turn whose tasks never block."""
    where = f" at {line}" if line else ""
    if cancelled:
        why = (
            "It was cancelled and goes on all the same: its code catches trio.Cancelled and does "
            "not raise it again. Let trio.Cancelled pass, and clean up under "
            "trio.CancelScope(shield=True)."
        )
    else:
        why = (
            "It runs in a loop that never waits for anything that can happen: time stands still "
            "within a turn, so that polling with sleep(0) waits for ever. Wait for an event, a "
            "signal, an activity or a sleep of some seconds."
        )
    return SuspendReport(
        kind="does not wait",
        message=(
            f"workflow {workflow!r} of instance {instance!r} never waits in turn {turn}: some "
            f"task always goes on, lastly task {task}{where}. {why} (A turn may "
            f"have {limit:,} task steps, one that is cancelled a part of them.) Nothing of this "
            "turn was stored. Mend the code, then resume the instance."
        ),
        turn=turn,
        task=task,
        line=line,
    )


def undecodable(  # noqa: PLR0917  # who, where, what
    workflow: str, instance: str, turn: int, task: str, what: str, error: str
) -> SuspendReport:
    """Report a stored value that the present code, or this process' codec, cannot read.

    ``error`` is what the reader said, or only its type where a codec hides what users store: a
    report is stored in plain.
    """
    otherwise = ""
    if what.startswith("signal "):
        otherwise = f" Or leave it out: handle.resume(without={what.removeprefix('signal ')})."
    return SuspendReport(
        kind="undecodable",
        message=(
            f"workflow {workflow!r} of instance {instance!r}: {what}, as it is stored, cannot be "
            f"read here: {error}. Nothing was changed, and it stays stored. Run a worker with the "
            "codec and the code (parameters, fields, types) that it was stored with, or code that "
            f"reads both, then resume the instance.{otherwise}"
        ),
        turn=turn,
        task=task,
    )


def raised_in(  # noqa: PLR0917  # who, where, what
    workflow: str, instance: str, turn: int, said: str, failed: tuple[str, ...], began: int
) -> SuspendReport:
    """Report an exception that the workflow says suspends it.

    ``said`` is its type, and its message where no codec hides what users store; ``failed`` are the
    calls whose failure it is, and ``began`` is the turn in which it began to fail.
    """
    again = "the turn is made again"
    if failed:
        calls = f"call {failed[0]}" if len(failed) == 1 else f"calls {', '.join(failed)}"
        again = f"{calls}, which had failed, will be tried again"
    return SuspendReport(
        kind="raised",
        message=(
            f"workflow {workflow!r} of instance {instance!r} raised in turn {turn} what is in its "
            f"suspend_on: {said}. Nothing of this turn was stored. Remove the cause, then resume "
            f"the instance, and {again}."
        ),
        turn=turn,
        failed=failed,
        began=began if began != turn else None,
    )


def unknown_rules(workflow: str, instance: str, rules: int) -> SuspendReport:
    """Report an execution that was begun by a newer trioflow."""
    return SuspendReport(
        kind="newer rules",
        message=(
            f"instance {instance!r} ({workflow}) runs by the rules {rules} of a newer trioflow; "
            f"this one knows them up to {CURRENT_RULES}. Update trioflow in this worker, then "
            "resume the instance."
        ),
    )


def unreadable_turn(instance: str, turn: int, why: str) -> SuspendReport:
    """Report a stored turn that cannot be replayed whatever the code is."""
    return SuspendReport(
        kind="unreadable history",
        message=f"turn {turn} of instance {instance!r} cannot be replayed: {why}",
        turn=turn,
    )
