"""Which work comes first: a whole number, the larger the sooner."""

from __future__ import annotations

__all__ = ["HIGHEST", "LOWEST", "check_priority"]

LOWEST, HIGHEST = -100, 100


def check_priority(value: object) -> None:
    """Accept a priority, or ``None``.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is out of range.
    """
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"priority is a whole number, not {value!r}")
    if not LOWEST <= value <= HIGHEST:
        raise ValueError(f"priority is a whole number from {LOWEST} to {HIGHEST}, not {value}")
