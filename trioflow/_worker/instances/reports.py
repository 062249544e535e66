"""Why the worker suspends an instance and how one has ended, in words for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trioflow._codec.values import Codec, is_plain
from trioflow._engine.execution import Execution
from trioflow._model.events import SignalReceived
from trioflow._model.info import SuspendReport
from trioflow._worker.instances.held import HeldInstance

__all__ = [
    "always_refused",
    "crashes_its_worker",
    "engine_failed",
    "limit_reached",
    "rejected",
    "turns_missing",
    "unread_signals",
    "unreadable_message",
    "unreadable_turn",
]


def unread_signals(unread: Sequence[SignalReceived]) -> str:
    """Return the names of signals that were never received, with counts."""
    counts = Counter(signal.name for signal in unread)
    return ", ".join(f"{name!r} ({count})" for name, count in counts.items())


def limit_reached(instance: HeldInstance, execution: Execution) -> SuspendReport:
    """Return the report of a history that has reached its limit."""
    return SuspendReport(
        kind="history limit",
        message=(
            f"the history of instance {instance.id!r} has {execution.events} events, the limit "
            f"of workflow {instance.workflow!r} is {execution.max_events}. Let the "
            "workflow call continue_as_new() when info().should_continue_as_new is true; to go on "
            "with this one, raise its max_events and resume it."
        ),
        turn=instance.turns,
    )


def engine_failed(instance: HeldInstance, error: BaseException, codec: Codec) -> SuspendReport:
    """Return the report of a mistake in trioflow itself, or in data that it cannot store.

    A report is stored in plain, so it says no more than the error's type where a codec hides what
    users store; the log has all of it.
    """
    said = f": {error}" if is_plain(codec) else " (see the worker's log)"
    return SuspendReport(
        kind="engine",
        message=(
            f"trioflow failed in turn {instance.turns} of instance {instance.id!r}: "
            f"{type(error).__name__}{said}".encode("utf-8", "backslashreplace").decode()
        ),
        turn=instance.turns,
    )


def turns_missing(instance: HeldInstance, found: int) -> SuspendReport:
    """Return the report of a history that has fewer turns than the instance's row says."""
    return SuspendReport(
        kind="unreadable history",
        message=(
            f"execution {instance.number} of instance {instance.id!r} has {found} stored turns, "
            f"its row says {instance.turns}: some are missing. Restore them, and resume it."
        ),
        turn=found,
    )


def always_refused(instance: HeldInstance) -> SuspendReport:
    """Return the report of an instance whose turns the store refuses again and again."""
    return SuspendReport(
        kind="unreadable history",
        message=(
            f"the store refused the turns of instance {instance.id!r} {instance.failures} times, "
            f"from turn {instance.turns} on: what it counts and what it has do not fit. Look at "
            f"the stored turns of execution {instance.number}; resume() tries again."
        ),
        turn=instance.turns,
    )


def unreadable_turn(instance: HeldInstance, error: Exception) -> SuspendReport:
    """Return the report of a stored turn that cannot be decoded."""
    return SuspendReport(
        kind="unreadable history",
        message=f"a stored turn of instance {instance.id!r} cannot be read: {error}",
    )


def unreadable_message(instance: HeldInstance, error: Exception) -> SuspendReport:
    """Return the report of a row of the inbox that cannot be decoded."""
    return SuspendReport(
        kind="unreadable history",
        message=(
            f"a message in the inbox of instance {instance.id!r} cannot be read: {error}. Repair "
            "or delete the row, and resume it."
        ),
        turn=instance.turns,
    )


def crashes_its_worker(instance: HeldInstance, deaths: int) -> SuspendReport:
    """Return the report of an instance whose steps ended the processes that made them."""
    return SuspendReport(
        kind="crashes its worker",
        message=(
            f"{deaths} workers died one after the other while they stepped instance "
            f"{instance.id!r} (workflow {instance.workflow!r}, turn {instance.turns}) and nothing "
            "else. Look for what ends the process there: memory, a crash in a library, os._exit(). "
            "Then resume it."
        ),
        turn=instance.turns,
    )


def rejected(instance: HeldInstance, turn: int, error: Exception) -> SuspendReport:
    """Return the report of a turn whose data the store does not take."""
    text = f"{type(error).__name__}: {error}".encode("utf-8", "backslashreplace").decode()
    return SuspendReport(
        kind="refused by the store",
        message=(
            f"the store does not take turn {turn} of instance {instance.id!r}: {text[:2000]}. "
            "Change what the workflow gives there, or the store's limits, and resume it."
        ),
        turn=turn,
    )
