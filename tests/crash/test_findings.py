"""What the torture calls a fault, and what it does not."""

from __future__ import annotations

import pytest

from benchmarks.crash_findings import Attempt, Tally, look_into_log

OTHERS = [Attempt("start", f"job-{n}", "0:0", 1, 9, 0.0) for n in range(5)]


def begun(attempt: int, pid: int, at: float) -> Attempt:
    return Attempt("start", "job-9", "0:0", attempt, pid, at)


@pytest.mark.parametrize(
    ("second", "kills", "fault"),
    [
        pytest.param(begun(2, 2, 5.0), {1: 3.0}, None, id="its worker was killed"),
        pytest.param(
            begun(2, 2, 5.0), {}, "though its worker was not killed", id="nobody was killed"
        ),
        pytest.param(begun(2, 2, 5.0), {1: 6.0}, "before its worker's death", id="killed later"),
        pytest.param(begun(1, 2, 5.0), {1: 3.0}, "as attempt 1 again", id="it does not count"),
        pytest.param(
            begun(1, 2, 5.0), {3: 2.0, 1: 3.0}, None, id="its worker may have retried a suspect"
        ),
        pytest.param(
            begun(1, 2, 5.0), {1: 3.0, 3: 4.0}, "as attempt 1 again", id="no suspect before"
        ),
    ],
)
def test_an_attempt_is_repeated_only_for_a_reason(second, kills, fault):
    tally = Tally(workflows=1, lease=1.0, kills=kills)
    look_into_log([*OTHERS, begun(1, 1, 1.0), second], {}, tally)
    assert tally.faults == ([f"job-9 0:0 was repeated {fault}"] if fault else [])
