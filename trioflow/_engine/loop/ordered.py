"""Steps that apply what happened since the last turn in the order of its time."""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false, reportUnknownArgumentType=false
# This folder exists to use trio's internals.

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, TypeVar

from trioflow._engine.loop.hosting import enter_host, leave_host
from trioflow._engine.loop.steps import EndedUnseen

if TYPE_CHECKING:
    from trioflow._engine.loop.nested import NestedLoop

__all__ = ["step_in_order"]

T = TypeVar("T")


def step_in_order(  # noqa: C901, PLR0912, PLR0917  # one loop over two kinds of things
    loop: NestedLoop,
    now: float,
    things: Sequence[T],
    times: Sequence[float],
    apply: Callable[[T], None],
    to_see: Callable[[T], bool],
    together_from: int = -1,
) -> bool:
    """Set the clock; apply events and expire deadlines one after the other, by their time.

    Between two of them tasks run until all of them wait. What happened at a deadline's own
    time was before it. The clock says ``now`` throughout.

    The main task may end while things are left that it has to see. Then the step has to be
    made again, with all that is left applied before the tasks run that last time: see
    ``together_from``.

    Args:
        loop: Which one is stepped.
        now: The time of the step.
        things: What happened.
        times: When each of them did, ascending, none after ``now``.
        apply: Called with each.
        to_see: Says of a thing whether it must come before the main task ends.
        together_from: The number, from 0, of the thing or deadline together with which all
            things that are left and must be seen are applied; -1 for none.

    Returns:
        Whether anything was applied ahead of a deadline that had passed before ``now``.

    Raises:
        KeyboardInterrupt: It was raised inside workflow code; the loop must be thrown away.
        StepsUsedUp: The tasks never block; likewise.
        EndedUnseen: The main task ended too early (see above); likewise.
    """
    loop._clock.now = now
    runner = loop._runner
    deadlines = runner.deadlines
    deadlines.present = now
    mixed = False
    number = 0  # of things and deadlines, in the order in which they come
    applied = 0
    host = loop._host or enter_host(runner, loop._agen_began, loop._agen_dropped)
    try:
        if len(things) == 1 and not (deadlines._heap and deadlines.next_deadline() <= now):
            apply(things[0])  # the common case; the code below would do the same
            runq = runner.runq
            while runq:
                loop._run_batch()
                if deadlines.past:
                    deadlines.expire_past(now)
            return False
        seeing = [to_see(thing) for thing in things]
        last = max((at for at, seen in enumerate(seeing) if seen), default=-1)
        for thing, time in zip(things, times, strict=True):
            while deadlines._heap and (due := deadlines.next_deadline()) < now:
                if due >= time:
                    mixed = True
                    break
                if number == together_from:
                    break
                _expire(loop, due)
                if applied <= last and loop.outcome is not None:
                    raise EndedUnseen(number)
                number += 1
            if number == together_from:
                left = list(zip(things, seeing, strict=True))[applied:]
                _apply_together(loop, left, min(time, now), apply)
                break
            apply(thing)
            applied += 1
            _run_until_blocked(loop, time)
            if applied <= last and loop.outcome is not None:
                raise EndedUnseen(number)
            number += 1
        while deadlines._heap and (due := deadlines.next_deadline()) <= now:
            _expire(loop, due)
        return mixed
    finally:
        deadlines.present = -inf
        deadlines.past = None
        if host is not loop._host:
            leave_host(host)


def _apply_together(
    loop: NestedLoop, left: Sequence[tuple[T, bool]], time: float, apply: Callable[[T], None]
) -> None:
    """Apply the next thing or deadline together with all that must be seen; then the rest."""
    deadlines = loop._runner.deadlines
    if deadlines._heap and (due := deadlines.next_deadline()) < time:
        deadlines.expire(due)
    else:
        apply(left[0][0])
        left = left[1:]
    for thing, seen in left:
        if seen:
            apply(thing)
    _run_until_blocked(loop, time)
    for thing, seen in left:
        if not seen:
            apply(thing)
            _run_until_blocked(loop, time)


def _expire(loop: NestedLoop, due: float) -> None:
    loop._runner.deadlines.expire(due)
    _run_until_blocked(loop, due)


def _run_until_blocked(loop: NestedLoop, reached: float) -> None:
    runq, deadlines = loop._runner.runq, loop._runner.deadlines
    while runq:
        loop._run_batch()
        if deadlines.past:
            deadlines.expire_past(reached)
