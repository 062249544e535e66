"""Hints added as notes to errors of trio and asyncio that do not say what to do."""

from __future__ import annotations

from typing import cast

from trioflow.errors import NonRetryable

__all__ = ["add_asyncio_hint", "add_hints", "trio_on_asyncio"]

_TIMES = (
    "trio's times are numbers, in a workflow too: seconds since 1970 where a moment is asked for "
    "(datetime.timestamp()), seconds where a duration is (timedelta.total_seconds())"
)


def add_hints(error: BaseException) -> None:
    """Add a hint to a TypeError that trio raised because it was given a datetime."""
    if isinstance(error, BaseExceptionGroup):
        for member in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            add_hints(member)
    elif isinstance(error, TypeError) and "datetime." in str(error) and _is_from_trio(error):
        error.add_note(_TIMES)


def add_asyncio_hint(error: BaseException, activity: str) -> None:
    """Add a hint to an error that comes from running asyncio code on trio."""
    kind, said = type(error), error.args[:1]
    text = said[0] if said and type(said[0]) is str else ""
    if (kind is RuntimeError and text == "no running event loop") or (
        kind is TypeError and text.startswith("trio.run received unrecognized yield")
    ):
        error.add_note(
            f"if activity {activity!r} needs asyncio, declare it so: "
            '@activity(runtime="asyncio"); it then runs there also where the worker runs on trio'
        )


def trio_on_asyncio(error: BaseException, activity: str) -> NonRetryable | None:
    """Return what to raise instead of an error that comes from running trio's code on asyncio."""
    kind, said = type(error), error.args[:1]
    text = said[0] if said and type(said[0]) is str else ""
    if kind is RuntimeError:
        # Asyncio names the class of what it was given; trio's are private.
        found = text == "must be called from async context" or (
            text.startswith("Task got bad yield: ") and "trio." in text
        )
    else:
        found = kind is AttributeError and text.startswith("'RunContext' object has no attribute")
    if not found:
        return None
    return NonRetryable(
        f"activity {activity!r} uses trio, but this worker runs on asyncio: use anyio in it, which "
        "works on both, or run the worker on trio"
    )


def _is_from_trio(error: BaseException) -> bool:
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    module = "" if tb is None else str(tb.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] in ("trio", "anyio")
