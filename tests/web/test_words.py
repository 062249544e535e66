"""How times and values read, and how ids stand in addresses."""

# mypy: ignore-errors

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote, unquote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.seed import HOSTILE
from trioflow import Undecodable
from trioflow.web._addresses import escaped, query_string, unescaped
from trioflow.web._words import ago, as_json, clock, cut, duration, number, plain


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, ""),
        (0, "0ms"),
        (0.0854, "85ms"),
        (0.9996, "1.0s"),
        (4.23, "4.2s"),
        (9.96, "10s"),
        (59.6, "1m"),
        (200, "3m 20s"),
        (3600, "1h"),
        (3605, "1h"),
        (187_200, "2d 4h"),
        (-5, "-5.0s"),
        (1e300, "1.16e+295d"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "?"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("away", "said"),
    [
        (0.4, "now"),
        (-13.4, "13s ago"),
        (-200, "3m ago"),
        (-18_600, "5h 10m ago"),
        (-54_600, "15h ago"),
        (187_200, "in 2d 4h"),
        (12 * 86_400, "in 12d"),
        (59.7, "in 1m"),
        (1e300, "in 1.16e+295d"),
        (math.inf, "in ∞"),
        (-math.inf, "∞ ago"),
        (math.nan, "?"),
    ],
)
def test_times_relative_to_now(away, said):
    assert ago(1000.0 + away, 1000.0) == said


def test_a_time_beyond_the_calendar_is_a_number():
    assert clock(1e15) == "1000000000000000"
    assert [clock(far) for far in (1e300, math.inf, math.nan)] == ["1e+300", "inf", "nan"]
    edge = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))
    assert plain(edge) == "9999-12-31 23:00:00-05:00"
    assert clock(1_795_770_000) == "2026-11-27 09:00:00"


def test_values_are_read_as_text():
    assert number(1234567) == "1\u202f234\u202f567"
    assert plain(["a", "b"]) == "a, b"
    assert plain(datetime(2026, 11, 26, 9, 30, tzinfo=UTC)) == "2026-11-26 09:30:00 UTC"
    assert plain(True) == "true"
    assert as_json(Undecodable("no key")) == "(cannot be decoded: no key)"
    assert cut("x" * 10, 5) == "xxxx…"


@given(st.text(min_size=1))
def test_any_id_comes_back_from_an_address(id):
    path = escaped(id)
    assert path.isascii()
    assert quote(path, safe="~:@=+,") == path  # nothing that a server or a browser would change
    address = f"/instances/{path}"
    assert urljoin("http://localhost/", address) == f"http://localhost{address}"
    if not any("\ud800" <= each <= "\udfff" for each in id):
        assert unescaped(unquote(path)) == id


@pytest.mark.parametrize("id", [*HOSTILE, ".", "~", "a~2Fb", "~~"])
def test_ids_that_look_like_something_else(id):
    assert unescaped(escaped(id)) == id
    assert "/" not in escaped(id)
    assert escaped(id).strip(".")


@pytest.mark.parametrize("part", ["plain", "with space", "é", "~zz", "~", "~2", "100%"])
def test_what_is_not_escaped_stands_for_itself(part):
    assert unescaped(part) == part


def test_bytes_that_are_no_text_are_no_error():
    assert unescaped("~FF") == "\ufffd"


def test_a_query_has_what_is_given():
    given = {"status": ["a", "b"], "id": "x&y", "none": None, "empty": "", "many": []}
    assert query_string(given) == "?status=a&status=b&id=x%26y"
    assert query_string({}) == ""
