"""Retry policies: what is refused, when another attempt is made, and after how long."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow._codec.failures.failures import Failure
from trioflow._model.retry import DEFAULT_ACTIVITY_RETRY, RetryPolicy
from trioflow.errors import NonRetryable, Retry, ValueMismatch

FAILED = Failure.of(OSError("down"))


def delays(policy, failure=FAILED, attempts=6):
    return [policy.next_delay(n, failure, 0.0, "k") for n in range(1, attempts + 1)]


def test_the_first_retry_waits_the_initial_interval():
    policy = RetryPolicy(max_attempts=6, initial_interval=2, backoff=3, max_interval=50, jitter=0)
    assert delays(policy) == [2, 6, 18, 50, 50, None]


def test_the_defaults():
    assert delays(RetryPolicy(max_attempts=1)) == [None] * 6
    first, second, *rest = delays(DEFAULT_ACTIVITY_RETRY)
    assert 0.9 <= first <= 1.1
    assert 1.8 <= second <= 2.2
    assert rest == [None] * 4
    assert RetryPolicy() == DEFAULT_ACTIVITY_RETRY


def test_no_limit_goes_on():
    policy = RetryPolicy(max_attempts=None, jitter=0)
    assert policy.next_delay(10**6, FAILED, 10**9, "k") == 60.0


@given(st.integers(1, 10**5), st.text(), st.floats(0, 1))
def test_jitter_stays_in_its_bounds_and_is_reproducible(attempt, key, jitter):
    policy = RetryPolicy(jitter=jitter, initial_interval=10)
    plain = RetryPolicy(jitter=0, initial_interval=10).delay(attempt, key)
    delay = policy.delay(attempt, key)
    assert plain * (1 - jitter) <= delay <= plain * (1 + jitter)
    assert policy.delay(attempt, key) == delay


def test_jitter_differs_between_calls_and_attempts():
    policy = RetryPolicy(jitter=0.5, backoff=1)
    found = [policy.delay(attempt, key) for attempt in (1, 2) for key in map(str, range(500))]
    assert len(set(found)) == 1000
    assert sum(found) / 1000 == pytest.approx(1.0, abs=0.03)
    assert min(found) < 0.51
    assert max(found) > 1.49


def test_jitter_survives_a_key_that_utf8_cannot_express():
    assert RetryPolicy().delay(1, "\ud800") > 0


def test_the_timeout_bounds_the_start_of_the_last_attempt():
    policy = RetryPolicy(max_attempts=None, initial_interval=10, jitter=0, timeout=30)
    assert policy.next_delay(1, FAILED, 20.0, "k") == 10
    assert policy.next_delay(1, FAILED, 20.1, "k") is None
    assert policy.next_delay(1, Failure.of(Retry(after=5)), 25.0, "k") == 5
    assert policy.next_delay(1, Failure.of(Retry(after=5)), 25.1, "k") is None


def test_an_activity_may_choose_the_delay_but_not_the_number():
    policy = RetryPolicy(max_attempts=3)
    assert delays(policy, Failure.of(Retry(after=300)), 3) == [300, 300, None]
    assert delays(policy, Failure.of(Retry(after=0)), 1) == [0]


@pytest.mark.parametrize("exc", [NonRetryable("no"), ValueMismatch("bad result")])
def test_what_is_final_is_not_tried_again(exc):
    assert delays(RetryPolicy(), Failure.of(exc), 1) == [None]
    wrapped = OSError("wrapped")
    wrapped.__cause__ = exc
    assert delays(RetryPolicy(), Failure.of(wrapped), 1) == [None]
    assert delays(RetryPolicy(), Failure.of(ExceptionGroup("g", [OSError(), exc])), 1) == [None]


class Declined(LookupError):
    pass


@pytest.mark.parametrize(
    "types", [(Declined,), (LookupError,), [Declined, OSError], ("LookupError",)]
)
def test_listed_types_and_their_subclasses_are_not_tried_again(types):
    policy = RetryPolicy(non_retryable=types)
    assert delays(policy, Failure.of(Declined()), 1) == [None]
    assert delays(policy, Failure.of(ExceptionGroup("g", [Declined()])), 1) == [None]
    assert delays(policy, Failure.of(ValueError()), 1) != [None]


def test_a_policy_is_stored_with_names():
    policy = RetryPolicy(non_retryable=(Declined, KeyError, "shop.errors.Gone"), timeout=3)
    assert policy.non_retryable == (f"{__name__}.Declined", "KeyError", "shop.errors.Gone")
    data = msgspec.json.encode(policy)
    assert msgspec.json.decode(data, type=RetryPolicy) == policy
    # Another default in a later version must not change what is stored.
    assert set(msgspec.json.decode(data)) == set(RetryPolicy.__struct_fields__)
    assert hash(policy) == hash(msgspec.json.decode(data, type=RetryPolicy))
    assert msgspec.structs.replace(policy, timeout=4).non_retryable == policy.non_retryable


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_attempts": 0}, "1 means no retry, None means no limit"),
        ({"max_attempts": -1}, "max_attempts=-1"),
        ({"max_attempts": True}, "max_attempts=True"),
        ({"max_attempts": 2.0}, "max_attempts=2.0"),
        ({"initial_interval": -1}, "initial_interval=-1: it is a number, 0 or more"),
        ({"initial_interval": "1"}, "initial_interval='1'"),
        ({"initial_interval": math.nan}, "initial_interval=nan"),
        ({"initial_interval": True}, "initial_interval=True"),
        ({"initial_interval": 61}, r"max_interval=60.0 is shorter than initial_interval=61"),
        ({"backoff": 0.5}, "backoff=0.5: it is a number, 1 or more"),
        ({"max_interval": math.inf}, "max_interval=inf"),
        ({"jitter": 1.5}, "it is a fraction, from 0 to 1"),
        ({"jitter": -0.1}, "jitter=-0.1"),
        ({"timeout": -1}, "timeout=-1"),
        ({"max_attempts": None, "initial_interval": 0}, "without a pause"),
        ({"non_retryable": ValueError}, r"a tuple of one is written \(X,\)"),
        ({"non_retryable": "ValueError"}, "it is a tuple"),
        ({"non_retryable": ("Declined",)}, "no builtin exception"),
        ({"non_retryable": ("print",)}, "no builtin exception"),
        ({"non_retryable": (int,)}, "no exception class and no name"),
        ({"non_retryable": (ValueError(),)}, "no exception class and no name"),
    ],
    ids=repr,
)
def test_what_makes_no_sense_is_refused(options, text):
    with pytest.raises(ValueError, match=text):
        RetryPolicy(**options)


def test_what_makes_sense_at_the_edge_is_taken():
    RetryPolicy(max_attempts=1, initial_interval=0, backoff=1, max_interval=0, jitter=1, timeout=0)
    RetryPolicy(initial_interval=60, timeout=None)
