"""What definitions share, activities and workflows: the function, and checks of their options."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, Self

from trioflow._codec.limits import check_name
from trioflow._codec.signatures.signatures import CallSignature
from trioflow._model.awaited import NotAwaited
from trioflow._model.retry import RetryPolicy
from trioflow.errors import DefinitionError

__all__ = [
    "Definition",
    "OnCancel",
    "check_queue",
    "check_retry",
    "inner_function",
]


OnCancel = Literal["wait", "abandon"]


def _default_name(fn: Any) -> str:
    fn = inner_function(fn)
    name: str = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return name.rpartition("<locals>.")[2]


def inner_function(fn: Any) -> Any:
    """Return the function in a `functools.partial`, or in several."""
    while fn.__class__ is functools.partial:
        fn = fn.func
    return fn


def check_retry(retry: RetryPolicy | None) -> None:
    """Raise `DefinitionError` if it is something else."""
    if retry is not None and not isinstance(retry, RetryPolicy):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no type checker
        raise DefinitionError(
            f"retry is a RetryPolicy, not {retry!r}; for example RetryPolicy(max_attempts=5)"
        )


def check_queue(queue: str | None) -> None:
    """Raise `ArgumentError` if it is no name for a queue."""
    if queue is not None:
        check_name(queue, "a queue")


class Definition(NotAwaited):
    """What activities and workflows share: a function, its name and its signature.

    Calling one gives a ``Coroutine[Never, object, R]``, not ``[Any, Any, R]``: what takes any
    coroutine takes both, but with ``Any`` mypy does not choose among overloads such as those of
    ``anyio.gather``.
    """

    kind = "definition"

    def __init__(self, fn: Callable[..., Any], name: str | None) -> None:
        # Not the attributes of an object with `__call__`.
        updated = ("__dict__",) if inspect.isroutine(fn) else ()
        functools.update_wrapper(self, fn, updated=updated)  # type: ignore[arg-type]  # we are callable; mypy looks at the subclass
        self.fn: Callable[..., Any] = fn
        self.name = check_name(name or _default_name(fn), f"the {self.kind}")
        self.signature = CallSignature.of(fn)

    def _variant(self, **changes: Any) -> Self:
        clone = copy.copy(self)
        clone.__dict__.update((key, value) for key, value in changes.items() if value is not None)
        return clone

    @property
    def where(self) -> str:
        """``file:line`` of the function, for messages."""
        code = getattr(inspect.unwrap(self.fn), "__code__", None)
        return "unknown place" if code is None else f"{code.co_filename}:{code.co_firstlineno}"

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r}>"

    def _instead(self) -> str:
        called = self.name.rpartition(".")[2]
        return (
            f"it is not called; write {called}(…) with its arguments, or {called}.options(…)(…), "
            "since options() only gives a variant of it"
        )
