"""A timeline as SVG: places in per cent of the width, so that texts keep their size on any screen.

Whatever comes from users is escaped by markupsafe. There are no styles and no scripts in it:
classes say what a thing is, and ``instance.css`` how that looks.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from markupsafe import Markup, escape

from trioflow.web._instance.scale import Piece, Scale, scale_of
from trioflow.web._instance.timeline import Bar, Mark, Timeline
from trioflow.web._words import clock, duration, number

__all__ = ["Drawing", "Row", "draw"]

_EACH = 60  # so many bars get a row each; more share rows
_LANES = 150  # how many lanes one name gets at most, where bars share a row
_LABELLED = 2.0  # per cent of the width from which on a cut has a label
_AT_THE_END = 97  # where there is no room for a sign beside a bar
_PLACES = 700  # marks of one row that are nearer to each other than a part of so many are one
_AXIS = 26
_HEIGHT = 26  # of a row
_PAD = 6  # below the lanes of a row
_LANE, _LOW_LANE = 14, 8
_MANY = 24  # from so many lanes on they are low


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the picture.

    Attributes:
        label: What stands beside it.
        kind: What kind of thing it shows.
        note: What stands behind the label: how long it took, or how many there are.
        lanes: The bars that are drawn in it, one lane below the other; in a lane none covers
            another.
        marks: What happened at one moment.
        id: The id of the command, if the row shows one only; otherwise ``""``.
        instance: The other instance that it is about, likewise.
    """

    label: str
    kind: str
    note: str = ""
    lanes: list[list[Bar]] = []
    marks: list[Mark] = []
    id: str = ""
    instance: str = ""

    @property
    def lane(self) -> int:
        """How high each lane is."""
        many = len(self.lanes)
        return _HEIGHT if many <= 1 else _LANE if many <= _MANY else _LOW_LANE

    @property
    def height(self) -> int:
        """How high it is, in pixels."""
        return max(_HEIGHT, len(self.lanes) * self.lane + (_PAD if len(self.lanes) > 1 else 0))


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """A timeline that was drawn.

    Attributes:
        svg: The picture, without the labels of its rows.
        rows: Its rows from top to bottom, below the axis.
        left_out: How many bars are not drawn, for want of room.
        cuts: How many stretches of time are cut short.
        said: What the picture shows, in a sentence, for those who do not see it.
    """

    svg: Markup
    rows: list[Row]
    left_out: int
    cuts: int
    said: str


def draw(timeline: Timeline, *, true_scale: bool = False) -> Drawing:
    """Draw a timeline.

    Args:
        timeline: What to draw.
        true_scale: Whether long stretches in which nothing happens are drawn as long as they are.
    """
    scale = scale_of(timeline, true_scale=true_scale)
    rows, left_out = _rows(timeline)
    whole = _AXIS + _HEIGHT + sum(row.height for row in rows)
    parts: list[Markup] = [*_axis(timeline, scale, whole)]
    parts.append(_workflow(timeline, scale, _AXIS, _HEIGHT))
    y = _AXIS + _HEIGHT
    for row in rows:
        for place, bars in enumerate(row.lanes):
            top = y + place * row.lane
            parts += [_bar(bar, timeline, scale, top, row.lane) for bar in bars]
        parts += _marks(row.marks, scale, y)
        y += row.height
    said = _said(timeline)
    svg = _filled(
        '<svg class="timeline" role="img" aria-label="{said}" width="100%" height="{height}"'
        ' xmlns="http://www.w3.org/2000/svg">{parts}</svg>',
        said=said,
        height=whole,
        parts=Markup("\n").join(parts),
    )
    cuts = sum(piece.cut for piece in scale.pieces)
    return Drawing(svg=svg, rows=rows, left_out=left_out, cuts=cuts, said=said)


# --- rows --------------------------------------------------------------------------------------


