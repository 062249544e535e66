"""Updates: named, typed requests to an instance, which answers them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from inspect import CO_VARARGS, iscoroutinefunction
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, TypeVar, overload

from trioflow._codec.limits import check_name, check_request
from trioflow._model.invoker import invoker_for
from trioflow.errors import DefinitionError

__all__ = ["NO_ARGUMENT", "Update", "check_callable", "check_plain", "check_takes"]

P = ParamSpec("P")
A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T")
AnyHandler = TypeVar("AnyHandler", bound=Callable[[str, Any], Any])


class _NoArgument:
    """Stands for the type of an argument where there is none."""

    def __repr__(self) -> str:
        return "no argument"


NO_ARGUMENT: Final = _NoArgument()


class Update(Generic[P, R]):
    """A named, typed request to an instance: its handler does something and returns an answer.

    Updates wait, in the order of their arrival, until the workflow has a handler for them, also
    those that came before that. Each runs in a task of its own. The end of the workflow waits for
    those that run.

    Args:
        name: Which update; any object of the same name is the same update.
        argument: The type of its argument; without one it has none.
        result: The type of its answer; without one, plain JSON data.

    Attributes:
        id: What tells this request from others of the instance, see `options`; ``None`` for a new
            one each time.

    Example:
        >>> add = Update("add", argument=str, result=int)
        >>> add
        Update('add')
    """

    __slots__ = ("argument", "id", "name", "result")

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: Update[[A], T], name: str, *, argument: type[A], result: type[T]
        ) -> None: ...
        @overload
        def __init__(self: Update[[A], Any], name: str, *, argument: type[A]) -> None: ...
        @overload
        def __init__(self: Update[[], T], name: str, *, result: type[T]) -> None: ...
        @overload
        def __init__(self: Update[[], Any], name: str) -> None: ...
        def __init__(self, name: str, *, argument: Any = ..., result: Any = ...) -> None:
            self.name = name
            self.argument: Any = argument
            self.result: Any = result
            self.id: str | None = None
    else:

        def __init__(
            self, name: str, *, argument: object = NO_ARGUMENT, result: object = Any
        ) -> None:
            self.name = check_name(name, "an update")
            self.argument = argument
            self.result = result
            self.id = None

    def __repr__(self) -> str:
        return f"Update({self.name!r})" if self.id is None else f"Update({self.name!r}, {self.id})"

    def options(self, *, id: str) -> Update[P, R]:
        """Return the same update under an id, which makes it idempotent: each id is handled once.

        Whoever asks with the same id again gets the same answer, also after the instance has ended,
        until it is removed. It names one request of an instance, whatever update that was: given to
        another update, it asks nothing, and the answer is that of the first.

        Raises:
            ArgumentError: The id is no string, empty, too long, or has characters that a store does
                not take.
        """
        variant = type(self).__new__(type(self))
        variant.name, variant.argument, variant.result = self.name, self.argument, self.result
        variant.id = check_request(id)
        return variant

    @overload
    def handler(self, fn: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]: ...
    @overload
    def handler(self, fn: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def handler(self, /, *, validator: Callable[P, object]) -> _HandlerDecorator[P, R]: ...

    def handler(self, fn: Any = None, /, *, validator: Any = None) -> Any:
        """Answer these updates with ``fn`` from now on; a later handler takes its place.

        Use it as a decorator, ``@add.handler``, or call it. The function may be async, and do what
        a workflow may do, but for ``continue_as_new``. What it raises is the answer to this update,
        and nothing else.

        Args:
            fn: Called with the argument, if the update has one.
            validator: A plain function, called with the same before. It changes nothing; what it
                raises refuses the update: that is the answer then, and ``fn`` is not called.

        Raises:
            DefinitionError: One of them is not callable, takes other arguments than it is called
                with, or the validator is async.
            NotInWorkflow: Outside of a workflow.
        """
        set_handler = invoker_for("Update.handler()").set_update_handler
        what = f"update {self.name!r}"

        def decorate(fn: Any) -> Any:
            check_callable(fn, f"the handler of {what}")
            set_handler(self, fn, validator)
            return fn

        if validator is not None:
            check_plain(validator, f"the validator of {what}")
        return decorate if fn is None else decorate(fn)

    @staticmethod
    def any_handler(fn: AnyHandler, /) -> AnyHandler:
        """Answer all updates with ``fn`` that have no handler of their own.

        As `handler`, but ``fn`` is called with the update's name and its argument, plain JSON data,
        ``None`` if it has none. What it returns is stored as it is.
        """
        invoker = invoker_for("Update.any_handler()")
        check_callable(fn, "the handler of any update")
        invoker.set_update_handler(None, fn, None)
        return fn


class _HandlerDecorator(Generic[P, R]):
    """The type of ``@update.handler(...)``: it decorates async and plain functions."""

    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Callable[P, Awaitable[R]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]: ...
    def __call__(self, fn: Any, /) -> Any:
        raise NotImplementedError


def check_callable(fn: object, what: str) -> None:
    """Check that something can be called.

    Raises:
        DefinitionError: It cannot.
    """
    if not callable(fn):
        raise DefinitionError(f"{what} is a function, not {fn!r}")


def check_takes(fn: object, count: int, what: str, message: str) -> None:
    """Check that a function takes what a handler is called with, as far as that is seen quickly.

    Args:
        fn: It.
        count: How many arguments it gets: one if the message has one.
        what: It, in words.
        message: Which query or update it answers, in words.

    Raises:
        DefinitionError: It takes more or fewer.
    """
    if not isinstance(fn, FunctionType):
        return
    code = fn.__code__
    most = math.inf if code.co_flags & CO_VARARGS else code.co_argcount
    if code.co_argcount - len(fn.__defaults__ or ()) <= count <= most:
        return
    says = "an argument" if count else "no argument"
    raise DefinitionError(
        f"{what} ({code.co_filename}:{code.co_firstlineno}) is called with {says}, since {message} "
        f"is declared with {says}, and takes {code.co_argcount}; let both agree"
    )


def check_plain(fn: object, what: str) -> None:
    """Check that something can be called and is not async.

    Raises:
        DefinitionError: It cannot, or is.
    """
    check_callable(fn, what)
    if iscoroutinefunction(fn) or iscoroutinefunction(getattr(fn, "__call__", None)):  # noqa: B004
        raise DefinitionError(
            f"{what} is async; make it a plain 'def': it looks at what there is, and waits for "
            "nothing"
        )
