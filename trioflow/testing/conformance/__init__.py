"""The store contract as tests, for every implementation of `trioflow.backends.abc.Backend`.

A case is an async function that is given a `Stage` and asserts. With pytest::

    pytest.register_assert_rewrite("trioflow.testing.conformance")
    from trioflow.testing.conformance import Stage, conformance_cases

    @pytest.mark.parametrize("case", conformance_cases(), ids=lambda case: case.__name__)
    def test_contract(case):
        async def main():
            clock = Clock()                      # or trio.sleep, where the store's clock is real
            backend = MyBackend(clock=clock)     # empty
            await backend.open()
            try:
                await case(Stage(backend, clock.advance))
            finally:
                await backend.aclose()
        trio.run(main)
"""

from __future__ import annotations

from trioflow.testing.conformance import (
    activities,
    cancels,
    changing,
    clients,
    commits,
    endings,
    executions,
    instance_limits,
    instances,
    limits,
    lives,
    messages,
    moves,
    outbox,
    priorities,
    questions,
    requests,
    resets,
    schedules,
    searching,
    sharing,
    suspects,
    times,
    troubles,
    workers,
)
from trioflow.testing.conformance.stage import Case, Stage

__all__ = ["Case", "Stage", "conformance_cases"]


def conformance_cases() -> list[Case]:
    """Return all cases; their names say what they demand."""
    modules = (
        *(instances, commits, endings, executions, messages, times, activities, cancels),
        *(workers, suspects, lives, clients, priorities, requests, questions, resets, searching),
        *(schedules, limits, instance_limits, outbox, sharing, troubles, moves, changing),
    )
    return [case for module in modules for case in module.CASES]
