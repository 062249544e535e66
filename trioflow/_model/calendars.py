"""When a schedule is due: `Cron` and `Every`, as users write them and as they are stored.

A cron expression says what the clock on the wall shows, so it is a library, cronsim, that says
which of these times come next, without any time zone; what they are in real time, and what becomes
of those that a change of summer time leaves out or repeats, is decided here. (cronsim knows time
zones too, but where the clock moves by half an hour, in Lord Howe, it misses times.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from trioflow._model.options import check_seconds, is_number
from trioflow.errors import ArgumentError

__all__ = ["Calendar", "Cron", "Every", "StoredCalendar", "calendar_of", "epoch_seconds"]

_LEAST_INTERVAL: Final = 1.0
_FIELDS: Final = (5, 6)


class Cron:
    """Times by a cron expression, read off the clock on the wall of a time zone.

    Five fields, ``minute hour day-of-month month day-of-week``, or six with seconds before them:
    ``"0 9 * * mon-fri"``, ``"*/15 * * * *"``, ``"0 0 L * *"`` (the last day of the month),
    ``"0 0 * * mon#1"`` (the first Monday). As in Debian's cron.

    Where the clock is set forward, a time that it skips is run as soon as it has been set; where it
    is set back, a time that it shows twice is run the first time. But an expression whose hour
    begins with ``*`` counts real time through such a change: ``"*/15 * * * *"`` runs every 15
    minutes, also while the clock shows an hour again, and ``"0 */2 * * *"`` leaves a time out that
    the clock skips.

    Args:
        expression: The expression.
        tz: The name of the time zone, ``"Europe/Madrid"``, or a `zoneinfo.ZoneInfo`.

    Raises:
        ArgumentError: There is no such time zone, the expression is none, or it stands for no time.

    Example:
        >>> Cron("0 9 * * mon-fri", tz="Europe/Madrid")
        Cron('0 9 * * mon-fri', tz='Europe/Madrid')
    """

    __slots__ = ("_zone", "expression", "tz")

    def __init__(self, expression: str, tz: str | ZoneInfo = "UTC") -> None:
        self._zone = _zone(tz)
        self.tz: str = self._zone.key
        self.expression = _checked(expression)
        self._check()

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, tz={self.tz!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cron):
            return NotImplemented
        return (self.expression, self.tz) == (other.expression, other.tz)

    def __hash__(self) -> int:
        return hash((self.expression, self.tz))

    def next_after(self, after: float) -> float | None:
        """Return the first time after a moment, both in epoch seconds; ``None`` if none comes."""
        moment = datetime.fromtimestamp(math.floor(after), self._zone)
        if self._counts_real_time():
            return self._next_real(moment, after)
        for wall in self._walls(moment.replace(tzinfo=None)):
            at = self._when(wall)
            if at > after:
                return at
        return None

    def _check(self) -> None:
        expression = self.expression
        from cronsim import CronSimError  # noqa: PLC0415  # as in `_walls`

        try:
            first = next(self._walls(datetime(2000, 1, 1)), None)  # noqa: DTZ001  # of no time zone
        except CronSimError as error:
            why = str(error)
            raise ArgumentError(
                f"the cron expression {expression!r}: {why[:1].lower()}{why[1:]}"
            ) from None
        if first is None:
            raise ArgumentError(f"the cron expression {expression!r} stands for no day that exists")

    def _counts_real_time(self) -> bool:
        return self.expression.split()[-4].startswith("*")  # the hour

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """Give what the clock on the wall shows at the times after one, in order."""
        from cronsim import CronSim  # noqa: PLC0415  # most programs have no schedules

        return CronSim(self.expression, after)

    def _when(self, wall: datetime) -> float:
        """Return when the clock first shows a time, or skips it."""
        at, skips = self._readings(wall)
        if skips >= at:
            return at
        before, after = int(skips), int(at)  # the clock is set forward in between
        offset = datetime.fromtimestamp(after, self._zone).utcoffset()
        while after - before > 1:
            middle = (before + after) // 2
            if datetime.fromtimestamp(middle, self._zone).utcoffset() == offset:
                after = middle
            else:
                before = middle
        return float(after)

    def _readings(self, wall: datetime) -> tuple[float, float]:
        """Return the two moments that a time on the wall may stand for.

        They are the same for most; the second is later if the clock shows the time twice, and
        earlier if it skips it.
        """
        first = wall.replace(tzinfo=self._zone, fold=0)
        return first.timestamp(), first.replace(fold=1).timestamp()

    def _next_real(self, moment: datetime, after: float) -> float | None:
        wall = moment.replace(tzinfo=None, fold=0)
        first, second = self._readings(wall)
        if moment.fold == 0 and second > first:
            # Times that the clock has shown already come again before it shows new ones.
            wall -= timedelta(seconds=second - first)
        best = math.inf
        for shown in self._walls(wall):
            first, second = self._readings(shown)
            if first > second:
                continue  # skipped
            best = min(best, *(at for at in (first, second) if at > after), math.inf)
            if first >= best:
                break
        return None if best == math.inf else best


class Every:
    """Times at a fixed distance, in real seconds: no change of summer time moves them.

    They are counted from the beginning of 1970 in UTC: ``Every(hours=1)`` is each full hour.

    Args:
        between: The distance, or a part of it, as a ``timedelta``.
        seconds, minutes, hours, days, weeks: The distance, all of them together; at least a second.
        offset: Seconds by which all of them are later: ``Every(hours=1, offset=600)`` is ten
            minutes past each hour.

    Raises:
        TypeError: They are no numbers.
        ValueError: The distance is below a second, or the offset below 0.

    Example:
        >>> Every(minutes=5, offset=30)
        Every(seconds=300, offset=30)
    """

    __slots__ = ("offset", "seconds")

    def __init__(
        self,
        between: timedelta | None = None,
        /,
        *,
        seconds: float = 0.0,
        minutes: float = 0.0,
        hours: float = 0.0,
        days: float = 0.0,
        weeks: float = 0.0,
        offset: float = 0.0,
    ) -> None:
        given = {"seconds": seconds, "minutes": minutes, "hours": hours}
        for name, value in {**given, "days": days, "weeks": weeks}.items():
            check_seconds(name, value, zero=True)
        if between is not None:
            if not isinstance(between, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no type checker
                raise TypeError(
                    f"Every({between!r}): say which unit it is, as in Every(minutes=5), or give a "
                    "timedelta"
                )
            seconds += between.total_seconds()
        check_seconds("offset", offset, zero=True)
        total = seconds + 60 * (minutes + 60 * (hours + 24 * (days + 7 * weeks)))
        if not _LEAST_INTERVAL <= total < math.inf or offset == math.inf:
            raise ValueError(
                f"Every({total:g} s): a schedule is due at most once a second; say how far its "
                "times are apart: Every(minutes=5)"
            )
        self.seconds = float(total)
        self.offset = float(offset) % self.seconds

    def __repr__(self) -> str:
        offset = f", offset={self.offset:g}" if self.offset else ""
        return f"Every(seconds={self.seconds:g}{offset})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Every):
            return NotImplemented
        return (self.seconds, self.offset) == (other.seconds, other.offset)

    def __hash__(self) -> int:
        return hash((self.seconds, self.offset))

    def next_after(self, after: float) -> float:
        """Return the first time after a moment, both in epoch seconds."""
        number = math.floor((after - self.offset) / self.seconds)
        while (at := self.offset + number * self.seconds) <= after:
            number += 1
        return at


Calendar: TypeAlias = Cron | Every


class StoredCalendar(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `Cron` or an `Every` in its stored form."""

    cron: str = ""
    tz: str = "UTC"
    every: float = 0.0
    offset: float = 0.0

    @classmethod
    def of(cls, calendar: Calendar) -> StoredCalendar:
        """Return the stored form."""
        if isinstance(calendar, Cron):
            return cls(cron=calendar.expression, tz=calendar.tz)
        return cls(every=calendar.seconds, offset=calendar.offset)

    def read(self) -> Calendar:
        """Return what is stored.

        Raises:
            ArgumentError: The time zone is not known on this machine.
        """
        if self.cron:
            return _read_cron(self.cron, self.tz)
        return Every(seconds=self.every, offset=self.offset)

    def next_after(self, after: float) -> float | None:
        """Return the first time after a moment; ``None`` if none comes."""
        return self.read().next_after(after)

    def passed(self, after: float, until: float, most: int) -> tuple[int, float]:
        """Return how many times are after one moment and not after another, and the last of them.

        Without any that is ``after`` itself. Beyond ``most`` no more are counted.
        """
        calendar = self.read()
        if isinstance(calendar, Every):
            first = calendar.next_after(after)
            if first > until:
                return 0, after
            more = math.floor((until - first) / calendar.seconds)
            return more + 1, first + more * calendar.seconds
        count, last = 0, after
        while count < most:
            following = calendar.next_after(last)
            if following is None or following > until:
                break
            count, last = count + 1, following
        return count, last


