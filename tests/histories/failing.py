"""The workflows of the golden histories of failures. NEVER EDIT A LINE THAT IS HERE.

As in programs.py: the histories beside this file were made by this code.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import trio

from tests.histories.programs import ONCE, flows
from trioflow import DeterminismWarning, NonRetryable, Retry, RetryPolicy, info


class Kind(Enum):
    ONE = 1


class Declined(Exception):
    """Its arguments are of types that JSON does not have."""


class Permanent(NonRetryable):
    pass


class WithState(Exception):
    def __init__(self, code: int, what: Any) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.what = what
        self.lock = object()


class WithSlots(Exception):
    __slots__ = ("place",)


class OwnText(Exception):
    def __str__(self) -> str:
        return f"own text of {self.args[0]}"


@dataclass(frozen=True)
class Frozen(Exception):
    amount: Decimal
    why: str = "frozen"


class Several(ExceptionGroup):
    def derive(self, excs):
        return Several(self.message, excs)


def _raise(error: BaseException) -> None:
    raise error


def _with_slots(place: str) -> Exception:
    error = WithSlots("slots")
    error.place = place
    return error


def _noted() -> Exception:
    error = RuntimeError("with notes")
    error.add_note("the first note")
    error.add_note("the second,\nof two lines")
    return error


def _caused() -> Exception:
    error = RuntimeError("the outer")
    error.__cause__ = ValueError("the middle")
    error.__cause__.__cause__ = Declined(Decimal("0.5"))
    return error


def _in_a_context() -> Exception:
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise LookupError("second")  # noqa: B904 - the context is what is stored
    except LookupError as error:
        return error


def _of_no_module() -> Exception:
    class Local(ValueError):
        pass

    return Local("of a class that nobody can find", 3)


def _group() -> Exception:
    inner = ExceptionGroup("inner", [KeyError("a"), Permanent("b")])
    return ExceptionGroup("outer", [ValueError("c"), inner, _caused(), _noted()])


def _deep() -> Exception:
    error: Exception = ValueError("at the bottom")
    for depth in range(7):
        error = ExceptionGroup(f"depth {depth}", [error])
    return error


def _text_of_bytes() -> Exception:
    try:
        b"\xff\xfe".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


TAGGED = (
    Decimal("12.50"),
    UUID(int=7),
    datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    date(2026, 1, 2),
    time(3, 4, 5),
    timedelta(days=1, seconds=2),
    b"\x00\xff",
    (1, (2, 3)),
    {4},
    frozenset({5}),
    Kind.ONE,
    math.inf,
    {1: "one", (2,): "two"},
)

KINDS = {
    "plain": lambda: ValueError("text", 1, 2.5, True, None, [1, {"a": "b"}]),
    "nothing": ValueError,
    "tagged": lambda: Declined(*TAGGED),
    "no plain data": lambda: ValueError("holds", object),
    "state": lambda: WithState(3, {"x": Decimal(1)}),
    "own text": lambda: OwnText("it"),
    "frozen": lambda: Frozen(Decimal(3)),
    "system": lambda: FileNotFoundError(2, "No such file", "a.txt"),
    "key": lambda: KeyError("missing"),
    "bytes": _text_of_bytes,
    "long": lambda: ValueError("x" * 20_000),
    "surrogate": lambda: ValueError("lone \ud800 surrogate"),
    "notes": _noted,
    "cause": _caused,
    "context": _in_a_context,
    "unknown class": _of_no_module,
    "slots": lambda: _with_slots("here"),
    "group": _group,
    "deep": _deep,
    "own group": lambda: Several("several", [ValueError("one"), TypeError("two")]),
    "permanent": lambda: Permanent("for good"),
    "retry": lambda: Retry("again", after=12.5),
    "many": lambda: ExceptionGroup("many", [ValueError(str(n)) for n in range(50)]),
}


@flows.activity(retry=ONCE)
async def fail(kind: str) -> None:
    _raise(KINDS[kind]())


@flows.activity(retry=ONCE)
async def wrong_result() -> int:
    return "no number"


@flows.activity(retry=RetryPolicy(max_attempts=3, initial_interval=2, jitter=0))
async def fails_thrice() -> None:
    raise RuntimeError("every time")


@flows.activity(retry=RetryPolicy(max_attempts=2), timeout=3)
async def too_slow() -> None:
    await trio.sleep(60)


def described(error: BaseException) -> list[Any]:
    cause = error.__cause__
    return [
        type(error).__name__,
        str(error)[:80],
        type(cause).__name__ if cause is not None else "",
        [described(each) for each in getattr(error, "exceptions", ())],
    ]


@flows.workflow
async def catches(kinds: list[str]) -> list[Any]:
    seen = []
    for kind in kinds:
        try:
            await fail(kind)
        except Exception as error:
            seen.append([kind, described(error)])
    return seen


@flows.workflow
async def raises_on(kind: str) -> None:
    await fail(kind)


@flows.workflow
async def catches_a_childs(kinds: list[str]) -> list[Any]:
    seen = []
    for kind in kinds:
        try:
            await raises_on.options(id=f"{info().id}/{kind}")(kind)
        except Exception as error:
            seen.append([kind, described(error)])
    return seen


@flows.workflow
async def a_group_of_children() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raises_on.options(id=f"{info().id}/a"), "plain")
        nursery.start_soon(raises_on.options(id=f"{info().id}/b"), "tagged")
        nursery.start_soon(fail, "cause")
        nursery.start_soon(trio.sleep, 100)


@flows.workflow
async def of_the_library() -> list[Any]:
    seen = []
    for call in (wrong_result, fails_thrice, too_slow):
        try:
            await call()
        except Exception as error:
            seen.append(described(error))
    return seen


@flows.workflow
async def bad_argument() -> str:
    try:
        await fail(3)
    except TypeError as error:
        return type(error).__name__
    return "not reached"


with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeterminismWarning)  # it does what must not be done

    @flows.workflow
    async def uses_threads() -> None:
        await trio.to_thread.run_sync(lambda: 1)
