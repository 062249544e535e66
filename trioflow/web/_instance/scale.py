"""The axis of a timeline: times as places from left to right, long idle stretches cut short."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from trioflow.web._instance.timeline import Timeline

__all__ = ["Piece", "Scale", "Tick", "offset", "scale_of"]

# How wide a stretch that is cut short is at most, in per cent: one in which nothing is under way,
# and one in which something is.
_CUT_IDLE = 5.0
_CUT_BUSY = 15.0
_ALL_CUTS = 40.0  # all of them together
# What is cut has at least so many seconds, and is so many times as long as all that is not.
_IDLE = (1.0, 3.0)
_BUSY = (600.0, 20.0)
_STEPS = (
    *(base * 10.0**power for power in range(-4, 0) for base in (1, 2, 5)),
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200),
    *(86400 * days for days in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)),
)
_PER_TICK = 11.0  # per cent of the width from one label to the next, at least
_LABEL = 6.0  # how much of that it takes itself
_MOST_TICKS = 100  # of one piece; there are ten or so, if floats can tell them apart
_FURTHEST = 1e300  # of the times that are drawn: one can calculate with them


class Piece(msgspec.Struct, frozen=True):
    """A stretch of time and where it is drawn: from ``x`` on, ``width`` wide, in per cent."""

    start: float
    end: float
    x: float
    width: float
    cut: bool = False


class Tick(msgspec.Struct, frozen=True):
    """A line of the axis. ``minor`` ones go first where there is little room."""

    x: float
    at: float
    label: str
    minor: bool = False


class Scale:
    """Says where a time is, in per cent of the width.

    Attributes:
        pieces: The stretches of time, in order; the first begins at ``start``.
        start: The time at the left end.
        end: That at the right end.
    """

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = list(pieces)
        self.start, self.end = pieces[0].start, pieces[-1].end
        self._starts = [piece.start for piece in pieces]

    def at(self, time: float) -> float:
        """Return the place of a time; one outside of the axis is at its nearer end."""
        time = min(max(time, self.start), self.end)
        piece = self.pieces[max(0, bisect_right(self._starts, time) - 1)]
        length = piece.end - piece.start
        if length <= 0:
            return piece.x
        return piece.x + piece.width * (time - piece.start) / length

    def ticks(self) -> list[Tick]:
        """Return the lines of the axis, with the time since its beginning as labels."""
        found: list[Tick] = []
        for piece in self.pieces:
            if not piece.cut:
                found += self._ticks_of(piece)
        cuts = [piece.x for piece in self.pieces if piece.cut]
        kept: list[Tick] = []
        for tick in found:
            label = tick.label
            if any(0 <= x - tick.x < _LABEL for x in [*cuts, 100.0]):
                label = ""  # it would run into what stands there
            if not kept or tick.x - kept[-1].x >= _LABEL:
                near = any(0 <= x - tick.x < 3 * _LABEL for x in cuts)
                minor = len(kept) % 2 == 1 or near
                kept.append(msgspec.structs.replace(tick, label=label, minor=minor))
        return kept

    def _ticks_of(self, piece: Piece) -> Iterable[Tick]:
        length = piece.end - piece.start
        if length <= 0 or piece.width <= 0:
            yield Tick(piece.x, piece.start, self._label(piece.start, 0.001))
            return
        least = length * _PER_TICK / piece.width
        step = next((each for each in _STEPS if each >= least), None)
        if step is None:
            step = 10.0 ** math.ceil(math.log10(least))
        number = -(-(piece.start - self.start) // step)  # the first that is not before the piece
        for _ in range(_MOST_TICKS):
            at = self.start + number * step
            if at > piece.end:
                break
            yield Tick(self.at(at), at, self._label(at, step))
            number += 1

    def _label(self, at: float, step: float) -> str:
        since = at - self.start
        return "0" if since < step / 2 else f"+{offset(since, step)}"


def scale_of(timeline: Timeline, *, true_scale: bool = False) -> Scale:
    """Return the axis for what a timeline shows.

    Args:
        timeline: Its bars, its marks and the moment of drawing are what matters.
        true_scale: Whether nothing is cut short.
    """
    start, end = _range(timeline)
    moments = {start, end}
    for bar in timeline.bars:
        moments |= {bar.start, timeline.now if bar.end is None else bar.end}
    moments.update(mark.at for mark in timeline.marks)
    moments.update(timeline.turns)
    if timeline.wakes_at is not None:
        moments.add(timeline.wakes_at)
    times = sorted(time for time in moments if start <= time <= end)
    gaps = [(a, b) for a, b in itertools.pairwise(times) if b > a]
    if not gaps:
        return Scale([Piece(start, start + 1, 0.0, 100.0)])
    return Scale(_laid_out(gaps, {} if true_scale else _to_cut(gaps, timeline)))


def _range(timeline: Timeline) -> tuple[float, float]:
    """Return what is to be seen: all, or if there are more bars only the time of these."""
    start, end = timeline.start, timeline.until
    if timeline.wakes_at is not None:
        end = max(end, min(timeline.wakes_at, _FURTHEST))
    if len(timeline.bars) < timeline.total and timeline.bars:
        start = max(start, timeline.bars[0].start)
        ends = (timeline.until if bar.end is None else bar.end for bar in timeline.bars)
        end = min(end, max(ends)) if timeline.first + len(timeline.bars) < timeline.total else end
    return start, max(start, end)


def _to_cut(gaps: Sequence[tuple[float, float]], timeline: Timeline) -> dict[float, float]:
    """Return the stretches that leave no room for the others, and how wide they are to be drawn.

    They are given by their starts.

    That is so of a stretch in which nothing is under way if it is longer than `_IDLE` times all
    that is drawn in full. One in which something is has to be much longer, since how long that
    takes is what people look for.
    """
    busy = _busy(gaps, timeline)
    by_length = sorted(gaps, key=lambda gap: gap[1] - gap[0])
    drawn = 0.0
    cut: dict[float, float] = {}
    for a, b in by_length:
        length = b - a
        shortest, times = _BUSY if a in busy else _IDLE
        # Once something was cut, all that is longer and of its kind is, too.
        if length >= shortest and length > times * drawn > 0:
            cut[a] = _CUT_BUSY if a in busy else _CUT_IDLE
        else:
            drawn += length
    return cut


def _busy(gaps: Sequence[tuple[float, float]], timeline: Timeline) -> set[float]:
    """Return the starts of the stretches in which an activity or a child is under way."""
    changes: list[tuple[float, int]] = []
    for bar in timeline.bars:
        end = timeline.until if bar.end is None else bar.end
        changes += [(bar.start, 1), (end, -1)]
    changes.sort()
    found: set[float] = set()
    under_way = place = 0
    for a, _ in gaps:
        while place < len(changes) and changes[place][0] <= a:
            under_way += changes[place][1]
            place += 1
        if under_way > 0:
            found.add(a)
    return found


def _laid_out(gaps: Sequence[tuple[float, float]], cut: dict[float, float]) -> list[Piece]:
    drawn = sum(b - a for a, b in gaps if a not in cut)
    wanted = sum(cut.values())
    share = min(1.0, _ALL_CUTS / wanted) if wanted else 0.0
    each = (100.0 - wanted * share) / drawn
    pieces: list[Piece] = []
    x = 0.0
    for a, b in gaps:
        wide = cut[a] * share if a in cut else (b - a) * each
        last = pieces[-1] if pieces else None
        if last is not None and not last.cut and a not in cut:
            pieces[-1] = Piece(last.start, b, last.x, last.width + wide)
        else:
            pieces.append(Piece(a, b, x, wide, a in cut))
        x += wide
    return pieces


_LONG_STEP = 1e9  # seconds; nothing but days matters
_MANY_DAYS = 1e7  # no more digits than say something
_UNITS = (("d", 86400), ("h", 3600), ("m", 60))


def offset(seconds: float, step: float) -> str:
    """Return a length of time, exact to a step: ``2m 30s``, ``16.8 s``.

    Args:
        seconds: How long.
        step: How exact it has to be, in seconds.
    """
    if step >= _LONG_STEP:
        days = seconds / 86400
        return f"{days:.0f}d" if days < _MANY_DAYS else f"{days:.3g}d"
    digits = next((n for n in range(6) if round(10.0**-n, 9) <= step), 6)
    left = round(seconds, digits)
    parts: list[str] = []
    for unit, size in _UNITS:
        many, left = divmod(left, size)
        if many:
            parts.append(f"{many:.0f}{unit}")
    left = round(left, digits)
    if not parts and left < 1 and step < 0.1:  # noqa: PLR2004 - where milliseconds read better
        return f"{left * 1000:g} ms"
    if left or not parts:
        parts.append(f"{left:g}s" if parts else f"{left:g} s")
    return " ".join(parts)
