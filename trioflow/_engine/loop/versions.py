"""The check that trio's internals are those that this folder knows."""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
# This folder exists to use trio's internals.

from __future__ import annotations

import inspect

import trio
from trio._core import _run, _traps

__all__ = ["check_trio"]

_OLDEST_TRIO = "0.32"

_NEEDED: dict[object, tuple[str, ...]] = {
    _run.Runner: ("spawn_impl", "task_exited", "reschedule", "runq", "tasks", "deadlines"),
    _run.Task: (
        "_next_send_fn",
        "_next_send",
        "_abort_func",
        "_counter",
        "_activate_cancel_status",
        "_attempt_delivery_of_any_pending_cancel",
        "_child_nurseries",
        "_ki_protected",
        "context",
        "coro",
        "_runner",
        "custom_sleep_data",
    ),
    trio.lowlevel.ParkingLot: ("_parked", "break_lot"),
    _run.Nursery: ("_add_exc", "_check_nursery_closed", "parent_task"),
    _run.CancelScope: ("_cancel", "cancel_called"),
    _run.CancelStatus: ("recalculate", "close", "parent_cancellation_is_visible_to_us"),
    _run.Deadlines: ("add", "expire", "next_deadline"),
    _run: (
        "GLOBAL_RUN_CONTEXT",
        "GLOBAL_PARKING_LOT_BREAKER",
        "_NO_SEND",
        "CancelReason",
        "CONTEXT_RUN_TB_FRAMES",
    ),
    _traps: ("CancelShieldedCheckpoint", "WaitTaskRescheduled", "PermanentlyDetachCoroutineObject"),
}


def check_trio() -> None:
    """Raise ImportError if trio's internals are not the ones used here."""
    missing = [
        f"{getattr(owner, '__name__', owner)}.{name}"
        for owner, names in _NEEDED.items()
        for name in names
        if not hasattr(owner, name)
    ]
    wanted = ("self", "async_fn", "args", "nursery", "name", "system_task", "context")
    if not missing and tuple(inspect.signature(_run.Runner.spawn_impl).parameters) != wanted:
        missing = ["Runner.spawn_impl(...) with the known parameters"]
    if missing:
        raise ImportError(
            f"trioflow does not know the internals of trio {trio.__version__}: it lacks "
            f"{', '.join(missing)}. Install a trio from {_OLDEST_TRIO} on that this trioflow was "
            "tested with (pip install 'trio>=0.32,<=0.35'), or a newer trioflow."
        )
