"""Checks of options of definitions, policies and workers.

Callers may have no type checker, and an option that is wrong must be refused where it is given,
not where it is used.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, NoReturn, TypeGuard, TypeVar

from trioflow.errors import DefinitionError

__all__ = [
    "HIGHEST_PRIORITY",
    "LOWEST_PRIORITY",
    "check_choice",
    "check_count",
    "check_flag",
    "check_limit_in_seconds",
    "check_priority",
    "check_seconds",
    "check_time",
    "is_number",
    "names_of_options",
    "refuse_unknown",
    "refuses_unknown",
    "seconds_needed",
]

F = TypeVar("F", bound=Callable[..., Any])

_FARTHEST: Final = 1e15
"""Seconds; what lies beyond means "whenever". Not every store takes infinity."""

LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100


def check_seconds(what: str, value: object, *, zero: bool = False) -> None:
    """Accept a number of seconds above 0.

    Args:
        what: The option's name.
        value: What was given.
        zero: Whether 0 is accepted too.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    if not is_number(value):
        raise TypeError(seconds_needed(what, value))
    if math.isnan(value) or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "above 0"
        raise ValueError(f"{what} is a number of seconds, {least}, not {value!r}")


def check_limit_in_seconds(what: str, value: object) -> None:
    """Accept what `check_seconds` does, or ``None`` for no limit; raises the same."""
    if value is not None:
        check_seconds(what, value)


def check_time(value: object, name: str) -> float:
    """Return a moment in epoch seconds.

    Raises:
        TypeError: It is no number.
        ValueError: It is nan.
    """
    if isinstance(value, date):  # a datetime too
        of = name if hasattr(value, "timestamp") else f"datetime.combine({name}, …)"
        raise TypeError(
            f"{name}: times are epoch seconds, not {value!r}; give {of}.timestamp() "
            "(of a datetime that knows its time zone)"
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: times are epoch seconds, a number, not {value!r}")
    seconds = float(value)
    if math.isnan(seconds):
        raise ValueError(f"{name}: nan is no time")
    return min(max(seconds, -_FARTHEST), _FARTHEST)


def check_count(what: str, value: object, least: int, most: int | None = None) -> int:
    """Return a whole number that is within its range.

    Args:
        what: The option's name.
        value: What was given.
        least: The smallest that is accepted.
        most: The largest that is accepted; ``None`` for no limit.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} is a whole number, not {value!r}")
    if most is not None and not least <= value <= most:
        raise ValueError(f"{what} is a whole number from {least} to {most}, not {value!r}")
    if value < least:
        raise ValueError(f"{what} is at least {least}, not {value!r}")
    return value


def check_flag(what: str, value: object) -> None:
    """Accept true or false.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{what} is True or False, not {value!r}")


def check_priority(value: object) -> None:
    """Accept a priority, or ``None``.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is out of range.
    """
    if value is not None:
        check_count("priority", value, LOWEST_PRIORITY, HIGHEST_PRIORITY)


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """Accept one of a few strings.

    Raises:
        DefinitionError: It is something else; the message names a similar one.
    """
    if value in choices:
        return
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else ()
    hint = f"; did you mean {near[0]!r}?" if near else ""
    known = f"{', '.join(map(repr, choices[:-1]))} or {choices[-1]!r}"
    raise DefinitionError(f"{what} is {known}, not {value!r}{hint}")


def names_of_options(fn: Callable[..., Any]) -> list[str]:
    """Return the names of what a function takes by keyword only."""
    parameters = inspect.signature(fn).parameters.values()
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]


def refuses_unknown(what: str) -> Callable[[F], F]:
    """Have a function refuse options that it does not know, by `refuse_unknown`.

    Not by a ``**unknown`` of its own: type checkers see the signature as it is.
    """

    def decorate(fn: F) -> F:
        accepted = frozenset(inspect.signature(fn).parameters)

        def check(options: Mapping[str, object]) -> None:
            unknown = {name: options[name] for name in options if name not in accepted}
            if unknown:
                refuse_unknown(what, unknown, names_of_options(fn))

        async def called_async(*args: Any, **options: Any) -> Any:
            check(options)
            return await fn(*args, **options)

        def called(*args: Any, **options: Any) -> Any:
            check(options)
            return fn(*args, **options)

        wrapper: Any = called_async if inspect.iscoroutinefunction(fn) else called
        same: Any = functools.wraps(fn)(wrapper)
        return same  # type: ignore[no-any-return]  # with the signature of fn

    return decorate


def refuse_unknown(what: str, given: Mapping[str, object], known: Iterable[str]) -> NoReturn:
    """Say which of the options given, of which one or more are unknown, are so.

    Args:
        what: What they were given to: ``"@activity"``.
        given: What was given.
        known: The options that there are.

    Raises:
        DefinitionError: Always; the message names a similar one.
    """
    names = [*known]
    name = next(each for each in given if each not in names)
    near = difflib.get_close_matches(name, names, n=1)
    if "retry" in names and name in ("attempts", "max_attempts", "max_retries", "retries"):
        hint = f"say retry=RetryPolicy(max_attempts={given[name]!r})"
    elif near:
        hint = f"did you mean {near[0]}=?"
    else:
        hint = f"there are {', '.join(names)}"
    raise DefinitionError(f"{what} has no option {name!r}; {hint}")


def is_number(value: object) -> TypeGuard[float]:
    """Return whether it is an int or a float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def seconds_needed(what: str, value: object) -> str:
    """Return what to say of a value that should be seconds and is no number."""
    hint = "; give its .total_seconds()" if isinstance(value, timedelta) else ""
    return f"{what} is in seconds, a number, not {value!r}{hint}"
