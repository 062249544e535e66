"""The schedule of pauses between tries."""

from __future__ import annotations

from itertools import islice

import pytest

from trioflow.backends._common.backoff import Backoff


def test_delays_double_up_to_the_longest():
    assert list(islice(Backoff(0.05, 0.5), 6)) == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5])


def test_a_reset_begins_with_the_first_delay_again():
    backoff = Backoff(1.0, 8.0)
    assert [next(backoff), next(backoff), backoff.delay] == [1.0, 2.0, 4.0]
    backoff.reset()
    assert [backoff.delay, next(backoff), backoff.delay] == [1.0, 1.0, 2.0]


def test_jitter_takes_a_fraction_off_each_pause_and_leaves_the_schedule():
    numbers = iter((0.0, 1.0, 0.5))
    backoff = Backoff(1.0, 8.0, jitter=0.5, random=lambda: next(numbers))
    assert list(islice(backoff, 3)) == [1.0, 1.0, 3.0]
    assert backoff.delay == 8.0