def _rows(timeline: Timeline) -> tuple[list[Row], int]:
    """Return the rows, and how many bars have no room in them."""
    rows: list[Row] = []
    left_out = 0
    if len(timeline.bars) <= _EACH:
        rows += [_row_of(bar, timeline) for bar in timeline.bars]
    else:
        groups: dict[tuple[str, str], list[Bar]] = {}
        for bar in timeline.bars:
            groups.setdefault((bar.kind, bar.name), []).append(bar)
        for (kind, name), bars in groups.items():
            lanes, rest = _packed(bars, timeline.until, _LANES)
            left_out += rest
            note = f"\N{MULTIPLICATION SIGN} {number(len(bars))}"
            rows.append(Row(label=name, kind=kind, note=note, lanes=lanes))
    points: dict[tuple[str, str], list[Mark]] = {}
    for mark in timeline.marks:
        if mark.kind != "patch":
            points.setdefault((mark.kind, mark.name), []).append(mark)
    for (kind, name), marks in [*points.items()][:_EACH]:
        note = f"\N{MULTIPLICATION SIGN} {number(len(marks))}" if len(marks) > 1 else ""
        label = name or {"timer": "timer over", "cancel": "cancel asked"}.get(kind, kind)
        rows.append(Row(label=label, kind=kind, note=note, marks=marks))
    return rows, left_out


def _row_of(bar: Bar, timeline: Timeline) -> Row:
    seconds = bar.seconds
    if seconds is None:
        note = f"{duration(max(0.0, timeline.now - bar.start))}\N{HORIZONTAL ELLIPSIS}"
    else:
        note = duration(seconds)
    if bar.attempt > 1:
        note = f"attempt {bar.attempt}{' is next' if bar.waits else ''}, {note}"
    return Row(
        label=bar.name, kind=bar.kind, note=note, lanes=[[bar]], id=bar.id, instance=bar.instance
    )


def _packed(bars: Sequence[Bar], until: float, most: int) -> tuple[list[list[Bar]], int]:
    """Put bars into as few lanes as there can be, so that none hides another."""
    lanes: list[list[Bar]] = []
    ends: list[float] = []
    left_out = 0
    for bar in bars:
        free = next((n for n, end in enumerate(ends) if end <= bar.start), None)
        if free is None and len(lanes) >= most:
            left_out += 1
            continue
        if free is None:
            free = len(lanes)
            lanes.append([])
            ends.append(0.0)
        lanes[free].append(bar)
        ends[free] = until if bar.end is None else bar.end
    return lanes, left_out


def _filled(template: str, **fields: float | str) -> Markup:
    """Return a template of ours with its fields filled in; what is no `Markup` is escaped.

    `Markup.format` does the same, and takes twenty times as long.
    """
    safe = {name: escape(value) if type(value) is str else value for name, value in fields.items()}
    return Markup(template.format(**safe))  # noqa: S704 - every text was escaped


# --- what is drawn -------------------------------------------------------------------------------


def _axis(timeline: Timeline, scale: Scale, height: int) -> list[Markup]:
    parts = [
        _filled(
            '<g class="tick{minor}"><line x1="{x:.3f}%" x2="{x:.3f}%" y1="{top}" y2="{height}"/>'
            '<text x="{x:.3f}%" y="14" dx="3">{label}</text><title>{at}</title></g>',
            minor=" minor" if tick.minor else "",
            x=tick.x,
            top=4,
            height=height,
            label=tick.label,
            at=_moment(tick.at),
        )
        for tick in scale.ticks()
    ]
    parts += [_cut(piece, height) for piece in scale.pieces if piece.cut]
    if timeline.end is None and scale.start <= timeline.now <= scale.end:
        parts.append(
            _filled(
                '<g class="now"><line x1="{x:.3f}%" x2="{x:.3f}%" y1="4" y2="{height}"/>'
                "<title>now: {at}</title></g>",
                x=scale.at(timeline.now),
                height=height,
                at=_moment(timeline.now),
            )
        )
    return parts


