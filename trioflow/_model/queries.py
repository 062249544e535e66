"""Queries: named, typed questions to an instance, which change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

import msgspec

from trioflow._codec.limits import check_name
from trioflow._model.events import NO_VALUE
from trioflow._model.invoker import invoker_for
from trioflow._model.updates import NO_ARGUMENT, AnyHandler, check_plain

__all__ = ["Query", "Question", "decode_question", "encode_question"]

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")


class Query(Generic[P, R]):
    """A named, typed question to an instance: its handler looks and changes nothing.

    It is answered from what is in a worker's memory, or from the stored history: also of an
    instance that is suspended, or has finished. It is no part of the history.

    Args:
        name: Which query; any object of the same name is the same query.
        argument: The type of its argument; without one it has none.
        result: The type of its answer; without one, plain JSON data.

    Example:
        >>> contents = Query("contents", result=list[str])
        >>> contents
        Query('contents')
    """

    __slots__ = ("argument", "name", "result")

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Query[[A], T], name: str, *, argument: type[A], result: type[T]
        ) -> None: ...
        @overload
        def __init__(self: Query[[A], Any], name: str, *, argument: type[A]) -> None: ...
        @overload
        def __init__(self: Query[[], T], name: str, *, result: type[T]) -> None: ...
        @overload
        def __init__(self: Query[[], Any], name: str) -> None: ...
        def __init__(self, name: str, *, argument: Any = ..., result: Any = ...) -> None:
            self.name = name
            self.argument: Any = argument
            self.result: Any = result
    else:

        def __init__(
            self, name: str, *, argument: object = NO_ARGUMENT, result: object = Any
        ) -> None:
            self.name = check_name(name, "a query")
            self.argument = argument
            self.result = result

    def __repr__(self) -> str:
        return f"Query({self.name!r})"

    def handler(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Answer these queries with ``fn`` from now on; a later handler takes its place.

        Use it as a decorator, ``@contents.handler``, or call it. It is a plain function, called
        with the argument if the query has one. It may look at all that the workflow has, and
        neither wait, nor ask for anything, nor change anything.

        Raises:
            DefinitionError: It is not callable, takes other arguments than it is called with, or is
                async.
            NotInWorkflow: Outside of a workflow.
        """
        invoker = invoker_for("Query.handler()")
        check_plain(fn, f"the handler of query {self.name!r}")
        invoker.set_query_handler(self, fn)
        return fn

    @staticmethod
    def any_handler(fn: AnyHandler, /) -> AnyHandler:
        """Answer all queries with ``fn`` that have no handler of their own.

        As `handler`, but ``fn`` is called with the query's name and its argument, plain JSON data,
        ``None`` if it has none. What it returns is sent as it is.
        """
        invoker = invoker_for("Query.any_handler()")
        check_plain(fn, "the handler of any query")
        invoker.set_query_handler(None, fn)
        return fn


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client asks: which query, and its argument, empty if it has none."""

    name: str
    value: msgspec.Raw = NO_VALUE


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Question)


def encode_question(question: Question) -> bytes:
    """Return the stored form of a question."""
    return _encoder.encode(question)


def decode_question(data: bytes) -> Question:
    """Read a question from its stored form.

    Raises:
        msgspec.DecodeError: If ``data`` is something else.
    """
    return _decoder.decode(data)
