"""Lets Hypothesis draw a `Schedule` by its type.

It is no entry point of Hypothesis: each ``import hypothesis``, in any project, would import
trioflow. `register` is called once both are imported: by `trioflow.testing` if that comes second,
by what needs Hypothesis itself, and otherwise by the pytest plugin.
"""

from __future__ import annotations

from hypothesis import strategies as st

from trioflow.testing.simulation.schedules import Schedule

__all__ = ["register"]


def register() -> None:
    """Let ``st.from_type(Schedule)``, and a ``@given()`` with annotations, draw schedules."""
    st.register_type_strategy(Schedule, _strategy)


def _strategy(_: type[Schedule]) -> st.SearchStrategy[Schedule]:
    from trioflow.testing.strategies import schedules  # noqa: PLC0415  # it calls `register`

    return schedules()