def _cut(piece: Piece, height: int) -> Markup:
    x, width, seconds = piece.x, piece.width, piece.end - piece.start
    label = Markup("")
    if width >= _LABELLED:
        label = _filled(
            '<text x="{x:.3f}%" y="14" text-anchor="middle">{label}</text>',
            x=x + width / 2,
            label=_short(seconds),
        )
    return _filled(
        '<g class="cut"><rect x="{x:.3f}%" width="{width:.3f}%" y="{top}" height="{height}"/>'
        "{label}<title>{seconds} in which little happens, cut short</title></g>",
        x=x,
        width=width,
        top=_AXIS - 6,
        height=height - _AXIS + 6,
        label=label,
        seconds=duration(seconds),
    )


def _workflow(timeline: Timeline, scale: Scale, y: int, height: int) -> Markup:
    """Draw the row of the execution itself, with its turns."""
    x = scale.at(timeline.start)
    width = scale.at(timeline.until) - x
    turns = [
        _filled(
            '<line class="turn" x1="{x:.3f}%" x2="{x:.3f}%" y1="{top}" y2="{bottom}"/>',
            x=at,
            top=y + 5,
            bottom=y + height - 5,
        )
        for at in _thinned(timeline.turns, scale)
    ]
    over = (
        "" if timeline.end is None else f", over after {duration(timeline.until - timeline.start)}"
    )
    wakes = Markup("")
    if timeline.wakes_at is not None and timeline.wakes_at > timeline.now:
        at = scale.at(timeline.wakes_at)
        wakes = _filled(
            '<g class="wakes"><line x1="{start:.3f}%" x2="{x:.3f}%" y1="{y}" y2="{y}"/>'
            '<circle cx="{x:.3f}%" cy="{y}" r="4"/><title>wakes at {at}</title></g>',
            start=scale.at(timeline.now),
            x=at,
            y=y + height // 2,
            at=_moment(timeline.wakes_at),
        )
    return _filled(
        '<g class="bar execution {status}"><rect x="{x:.3f}%" y="{top}" width="{width:.3f}%"'
        ' height="{high}" rx="2"/>{turns}'
        "<title>the execution: {status}{over}; {count} turns</title></g>{wakes}",
        status=timeline.status,
        x=x,
        top=y + 5,
        width=max(width, 0.0),
        high=height - 10,
        turns=Markup("").join(turns),
        over=over,
        count=f"{len(timeline.turns):,}",
        wakes=wakes,
    )


def _thinned(times: Sequence[float], scale: Scale) -> list[float]:
    """Return places of times, one for those that would be drawn over each other."""
    inside = (time for time in times if scale.start <= time <= scale.end)
    places = {round(scale.at(time) * _PLACES / 100) for time in inside}
    return [place * 100 / _PLACES for place in sorted(places)]


def _bar(bar: Bar, timeline: Timeline, scale: Scale, y: int, height: int) -> Markup:
    end = timeline.until if bar.end is None else bar.end
    x = scale.at(bar.start)
    width = max(scale.at(end) - x, 0.0)
    inset = 5 if height == _HEIGHT else 1
    high = height - 2 * inset
    more: list[Markup] = []
    if bar.held_at is not None:
        held = scale.at(bar.held_at)
        more.append(
            _filled(_HELD, x=held, y=y + inset, width=max(x + width - held, 0.0), high=high)
        )
    if height != _HEIGHT:  # the bars of a lane touch each other
        more.append(_filled(_EDGE, x=x, y=y + inset, bottom=y + inset + high))
    elif bar.status in _SIGNS:
        after = x + width < _AT_THE_END
        more.append(
            _filled(
                _SIGN,
                inside="" if after else " inside",
                x=x + width,
                y=y + height - 9,
                dx=4 if after else -4,
                anchor="start" if after else "end",
                sign=_SIGNS[bar.status],
            )
        )
    return _filled(
        '<g class="bar {kind} {status}"><rect x="{x:.3f}%" y="{y}" width="{width:.3f}%"'
        ' height="{high}" rx="2"/>{more}<title>{title}</title></g>',
        kind=bar.kind.replace(" ", "-"),
        status=bar.status,
        x=x,
        y=y + inset,
        width=width,
        high=high,
        more=Markup("").join(more),
        title=_title(bar, timeline),
    )


