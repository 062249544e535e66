"""What Hypothesis loads by itself where trioflow is installed: it then knows `Schedule`."""

from __future__ import annotations

from hypothesis import strategies as st

from trioflow.testing.simulation.schedules import Schedule

__all__ = ["register"]


def register() -> None:
    """Let ``st.from_type(Schedule)``, and a ``@given()`` with annotations, draw schedules."""
    st.register_type_strategy(Schedule, _strategy)


def _strategy(_: type[Schedule]) -> st.SearchStrategy[Schedule]:
    # Hypothesis may be imported, and load this, because that module is being imported.
    from trioflow.testing.strategies import schedules  # noqa: PLC0415

    return schedules()
