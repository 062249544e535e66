"""What Hypothesis loads by itself where trioflow is installed: it then knows `Schedule`."""

from __future__ import annotations

from hypothesis import strategies as st

from trioflow.testing.simulation.schedules import Schedule
from trioflow.testing.strategies import schedules

__all__ = ["register"]


def register() -> None:
    """Let ``st.from_type(Schedule)``, and a ``@given()`` with annotations, draw schedules."""
    st.register_type_strategy(Schedule, schedules())
