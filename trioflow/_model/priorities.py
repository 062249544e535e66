"""Which work comes first: a whole number, the larger the sooner."""

from __future__ import annotations

from trioflow._model.options import check_count

__all__ = ["HIGHEST", "LOWEST", "check_priority"]

LOWEST, HIGHEST = -100, 100


def check_priority(value: object) -> None:
    """Accept a priority, or ``None``.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is out of range.
    """
    if value is not None:
        check_count("priority", value, LOWEST, HIGHEST)
