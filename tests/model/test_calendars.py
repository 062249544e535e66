"""When schedules are due: changes of summer time, leap days, and what is refused."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trioflow import ArgumentError, Cron, Every
from trioflow._model.calendars import StoredCalendar, epoch_seconds

# The days of 2026 on which the clock is set forward and back, and by how much.
CHANGES = {
    "Europe/Madrid": ("2026-03-29", "2026-10-25", 3600),
    "America/New_York": ("2026-03-08", "2026-11-01", 3600),
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05", 1800),
}
ZONES = pytest.mark.parametrize("tz", CHANGES)


def times(calendar, start, count, tz="UTC"):
    """Return what the clock of a zone shows at the next times after it showed ``start``."""
    zone = ZoneInfo(tz)
    at, shown = datetime.fromisoformat(start).replace(tzinfo=zone).timestamp(), []
    for _ in range(count):
        at = calendar.next_after(at)
        shown.append(datetime.fromtimestamp(at, zone))
    return shown


def clocks(calendar, start, count, tz):
    return [f"{shown:%d %H:%M}" for shown in times(calendar, start, count, tz)]


@ZONES
def test_what_is_skipped_when_the_clock_goes_forward_runs_then(tz):
    day, _, by = CHANGES[tz]
    # 02:15 does not exist on that day in any of them.
    before = datetime.fromisoformat(day) - timedelta(days=1)
    shown = times(Cron("15 2 * * *", tz=tz), f"{before:%Y-%m-%d} 00:00", 3, tz)
    assert [f"{one:%H:%M}" for one in shown] == [
        "02:15",
        "02:30" if by == 1800 else "03:00",
        "02:15",
    ]
    assert f"{shown[1]:%Y-%m-%d}" == day
    assert (
        datetime.fromtimestamp(shown[1].timestamp() - 1, ZoneInfo(tz)).strftime("%M:%S") == "59:59"
    )


@ZONES
def test_what_is_repeated_when_the_clock_goes_back_runs_once(tz):
    _, day, by = CHANGES[tz]
    hour = 2 if tz == "Europe/Madrid" else 1
    before = datetime.fromisoformat(day) - timedelta(days=1)
    shown = times(Cron(f"45 {hour} * * *", tz=tz), f"{before:%Y-%m-%d} 00:00", 3, tz)
    assert [f"{one:%H:%M}" for one in shown] == [f"0{hour}:45"] * 3
    assert shown[1].fold == 0
    apart = [late.timestamp() - early.timestamp() for early, late in itertools.pairwise(shown)]
    assert apart == [86400, 86400 + by]


@ZONES
def test_what_runs_each_quarter_counts_real_time(tz):
    for day in CHANGES[tz][:2]:
        shown = times(Cron("*/15 * * * *", tz=tz), f"{day} 00:00", 24, tz)
        at = [one.timestamp() for one in shown]
        assert {late - early for early, late in itertools.pairwise(at)} == {900}


@ZONES
def test_every_hour_counts_real_time_however_it_is_written(tz):
    for day in CHANGES[tz][:2]:
        shown = [times(Cron(f"30 {hour} * * *", tz=tz), day, 6, tz) for hour in ("*", "*/1")]
        assert shown[0] == shown[1]
        assert [one.fold for one in shown[0]] == [one.fold for one in shown[1]]


def test_every_second_hour_is_each_that_the_clock_shows():
    """As in Debian's cron: the hour begins with a star."""
    every_second = Cron("30 */2 * * *", tz="Europe/Madrid")
    shown = clocks(every_second, "2026-03-29 00:00", 3, "Europe/Madrid")
    assert shown == ["29 00:30", "29 04:30", "29 06:30"]
    shown = clocks(every_second, "2026-10-25 00:00", 4, "Europe/Madrid")
    assert shown == ["25 00:30", "25 02:30", "25 02:30", "25 04:30"]


def test_half_an_hour_is_not_a_whole_one():
    """What cronsim's own way with time zones loses: the first half of the next matching hour."""
    lord_howe = Cron("*/15 5 * * *", tz="Australia/Lord_Howe")
    for day in CHANGES["Australia/Lord_Howe"][:2]:
        shown = clocks(lord_howe, f"{day} 00:00", 4, "Australia/Lord_Howe")
        assert [one[3:] for one in shown] == ["05:00", "05:15", "05:30", "05:45"]


def test_several_times_that_are_skipped_are_one_run():
    madrid = Cron("*/15 2 * * *", tz="Europe/Madrid")
    shown = clocks(madrid, "2026-03-29 00:00", 3, "Europe/Madrid")
    assert shown == ["29 03:00", "30 02:00", "30 02:15"]
    shown = clocks(madrid, "2026-10-25 00:00", 5, "Europe/Madrid")
    assert shown == ["25 02:00", "25 02:15", "25 02:30", "25 02:45", "26 02:00"]


def test_what_runs_each_hour_is_not_run_more_often_when_a_time_is_skipped():
    for tz, minute, shown in (
        ("Europe/Madrid", 30, ["01:30", "03:30", "04:30"]),
        ("Australia/Lord_Howe", 15, ["01:15", "03:15", "04:15"]),
    ):
        day = CHANGES[tz][0]
        found = clocks(Cron(f"{minute} * * * *", tz=tz), f"{day} 01:00", 3, tz)
        assert [one[3:] for one in found] == shown


