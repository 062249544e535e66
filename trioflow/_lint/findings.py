"""What the linter finds, and how it can be mended."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Edit", "Finding"]


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """A change of a text: what stands between two places is replaced.

    Attributes:
        line: Where it begins, from 1.
        column: Where in that line, from 0, in characters.
        end_line: Where it ends.
        end_column: Where in that line: the first character that stays.
        text: What is put there.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A mistake in the code of a workflow.

    Attributes:
        line: Where it begins, from 1.
        column: Where in that line, from 1, in characters.
        end_line: Where it ends.
        end_column: Where in that line: the first character that does not belong to it.
        code: ``"TF101"``.
        message: What is wrong.
        hint: What to do instead, as an imperative.
        fix: The changes that mend it without changing anything else, if there are such.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    code: str
    message: str
    hint: str
    fix: tuple[Edit, ...] = ()
