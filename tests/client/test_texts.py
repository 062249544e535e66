"""What people write as text: times and values that nobody can mean."""

from __future__ import annotations

import pytest

from trioflow import ArgumentError
from trioflow._client.texts import condition_of, json_or_text, moment_of, span_of


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("text", ["99999999d", "9" * 400 + "s", "9" * 400 + "w"])
def test_a_time_is_of_the_calendar(text: str, *, ahead: bool) -> None:
    with pytest.raises(ArgumentError, match=r"no time of the years from 1 to 9999") as caught:
        moment_of(text, 1_795_770_000.0, ahead=ahead)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["0001-01-01T00:00+05:00", "9999-12-31T23:00-05:00"])
def test_a_time_is_of_the_calendar_in_utc_too(text: str) -> None:
    with pytest.raises(ArgumentError, match="from 1 to 9999"):
        moment_of(text, 0.0)
    with pytest.raises(ArgumentError, match="from 1 to 9999"):
        condition_of(f"due<{text}")


def test_the_ends_of_the_calendar_are_times() -> None:
    assert moment_of("0001-01-01", 0.0) == -62_135_596_800
    assert moment_of("9999-12-31T23:59:59", 0.0) == 253_402_300_799


def test_a_length_of_time_is_finite() -> None:
    with pytest.raises(ArgumentError, match="no length of time"):
        span_of("9" * 400)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_a_value_is_not_nested_without_end(text: str) -> None:
    with pytest.raises(ArgumentError, match="nested too deeply") as caught:
        json_or_text(text)
    assert len(str(caught.value)) < 400
