"""The default codec: JSON through msgspec, typed by annotations, and its checks.

What makes a value come back as it was, or be refused, is in :mod:`trioflow._codec.round_trip`.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, cast, get_args

import msgspec

from trioflow._codec.documents import NESTED_TOO_DEEPLY, is_too_deep
from trioflow._codec.foreign import said, shown
from trioflow._codec.limits import VALUE_LEVELS
from trioflow._codec.paths import at, locate, parts_of, readable
from trioflow._codec.pydantic_models import is_model, read_model, write_model
from trioflow._codec.round_trip import (
    ChangedValue,
    class_name,
    equal,
    find_change,
    find_unknown,
)
from trioflow._codec.types import TypeFacts, facts_of_type
from trioflow._codec.zones import from_named, to_named
from trioflow.errors import DefinitionError, ValueMismatch

__all__ = ["JsonCodec"]


class _Reader(NamedTuple):
    """A decoder of one type, with the facts that say how to check its values."""

    type: Any
    decode: Callable[[bytes], object]
    facts: TypeFacts


class JsonCodec:
    """The default codec: JSON through msgspec, typed by the annotations.

    Stores what JSON has, and dataclasses, ``msgspec.Struct``, attrs classes, ``TypedDict``,
    ``NamedTuple``, enums, ``datetime`` and its relatives, ``UUID``, ``Decimal``, bytes, sets,
    tuples and unions of these; and pydantic models where pydantic is in use.

    - Without an annotation (or with ``Any``) a value comes back as plain JSON data: a tuple as a
      list, a dataclass as a dict, a dict's keys as strings. There is a warning.
    - A value is judged by its JSON form, so a ``str`` that reads as a datetime is taken where
      a ``datetime`` is declared, and an ``int`` where a ``float`` is. What would come back as
      something else is refused, such as an object of a subclass where its base class is declared.
    - A datetime keeps the name of its ``ZoneInfo``: ``"2026-01-15T09:00:00+01:00[Europe/Berlin]"``.
    - A stored field that a class does not have is an error, unless the class has a true
      ``__allow_unknown_fields__``. A pydantic model decides by its ``extra``.
    - ``nan`` and the infinities are refused: JSON has no word for them. ``Decimal("NaN")`` is fine.
    - Subclasses of ``str``, ``int``, ``float`` and ``bytes`` are stored as their base.

    Args:
        enc_hook: Called with an object that cannot be stored by itself; returns one that can, or
            raises ``NotImplementedError``.
        dec_hook: Called with ``(type, data)`` for a type unknown here, with plain JSON data;
            returns the value, or raises ``ValueError``.
    """

    __slots__ = ("_dec_hook", "_enc_hook", "_encode", "_readers")

    def __init__(
        self,
        *,
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self._enc_hook = enc_hook
        self._dec_hook = dec_hook
        self._encode = msgspec.json.Encoder(enc_hook=self._to_storable).encode
        self._readers: dict[object, _Reader] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Let it be sent to another process, if its hooks can be."""
        return partial(type(self), enc_hook=self._enc_hook, dec_hook=self._dec_hook), ()

    def encode(self, value: object, /) -> bytes:
        """Return ``value`` as one JSON document.

        Raises:
            ValueMismatch: It, or something in it, cannot be stored as JSON.
        """
        try:
            data = self._encode(value)
        except RecursionError:
            text = f"the value contains itself, or {NESTED_TOO_DEEPLY}"
            raise ValueMismatch(at(text, self._path_to_depth(value))) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ValueMismatch(self._why_not(value, error)) from error
        if len(data) > _SHALLOW and is_too_deep(data):
            raise ValueMismatch(at(NESTED_TOO_DEEPLY, self._path_to_depth(value)))
        # msgspec writes nan as null, so only a document with a null in it can hide one.
        if data.find(b"null") >= 0 and value is not None:
            self._refuse_nan(value)
        return data

    def decode(self, data: bytes, type: object, /) -> object:
        """Return the value of ``type`` that ``data`` holds.

        Raises:
            ValueMismatch: The data is not of that type, or has fields that it has not; the message
                ends in ``- at $.path`` unless the whole value is wrong.
            DefinitionError: Values of that type cannot be stored as JSON.
        """
        try:
            reader = self._readers[type]
        except (KeyError, TypeError):
            reader = self._reader(type)
        if reader.facts.plain:
            try:
                return reader.decode(data)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise _explained(error) from error
        value = self._read(reader, data)
        # What this code wrote itself has nothing that it does not know.
        if reader.facts.drops_unknown and (reader.facts.has_models or not self._wrote(data, value)):
            unknown = find_unknown(msgspec.json.decode(data), value)
            if unknown is not None:
                path, text = unknown
                raise ValueMismatch(at(text, path))
        return value

    def encode_verified(
        self, value: object, type: object, /, untyped: Collection[str] = ()
    ) -> tuple[bytes, object]:
        """Encode ``value`` and check that it comes back as what it was.

        Args:
            value: The value.
            type: Its declared type.
            untyped: The fields of a Struct that are not compared.

        Returns:
            The document, and what it is read as.

        Raises:
            ValueMismatch: It cannot be stored, is not of that type, or would come back different.
            DefinitionError: Values of that type cannot be stored as JSON.
        """
        data = self.encode(value)
        reader = self._reader(type)
        back = self._read(reader, data)
        if reader.facts.exact and equal(value, back):
            return data, back
        change = find_change(value, back, untyped)
        if change is not None and reader.facts.has_datetimes:
            data = self._encode_named(value)
            back = self._read(reader, data)
            change = find_change(value, back, untyped)
        if change is not None:
            path, text = change
            raise ValueMismatch(at(text, path))
        return data, back

    def prepare(self, type: object, /) -> None:
        """Make the decoder of ``type``, which is kept.

        Raises:
            DefinitionError: Values of that type cannot be stored as JSON.
        """
        self._reader(type)

    def _reader(self, type: object) -> _Reader:
        try:
            return self._readers[type]
        except (KeyError, TypeError):
            reader = self._make_reader(type)
        with contextlib.suppress(TypeError):  # An annotation may carry unhashable metadata.
            self._readers[type] = reader
        return reader

    def _make_reader(self, type: object) -> _Reader:
        try:
            decoder = msgspec.json.Decoder(cast("Any", type), dec_hook=self._from_stored)
            facts = facts_of_type(type)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise DefinitionError(_unsupported(type, error)) from error
        if facts.unknown is not None and self._dec_hook is None:
            raise DefinitionError(
                f"values of type {class_name(facts.unknown)} cannot be stored as JSON; use "
                "a dataclass, a msgspec.Struct or a pydantic model, pass an id instead, or give "
                "the codec hooks"
            )
        return _Reader(type, decoder.decode, facts)

    def _read(self, reader: _Reader, data: bytes) -> object:
        try:
            if reader.facts.has_datetimes and data.find(b']"') >= 0:
                return self._read_named(reader, data)
            return reader.decode(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise _explained(error) from error

    def _read_named(self, reader: _Reader, data: bytes) -> object:
        """Read what may hold datetimes with the names of their zones."""
        plain, found = from_named(msgspec.json.decode(data))
        if found:
            with contextlib.suppress(msgspec.ValidationError):  # A string that only looks like one.
                return msgspec.convert(
                    plain,
                    reader.type,
                    builtin_types=(datetime,),
                    str_keys=True,
                    dec_hook=self._from_stored,
                )
        return reader.decode(data)

    def _encode_named(self, value: object) -> bytes:
        plain = msgspec.to_builtins(
            value, builtin_types=(datetime,), str_keys=True, enc_hook=self._to_plain
        )
        return msgspec.json.encode(to_named(plain))

    def _wrote(self, data: bytes, value: object) -> bool:
        try:
            return self._encode(value) == data
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - then it is looked at
            return False

    def _to_storable(self, value: Any) -> Any:
        if self._enc_hook is not None:
            try:
                return self._enc_hook(value)
            except NotImplementedError:
                pass
        if is_model(value.__class__):
            return msgspec.Raw(write_model(value))
        base: Any  # the constructors have nothing in common but this use
        for base in (str, int, float, bytes):
            if isinstance(value, base):
                return base.__new__(base, value)
        raise TypeError

    def _from_stored(self, type: Any, data: Any) -> Any:
        if self._dec_hook is not None:
            try:
                return self._dec_hook(type, data)
            except NotImplementedError:
                pass
        return read_model(type, data) if is_model(type) else data

    def _why_not(self, value: object, error: BaseException) -> str:
        path, leaf = locate(value, lambda part: not self._can_encode(part))
        if isinstance(error, ChangedValue):
            path, text = path + error.path, error.text
        elif inspect.iscoroutine(leaf):
            leaf.close()  # the one message is enough
            text = "it is a coroutine: await it, or make the function that gives it 'async def'"
        elif isinstance(leaf, str):
            text = "the text holds lone surrogates, which UTF-8 cannot express"
        elif isinstance(leaf, dict):
            text = "keys of a dict must be strings or numbers"
        elif isinstance(error, TypeError) and not said(error):
            text = f"a value of type {class_name(type(leaf))} cannot be stored as JSON"
        else:
            text = said(error) or type(error).__name__
        return at(text, path)

    def _path_to_depth(self, value: object) -> str:
        """Return the first steps to what is nested too deeply."""
        left = VALUE_LEVELS

        def deep(part: object) -> bool:
            try:
                return is_too_deep(self._encode(part), left - 1)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - it is nested more deeply than can be written
                return True

        path = ""
        while left > VALUE_LEVELS - _STEPS:
            found = next(((step, part) for step, part in parts_of(value) if deep(part)), None)
            if found is None:
                return path
            path, value = path + found[0], found[1]
            left -= 1
        return f"{path}…"

    def _can_encode(self, value: object) -> bool:
        try:
            self._encode(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever the reason, this is the part
            return False
        return True

    def _refuse_nan(self, value: object) -> None:
        if not self._has_nan(value):
            return
        path, leaf = locate(value, self._has_nan)
        raise ValueMismatch(at(f"JSON has no {leaf!r}; use None or a string instead", path))

    def _has_nan(self, value: object) -> bool:
        try:
            _strict_json(msgspec.to_builtins(value, str_keys=True, enc_hook=self._to_builtin))
        except ValueError:
            return True
        return False

    def _to_builtin(self, value: Any) -> Any:
        # What a pydantic model or a Raw writes is already JSON text: it holds no nan.
        if isinstance(value, msgspec.Raw) or is_model(value.__class__):
            return None
        return self._to_storable(value)

    def _to_plain(self, value: Any) -> Any:
        stored = value if isinstance(value, msgspec.Raw) else self._to_storable(value)
        return msgspec.json.decode(stored) if isinstance(stored, msgspec.Raw) else stored


# A document nests no deeper than it has bytes for.
_SHALLOW = 2 * VALUE_LEVELS
# Of a path to what is too deep, as much as one reads.
_STEPS = 8
_strict_json = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def _explained(error: BaseException) -> ValueMismatch:
    if isinstance(error, msgspec.ValidationError):
        return ValueMismatch(readable(str(error)))
    if isinstance(error, (msgspec.DecodeError, UnicodeDecodeError)):
        return ValueMismatch(f"not a JSON document: {error}")
    if isinstance(error, RecursionError):
        return ValueMismatch("the stored value is nested too deeply")
    return ValueMismatch(f"{type(error).__name__} while building it: {said(error)}")


def _unsupported(type: object, error: BaseException) -> str:
    alive = _class_of_trio(type)
    if alive is not None:
        return (
            f"a {class_name(alive)} cannot be stored: it lives in one process. Make it where it is "
            "used, and give what it stands for as data"
        )
    text = said(error).replace("`", "")
    if "union" in text:
        text += (
            "; JSON alone cannot tell the members apart: use msgspec.Struct classes with tag=True, "
            "or a pydantic model with a discriminator"
        )
    return text or f"{class_name(type)} cannot be stored as JSON: {shown(error)}"


def _class_of_trio(type: object) -> object:
    """Return the class of trio or anyio that a type is made with, ``None`` if there is none."""
    if getattr(type, "__module__", "").partition(".")[0] in ("trio", "anyio"):
        return type
    found = map(_class_of_trio, get_args(type))
    return next((each for each in found if each is not None), None)