_SIGNS = {"failed": "\N{MULTIPLICATION X}", "retrying": "\N{ANTICLOCKWISE OPEN CIRCLE ARROW}"}
_SIGN = (
    '<text class="sign{inside}" x="{x:.3f}%" y="{y}" dx="{dx}" text-anchor="{anchor}">{sign}</text>'
)
_HELD = '<rect class="held" x="{x:.3f}%" y="{y}" width="{width:.3f}%" height="{high}" rx="2"/>'
_EDGE = '<line class="edge" x1="{x:.3f}%" x2="{x:.3f}%" y1="{y}" y2="{bottom}"/>'


def _title(bar: Bar, timeline: Timeline) -> str:
    seconds = bar.seconds
    took = duration(max(0.0, timeline.now - bar.start) if seconds is None else seconds)
    words = [f"{bar.kind} {bar.name} ({bar.id}): {bar.status}"]
    if bar.instance:
        words.append(f"instance {bar.instance}")
    if bar.attempt > 1:
        words.append(f"attempt {bar.attempt} {'is next' if bar.waits else 'runs'}")
    words.append(f"{'for' if seconds is None else 'took'} {took}, since {_moment(bar.start)}")
    if bar.held_at is not None:
        words.append(f"waited {duration(bar.held_at - bar.start)} for its place")
    if bar.note:
        words.append(bar.note)
    return "\n".join(words)


def _marks(marks: Sequence[Mark], scale: Scale, y: int) -> list[Markup]:
    places: dict[int, list[Mark]] = {}
    for mark in marks:
        if scale.start <= mark.at <= scale.end:
            places.setdefault(round(scale.at(mark.at) * _PLACES / 100), []).append(mark)
    found: list[Markup] = []
    for place, here in places.items():
        first = here[0]
        name = f"{first.kind} {first.name}".rstrip()
        many = f", and {len(here) - 1:,} more until {_moment(here[-1].at)}" if len(here) > 1 else ""
        found.append(
            _filled(
                '<g class="mark {kind}{bad}"><circle cx="{x:.3f}%" cy="{y}" r="4"/>'
                "<title>{title}</title></g>",
                kind=first.kind.replace(" ", "-"),
                bad=" failed" if any(mark.bad for mark in here) else "",
                x=place * 100 / _PLACES,
                y=y + _HEIGHT // 2,
                title=f"{name} in turn {first.turn}, {_moment(first.at)}{many}",
            )
        )
    return found


# --- words ---------------------------------------------------------------------------------------


def _said(timeline: Timeline) -> str:
    took = duration(timeline.until - timeline.start)
    failed = sum(bar.status == "failed" for bar in timeline.bars)
    lasting = sum(bar.end is None for bar in timeline.bars)
    words = [f"Timeline of {took}: {len(timeline.bars):,} bars of {timeline.total:,}"]
    words += [f"{lasting:,} not ended"] if lasting else []
    words += [f"{failed:,} failed"] if failed else []
    words.append(f"{len(timeline.turns):,} turns. A table with the same follows")
    return ", ".join(words) + "."


def _moment(seconds: float) -> str:
    return f"{clock(seconds, 'milliseconds')} UTC"


def _short(seconds: float) -> str:
    """Return a length of time in one unit."""
    for unit, size in (("y", 365 * 86400), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            many = seconds / size
            return f"{many:.0f} {unit}" if many < 1e6 else f"{many:.3g} {unit}"  # noqa: PLR2004 - digits
    return f"{seconds:.0f} s"