@lru_cache(maxsize=1000)
def _read_cron(expression: str, tz: str) -> Cron:
    return Cron(expression, tz=tz)


def calendar_of(given: object) -> Calendar:
    """Return when a schedule is due, as it was given.

    Raises:
        ArgumentError: It is neither a `Cron` nor an `Every`.
    """
    if isinstance(given, (Cron, Every)):
        return given
    hint = "write Every(minutes=5)"
    if isinstance(given, str | timedelta):
        hint = f"write {'Cron' if isinstance(given, str) else 'Every'}({given!r})"
    raise ArgumentError(f"a schedule is due by a Cron or an Every, not {given!r}; {hint}")


def epoch_seconds(given: object, name: str) -> float:
    """Return a moment that is given as a datetime or as a number.

    Raises:
        ArgumentError: It is neither, or a datetime without a time zone.
    """
    if isinstance(given, datetime):
        if given.utcoffset() is None:
            raise ArgumentError(
                f"{name}: {given!r} has no time zone, so it may be any of two dozen moments; say "
                f'which: {name}.replace(tzinfo=ZoneInfo("Europe/Madrid")), or tzinfo=UTC'
            )
        return given.timestamp()
    if not is_number(given) or not math.isfinite(given):
        raise ArgumentError(
            f"{name} is a datetime with a time zone, or epoch seconds, not {given!r}"
        )
    return float(given)


def _checked(given: object) -> str:
    """Return a cron expression that has the right number of fields."""
    if not isinstance(given, str):
        raise ArgumentError(f"a cron expression is a string, not {given!r}")
    fields = len(given.split())
    if fields not in _FIELDS:
        raise ArgumentError(
            f"the cron expression {given!r} has {fields} field{'s' * (fields != 1)}; it needs "
            'five, minute, hour, day of month, month and day of week, as in "0 9 * * mon-fri", or '
            "six with seconds before them"
        )
    return given


def _zone(given: object) -> ZoneInfo:
    if isinstance(given, ZoneInfo) and given.key:
        return given
    if not isinstance(given, str):
        raise ArgumentError(
            f'tz is the name of a time zone, as in tz="Europe/Madrid", or a ZoneInfo, not {given!r}'
        )
    try:
        return ZoneInfo(given)
    except (LookupError, OSError, ValueError):
        raise ArgumentError(
            f"there is no time zone {given!r} on this machine; the names are those of the IANA "
            "database, such as 'Europe/Madrid', and 'pip install tzdata' brings it where the "
            "system has none"
        ) from None
