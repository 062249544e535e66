"""Which of the things that can happen next does: one choice a step."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Schedule"]


class Schedule:
    """A finite list of choices; after its end the first of all possibilities is chosen each time.

    The possibilities of a step are in an order that begins with what happens when nothing goes
    wrong. So a shorter list, and smaller numbers, are a simpler run.

    Args:
        choices: Whole numbers from 0 on; a number beyond the possibilities is taken modulo them.
    """

    def __init__(self, choices: Sequence[int] = ()) -> None:
        self.choices = tuple(choices)
        self._next = 0

    def __repr__(self) -> str:
        return f"Schedule({list(self.choices)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self.choices == other.choices

    def __hash__(self) -> int:
        return hash(self.choices)

    def begin(self) -> None:
        """Begin from the first choice."""
        self._next = 0

    @property
    def more(self) -> bool:
        """Whether a choice is left."""
        return self._next < len(self.choices)

    def pick(self, possibilities: Sequence[str]) -> int:
        """Return the index of one of the possibilities, which are given in words."""
        at, self._next = self._next, self._next + 1
        return self.choices[at] % len(possibilities) if at < len(self.choices) else 0
