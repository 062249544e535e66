"""Resolution of a callable's parameters and annotations, on every version of Python."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from trioflow.errors import DefinitionError

__all__ = ["name_of", "resolve", "result_type", "signature_of", "stored_type"]


def resolve(fn: Any, localns: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """Return the types that a callable's annotations name.

    Args:
        fn: A function, bound method, partial or callable object.
        localns: Further names for the annotations.
        name: What the callable is called in messages.

    Raises:
        DefinitionError: An annotation names something that does not exist.
    """
    fn = _function(fn)
    names = {**_closure(fn), **(localns or {}), **_type_parameters(fn)}
    try:
        return typing.get_type_hints(fn, localns=names or None, include_extras=True)
    except Exception as error:
        where, annotation = _find_unresolved(fn, names)
        subject = "result" if where == "return" else f"parameter {where!r}"
        raise DefinitionError(
            f"{name}() {subject}: the annotation {annotation} cannot be resolved "
            f"({error}); what it names must exist at run time: import it outside of "
            "`if TYPE_CHECKING`, and define classes at module level"
        ) from error


def signature_of(fn: Callable[..., Any], *, method: bool) -> inspect.Signature:
    """Return a callable's signature, without its first parameter if it is to be a ``method``.

    Raises:
        DefinitionError: It has none that Python can tell.
    """
    if method:
        # Binding to anything drops the first parameter just as an instance would.
        fn = types.MethodType(fn, fn)
    try:
        if sys.version_info >= (3, 14):
            import annotationlib  # noqa: PLC0415 - not there before

            return inspect.signature(fn, annotation_format=annotationlib.Format.FORWARDREF)
        return inspect.signature(fn)
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"the parameters of {fn!r} cannot be known: {error}") from error


def name_of(fn: Any) -> str:
    """Return a callable's name for messages."""
    while fn.__class__ is functools.partial:
        fn = fn.func
    name: str = getattr(fn, "__name__", fn.__class__.__name__)
    return name


def _function(fn: Any) -> Any:
    """Return what carries the annotations of a callable."""
    while fn.__class__ is functools.partial:
        fn = fn.func
    if inspect.isroutine(fn) or inspect.isclass(fn):
        return fn
    return fn.__class__.__call__


def _closure(fn: Any) -> dict[str, Any]:
    """Return the enclosing functions' names that ``fn`` uses; its annotations may use them too."""
    fn = inspect.unwrap(fn)
    fn = getattr(fn, "__func__", fn)
    names: dict[str, Any] = {}
    code = getattr(fn, "__code__", None)
    for name, cell in zip(getattr(code, "co_freevars", ()), fn.__closure__ or (), strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # Not assigned yet.
            continue
    return names


def _type_parameters(fn: Any) -> dict[str, Any]:
    """Return those of ``def f[T](…)``, which `typing` in the first releases of 3.12 misses."""
    fn = inspect.unwrap(fn)
    return {each.__name__: each for each in getattr(fn, "__type_params__", ())}


def _find_unresolved(fn: Any, names: dict[str, Any]) -> tuple[str, str]:
    annotations: dict[str, Any] = getattr(fn, "__annotations__", {})
    for where, annotation in annotations.items():
        alone = types.SimpleNamespace(__annotations__={where: annotation})
        scope = getattr(inspect.unwrap(fn), "__globals__", {})
        try:
            typing.get_type_hints(alone, globalns=scope, localns=names or None)
        except Exception:  # noqa: BLE001 - annotations are any code
            return where, repr(annotation)
    return "return", "of the result"


def stored_type(hint: Any, kind: Any) -> Any:
    """Return the type that a parameter's field of the record has."""
    if isinstance(hint, (typing.ParamSpecArgs, typing.ParamSpecKwargs)):
        hint = Any
    elif isinstance(hint, typing.TypeVar) and hint.__constraints__:
        hint = typing.Union[hint.__constraints__]  # noqa: UP007 - a tuple of members
    if kind is inspect.Parameter.VAR_POSITIONAL or kind is inspect.Parameter.VAR_KEYWORD:
        if typing.get_origin(hint) is typing.Unpack:
            (inner,) = typing.get_args(hint)
            # `*args: *tuple[int, str]` and `**kwargs: Unpack[SomeTypedDict]` are themselves.
            return list[Any] if isinstance(inner, typing.TypeVarTuple) else inner
        return list[hint] if kind is inspect.Parameter.VAR_POSITIONAL else dict[str, hint]
    return hint


def result_type(hint: Any) -> Any:
    """Return the type that a result is stored as."""
    if hint is typing.NoReturn or hint is typing.Never:
        return types.NoneType
    return hint