def test_a_whole_day_that_a_zone_leaves_out():
    shown = clocks(Cron("0 12 * * *", tz="Pacific/Apia"), "2011-12-28 13:00", 3, "Pacific/Apia")
    assert shown == ["29 12:00", "31 00:00", "31 12:00"]


def test_the_leap_day():
    shown = times(Cron("0 12 29 2 *"), "2026-01-01", 3)
    assert [one.year for one in shown] == [2028, 2032, 2036]
    last = times(Cron("0 0 L 2 *"), "2027-01-01", 2)
    assert [f"{one:%Y-%m-%d}" for one in last] == ["2027-02-28", "2028-02-29"]


def test_names_seconds_and_days_of_the_week():
    assert clocks(Cron("0 9 * * mon-fri"), "2026-11-27 08:00", 2, "UTC") == ["27 09:00", "30 09:00"]
    assert clocks(Cron("0 0 * * mon#1"), "2026-11-01", 1, "UTC") == ["02 00:00"]
    seconds = times(Cron("*/20 * * * * *"), "2026-11-01 00:00:10", 3)
    assert [one.second for one in seconds] == [20, 40, 0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    expression=st.sampled_from(
        ["15 2 * * *", "*/20 * * * *", "0,30 1-3 * * *", "30 * * * *", "*/7 2 * * sun", "0 0 * * *"]
    ),
    tz=st.sampled_from([*CHANGES, "UTC", "Pacific/Apia", "Africa/Casablanca"]),
    start=st.integers(1_200_000_000, 1_900_000_000),
    ahead=st.floats(0, 20_000),
)
def test_times_do_not_depend_on_where_one_begins(expression, tz, start, ahead):
    """From any moment before a time, that or an earlier one comes next; and they only grow."""
    calendar = Cron(expression, tz=tz)
    following = calendar.next_after(start)
    assert following > start
    between = min(start + ahead, following - 0.5)
    assert calendar.next_after(between) == following
    assert calendar.next_after(following) > following


def test_intervals_are_counted_in_real_seconds():
    every = Every(minutes=5, offset=30)
    assert (every.seconds, every.offset, repr(every)) == (300, 30, "Every(seconds=300, offset=30)")
    assert [every.next_after(at) for at in (0, 29.9, 30, 330.5)] == [30, 30, 330, 630]
    assert Every(hours=1, offset=3 * 3600) == Every(minutes=60) != every
    assert hash(Every(days=1)) == hash(Every(hours=24))
    assert Every(seconds=1.1).next_after(1.1) > 1.1


def test_what_has_passed_is_counted():
    week = 7 * 86400.0
    assert StoredCalendar.of(Every(minutes=5)).passed(0.0, week, 10) == (2016, week)
    assert StoredCalendar.of(Every(hours=1)).passed(10.0, 20.0, 10) == (0, 10.0)
    hourly = StoredCalendar.of(Cron("0 * * * *"))
    assert hourly.passed(0.0, week, 1000) == (168, week)
    assert hourly.passed(0.0, week, 100) == (100, 100 * 3600.0)


def test_they_come_back_from_the_store():
    for calendar in (Cron("0 9 * * *", tz="Europe/Madrid"), Every(minutes=5, offset=7)):
        assert StoredCalendar.of(calendar).read() == calendar
    assert Cron("0 9 * * *") != Every(days=1)
    assert Cron("0 9 * * *", tz=ZoneInfo("Europe/Madrid")).tz == "Europe/Madrid"
    assert len({Cron("0 9 * * *"), Cron("0 9 * * *", tz="UTC")}) == 1


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("9 o'clock", r"has 2 fields; it needs five, minute, hour, .*\"0 9 \* \* mon-fri\""),
        ("", "has 0 fields"),
        ("60 * * * *", "bad minute"),
        ("* * * * mon-xyz", "bad day-of-week"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("0 0 L 2 1#5,1L", None),
        (b"* * * * *", "is a string, not b"),
        (5, "is a string, not 5"),
    ],
)
def test_an_expression_that_is_none(expression, why):
    if why is None:
        assert math.isfinite(Cron(expression).next_after(0))
        return
    with pytest.raises(ArgumentError, match=why):
        Cron(expression)


@pytest.mark.parametrize("tz", ["Europe/Madird", "", "../etc", 1, None])
def test_a_time_zone_that_is_none(tz):
    with pytest.raises(ArgumentError, match="time zone.*Europe/Madrid"):
        Cron("* * * * *", tz=tz)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, ValueError),
        ({"seconds": 0.5}, ValueError),
        ({"minutes": -1}, ValueError),
        ({"days": math.inf}, ValueError),
        ({"minutes": timedelta(minutes=1)}, TypeError),
        ({"minutes": 1, "offset": -1}, ValueError),
    ],
)
def test_an_interval_that_is_none(given, error):
    with pytest.raises(error):
        Every(**given)


def test_a_naive_datetime_is_refused():
    with pytest.raises(ArgumentError, match=r"start: .* has no time zone.*tzinfo=UTC"):
        epoch_seconds(datetime(2026, 1, 1), "start")  # noqa: DTZ001  # on purpose
    for wrong in ("2026-01-01", math.nan, True, None):
        with pytest.raises(ArgumentError, match="a datetime with a time zone, or epoch seconds"):
            epoch_seconds(wrong, "start")
    assert epoch_seconds(datetime(1970, 1, 2, tzinfo=UTC), "start") == epoch_seconds(86400, "start")
