"""Call signatures: encode the arguments of a call, and decode them.

A signature knows a function's parameters and their types; what a value may be is the codec's
business (:mod:`trioflow._codec.values`).
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from trioflow._codec.paths import at
from trioflow._codec.round_trip import find_change
from trioflow._codec.signatures.annotations import (
    name_of,
    resolve,
    result_type,
    signature_of,
    stored_type,
)
from trioflow._codec.values import (
    MAX_PAYLOAD,
    SELF_EVIDENT,
    Codec,
    JsonCodec,
    WrappedCodec,
    check_size,
    check_type,
    named,
    refuse_lost_keys,
    warn_untyped,
    write,
    write_and_read,
)
from trioflow.errors import ArgumentError, DefinitionError, UndecodableValue, ValueMismatch

__all__ = ["CallSignature"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD


class CallSignature:
    """A function's parameters, with their types looked up at the first use.

    Arguments are stored as one JSON object by parameter name; ``*args`` as an array and
    ``**kwargs`` as an object under their own names. Arguments that the caller left to their
    defaults are not stored, so a running call is safe against: another default, a new parameter
    with a default, another order of the parameters, keyword-only made positional and back.

    Attributes:
        name: The function's name, which begins every message: ``"checkout"``.
    """

    __slots__ = (
        "_by_name",
        "_evident",
        "_fn",
        "_localns",
        "_most",
        "_names",
        "_needed",
        "_parameters",
        "_result",
        "_signature",
        "_simple",
        "_struct",
        "_typed",
        "_types",
        "_untyped",
        "name",
    )

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        method: bool = False,
        localns: Mapping[str, Any] | None = None,
    ) -> None:
        self._fn = fn
        self._localns = localns
        self._signature = signature_of(fn, method=method)
        self._parameters = tuple(self._signature.parameters.values())
        self._names = tuple(p.name for p in self._parameters)
        self.name = name_of(fn)
        positional = [p for p in self._parameters if p.kind in _POSITIONAL]
        required = [p for p in self._parameters if _is_required(p)]
        # With only required positional parameters a decoded record is the argument list.
        self._simple = len(required) == len(positional) == len(self._parameters)
        # A call with this many positional arguments and no others needs no binding.
        self._needed = len(required) if all(p in positional for p in required) else sys.maxsize
        self._most = len(positional)
        # Variadic and positional-only parameters leave a call by keyword to inspect.
        self._by_name = all(p.kind in _BY_NAME for p in self._parameters)
        self._struct: type[msgspec.Struct] | None = None
        self._types: dict[str, Any] = {}
        self._result: Any = Any
        self._typed = False
        # The classes of arguments that come back as they are; empty where values decide that.
        self._evident: list[Any] = []
        self._untyped: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        fn: Callable[..., Any],
        *,
        method: bool = False,
        localns: Mapping[str, Any] | None = None,
    ) -> CallSignature:
        """Return the signature of ``fn``; its annotations may still name what does not exist yet.

        Args:
            fn: A function, bound method (its ``self`` is left out), partial or callable object.
            method: ``fn`` is a plain function taken from a class body: leave its first parameter
                out, as for the method it becomes.
            localns: Further names for the annotations, for a function defined in a function.

        Raises:
            DefinitionError: ``fn`` has no signature that Python can tell.
        """
        return cls(fn, method=method, localns=localns)

    @property
    def parameters(self) -> tuple[inspect.Parameter, ...]:
        """The parameters; that of ``self`` is not among them."""
        return self._parameters

    def __str__(self) -> str:
        return f"{self.name}{self._signature}"

    @property
    def result_type(self) -> Any:
        """The declared type of the result; ``Any`` if there is none, ``NoneType`` for ``None``.

        Raises:
            DefinitionError: An annotation names something that does not exist.
        """
        if self._struct is None:
            self._compile()
        return self._result

    def check(self, codec: Codec) -> None:
        """Check that arguments and result can be stored, before anything is called.

        Raises:
            DefinitionError: An annotation names something that does not exist, or a type whose
                values ``codec`` cannot store.
        """
        struct = self._struct or self._compile()
        self._check_parameters(codec)
        check_type(codec, struct, f"{self.name}() arguments")
        check_type(codec, self._result, f"{self.name}() result")

    def encode(
        self,
        codec: Codec,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        what: str | None = None,
        limit: int = MAX_PAYLOAD,
    ) -> bytes:
        """Return the arguments of a call as one JSON document.

        There is a warning if an argument without a declared type would come back as something
        else.

        Args:
            codec: The codec to use.
            args: The positional arguments.
            kwargs: The keyword arguments.
            what: The name in messages, instead of :attr:`name`.
            limit: The number of bytes allowed.

        Raises:
            ArgumentError: The arguments do not fit the parameters, one of them cannot be stored
                or is not of its declared type, and where.
            DefinitionError: As for :meth:`check`.
            PayloadTooLarge: The document is larger than ``limit``.
        """
        struct = self._struct or self._compile()
        if kwargs or not self._needed <= len(args) <= self._most:
            args = self._bind(args, kwargs, what)
        try:
            if codec.__class__ is JsonCodec and [*map(type, args)] == self._evident:
                # All of them come back as what they are; there is nothing to compare.
                data = codec.encode(struct(*args))
            else:
                data = self._encode(codec, struct, args, what)
        except UserWarning:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._explain(codec, error, what, ArgumentError) from error
        if len(data) > limit:
            check_size(data, f"{what or self.name}() arguments", limit)
        return data

    def decode(
        self, codec: Codec, data: bytes, what: str | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return ``(args, kwargs)`` such that ``fn(*args, **kwargs)`` is the call that was stored.

        Args:
            codec: The codec it was encoded with.
            data: What :meth:`encode` returned, perhaps by an earlier version of the function.
            what: The name in messages, instead of :attr:`name`.

        Raises:
            UndecodableValue: A stored argument has no parameter any more, a parameter without
                a default has no stored argument, or one is not of its declared type, and where.
            DefinitionError: As for :meth:`check`.
        """
        struct = self._struct or self._compile()
        try:
            record: Any = codec.decode(data, struct)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self._explain(codec, error, what, UndecodableValue) from error
        if record.__class__ is not struct:
            raise UndecodableValue(
                f"{what or self.name}() arguments: {codec.__class__.__name__}.decode() returned "
                f"{record.__class__.__name__} where an instance of the given type was asked for"
            )
        values = msgspec.structs.astuple(record)
        if self._simple:
            return list(values), {}
        return self._spread(values, what)

    def argument(self, codec: Codec, data: bytes, name: str) -> Any:
        """Return one argument of a stored call, or its default; ``None`` if there is none so named.

        Errors as `decode`.
        """
        args, kwargs = self.decode(codec, data)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments.get(name)

    def has_parameter(self, name: str) -> bool:
        """Return whether there is a parameter of that name."""
        return name in self._names

    def _encode(
        self, codec: Codec, struct: type[msgspec.Struct], args: Sequence[Any], what: str | None
    ) -> bytes:
        record: Any
        if _writes_structs(codec):
            # A record encodes three times as fast as a dict of the same.
            record = struct(*args)
            if self._typed:
                data, back = write_and_read(codec, record, struct, self._untyped)
            elif all(value.__class__ in _SIMPLE for value in args):
                return codec.encode(record)
            else:
                data, back = write(codec, record, struct)
        else:
            given = zip(self._names, args, strict=False)
            record = {name: value for name, value in given if value is not UNSET}
            data, back = write(codec, record, struct)
            if back.__class__ is struct:
                _compare(self._names, record, back, self._untyped)
        self._look_at_untyped(codec, args, back, what)
        return data

    def _look_at_untyped(
        self, codec: Codec, args: Sequence[Any], back: Any, what: str | None
    ) -> None:
        """Warn of arguments without a declared type that come back as something else.

        Raises:
            ValueMismatch: One of them would lose keys.
        """
        for number, (name, value) in enumerate(zip(self._names, args, strict=False)):
            if name in self._untyped and value.__class__ not in _SIMPLE:
                text = f"{what or self.name}() parameter {name!r}"
                if self._parameters[number].kind is _VAR_POSITIONAL:
                    value = list(value)  # noqa: PLW2901  # it comes back as a tuple all the same
                part_back = getattr(back, f"p{number}")
                refuse_lost_keys(codec, value, part_back, f".{name}")
                warn_untyped(value, part_back, text)

    def _spread(
        self, values: tuple[Any, ...], what: str | None
    ) -> tuple[list[Any], dict[str, Any]]:
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        # Defaults are passed only where a later positional argument would take their place.
        skipped: list[Any] = []
        for parameter, value in zip(self._parameters, values, strict=True):
            if value is UNSET:
                if _is_required(parameter):
                    raise UndecodableValue(self._missing(parameter.name, what))
                if parameter.kind in _POSITIONAL:
                    skipped.append(parameter.default)
            elif parameter.kind in _POSITIONAL:
                args += [*skipped, value]
                skipped.clear()
            elif parameter.kind is _VAR_POSITIONAL:
                args += [*skipped, *value]
            elif parameter.kind is _VAR_KEYWORD:
                kwargs.update(value)
            else:
                kwargs[parameter.name] = value
        return args, kwargs

    def _bind(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], what: str | None
    ) -> Sequence[Any]:
        if self._by_name and len(args) <= self._most:
            values = self._bind_by_name(args, kwargs)
            if values is not None:
                return values
        self._refuse_unknown(kwargs, what)
        if len(args) > self._most and all(p.kind is not _VAR_POSITIONAL for p in self._parameters):
            raise ArgumentError(
                f"{what or self.name}() takes {self._most or 'no'} positional "
                f"argument{'' if self._most == 1 else 's'}, {len(args)} were given"
            )
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise ArgumentError(f"{what or self.name}() {error}") from None
        for parameter in self._parameters:
            # bind() overlooks a positional-only one whose name is among the **kwargs.
            if _is_required(parameter) and parameter.name not in bound:
                name = parameter.name
                raise ArgumentError(f"{what or self.name}() missing a required argument: {name!r}")
        return [bound.get(name, UNSET) for name in self._names]

    def _refuse_unknown(self, kwargs: Mapping[str, Any], what: str | None) -> None:
        """Raise for a keyword that no parameter has; bind() would name the one that is missing."""
        if any(p.kind is _VAR_KEYWORD for p in self._parameters):
            return
        known = [p.name for p in self._parameters if p.kind in _BY_NAME]
        for name in kwargs:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                if not near and name in _OPTIONS:
                    hint = f"; if it is meant as an option: {self.name}.options({name}=…)"
                raise ArgumentError(
                    f"{what or self.name}() got an unexpected keyword argument {name!r}{hint}"
                )

    def _bind_by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any] | None:
        """Bind arguments, five times as fast as ``bind()``; return ``None`` if they do not fit."""
        values = [*args]
        left = len(kwargs)
        for parameter in self._parameters[len(args) :]:
            value = kwargs.get(parameter.name, UNSET)
            if value is not UNSET:
                left -= 1
            elif parameter.default is inspect.Parameter.empty:
                return None
            values.append(value)
        return None if left else values

    def _compile(self) -> type[msgspec.Struct]:
        hints = resolve(self._fn, self._localns, self.name)
        fields: list[Any] = []
        optional = False
        for number, parameter in enumerate(self._parameters):
            hint = stored_type(hints.get(parameter.name, Any), parameter.kind)
            self._types[parameter.name] = hint
            # A record's required fields come first; _spread() checks those that cannot.
            optional = optional or not _is_required(parameter)
            default: Any = UNSET if optional else msgspec.NODEFAULT
            # Numbered fields, so that a parameter may have any name, `__struct_fields__` too.
            field = msgspec.field(name=parameter.name, default=default)
            fields.append((f"p{number}", hint, field))
        self._untyped = frozenset(
            name
            for name, hint in self._types.items()
            if hint in (Any, list[Any], dict[str, Any]) and hints.get(name, Any) is Any
        )
        self._typed = len(self._untyped) < len(self._types)
        self._evident = [*self._types.values()]
        if not all(isinstance(hint, type) and hint in SELF_EVIDENT for hint in self._evident):
            self._evident = []
        self._result = result_type(hints.get("return", Any))
        struct = msgspec.defstruct(f"{self.name}_arguments", fields, forbid_unknown_fields=True)
        self._struct = struct
        return struct

    def _check_parameters(self, codec: Codec) -> None:
        for name, hint in self._types.items():
            check_type(codec, hint, f"{self.name}() parameter {name!r}")

    def _missing(self, parameter: str, what: str | None) -> str:
        return (
            f"{what or self.name}() missing a required argument: {parameter!r}; a parameter that "
            "is added while calls are stored needs a default"
        )

    def _explain(
        self,
        codec: Codec,
        error: BaseException,
        what: str | None,
        kind: type[ArgumentError | UndecodableValue],
    ) -> Exception:
        """Turn what a codec raised about all arguments into an error about one of them."""
        prefix = f"{what or self.name}()"
        if isinstance(error, DefinitionError):
            self._check_parameters(codec)
            return named(codec, error, f"{prefix} arguments")
        if not isinstance(error, ValueMismatch):
            return kind(str(named(codec, error, f"{prefix} arguments")))
        text = str(error)
        if match := _IN_ARGUMENT.fullmatch(text):
            rest = f" - at ${match['rest']}" if match["rest"] else ""
            return kind(f"{prefix} argument {match['name']!r}: {match['text']}{rest}")
        if match := _MISSING.fullmatch(text):
            return kind(self._missing(match["name"], what))
        if match := _UNKNOWN.fullmatch(text):
            return kind(
                f"{prefix} got a stored argument {match['name']!r} that is no parameter (any "
                "more); keep a removed parameter, with a default, until no stored call has it"
            )
        return kind(f"{prefix} arguments: {text}")


_IN_ARGUMENT = re.compile(r"(?P<text>.*) - at \$\.(?P<name>\w+)(?P<rest>.*)", re.DOTALL)
_OPTIONS = frozenset(
    {"id", "queue", "priority", "retry", "timeout", "schedule_timeout", "heartbeat_timeout"}
)
_MISSING = re.compile(r"Object missing required field '?(?P<name>\w+)'?")
_UNKNOWN = re.compile(r"Object contains unknown field '?(?P<name>.+?)'?", re.DOTALL)


def _compare(
    names: Sequence[str], record: dict[str, Any], back: Any, untyped: frozenset[str]
) -> None:
    for number, name in enumerate(names):
        if name in record and name not in untyped:
            change = find_change(record[name], getattr(back, f"p{number}"))
            if change is not None:
                path, text = change
                raise ValueMismatch(at(text, f".{name}{path}"))


# What comes back as it is without a declared type.
_SIMPLE = frozenset({str, int, float, bool, types.NoneType, msgspec.UnsetType})


def _writes_structs(codec: Codec) -> bool:
    while isinstance(codec, WrappedCodec):
        codec = codec.inner
    return isinstance(codec, JsonCodec)


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind is _VAR_POSITIONAL or parameter.kind is _VAR_KEYWORD
    return parameter.default is inspect.Parameter.empty and not variadic
