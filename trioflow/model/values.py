"""How values become stored bytes and come back: the codec and the checks around it.

Only codecs and functions of ``(codec, value, type)`` live here; what a function's parameters
are is known to :mod:`trioflow.model.signatures`.

A payload is always one JSON document, whatever the codec, so that stores, exports and the web
page can embed it as it is.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import sys
from collections.abc import Callable
from types import NoneType
from typing import Any, Protocol, cast

import msgspec

from trioflow.errors import DefinitionError, PayloadTooLarge, TrioflowError, ValueMismatch
from trioflow.model.paths import at, locate, readable

__all__ = [
    "MAX_PAYLOAD",
    "Codec",
    "JsonCodec",
    "WrappedCodec",
    "check_size",
    "check_type",
    "decode_as",
    "encode_checked",
    "encode_verified",
]

MAX_PAYLOAD = 2 * 1024 * 1024
"""The default limit of one encoded value, in bytes: 2 MiB."""


class Codec(Protocol):
    """Turns values into JSON documents and back. Implement it to replace :class:`JsonCodec`.

    Both methods are called on the event loop, often: they must be quick and do no I/O.
    """

    def encode(self, value: object, /) -> bytes:
        """Return ``value`` as one JSON document, UTF-8 encoded.

        Raises:
            ValueMismatch: The value cannot be stored. The message may end in ``- at $.path``.
        """
        ...

    def decode(self, data: bytes, type: object, /) -> object:
        """Return the value of ``type`` that ``data`` holds.

        Args:
            data: What :meth:`encode` returned, perhaps in another process and long ago.
            type: A type annotation; ``typing.Any`` asks for plain JSON data. The arguments of a
                call are asked for as a generated :class:`msgspec.Struct` class, with one field
                for each parameter.

        Raises:
            ValueMismatch: The data is not of that type. The message may end in ``- at $.path``.
            DefinitionError: Values of that type cannot be stored at all.
        """
        ...


class JsonCodec:
    """The default codec: JSON through msgspec, typed by the annotations.

    Stores what JSON has, and dataclasses, ``msgspec.Struct``, attrs classes, ``TypedDict``,
    ``NamedTuple``, enums, ``datetime`` and its relatives, ``UUID``, ``Decimal``, bytes, sets,
    tuples and unions of these; and pydantic models where pydantic is in use.

    - Without an annotation (or with ``Any``) a value comes back as plain JSON data: a tuple as a
      list, a dataclass as a dict, a dict's keys as strings.
    - A value is judged by its JSON form, so a ``str`` that reads as a datetime is taken where
      a ``datetime`` is declared, an ``int`` where a ``float`` is, and fields that only
      a subclass has are dropped where its base class is declared.
    - ``nan`` and the infinities are refused: JSON has no word for them. ``Decimal("NaN")`` is fine.
    - Subclasses of ``str``, ``int``, ``float`` and ``bytes`` are stored as their base.

    Args:
        enc_hook: Called with an object that cannot be stored by itself; returns one that can, or
            raises ``NotImplementedError``.
        dec_hook: Called with ``(type, data)`` for a type unknown here, with plain JSON data;
            returns the value, or raises ``ValueError``.
    """

    __slots__ = ("_dec_hook", "_decoders", "_enc_hook", "_encode")

    def __init__(
        self,
        *,
        enc_hook: Callable[[Any], Any] | None = None,
        dec_hook: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self._enc_hook = enc_hook
        self._dec_hook = dec_hook
        self._encode = msgspec.json.Encoder(enc_hook=self._to_storable).encode
        self._decoders: dict[object, Callable[[bytes], object]] = {}

    def encode(self, value: object, /) -> bytes:
        """Return ``value`` as one JSON document.

        Raises:
            ValueMismatch: It, or something in it, cannot be stored as JSON.
        """
        try:
            data = self._encode(value)
        except RecursionError:
            raise ValueMismatch("the value contains itself, or is nested too deeply") from None
        except Exception as error:
            raise ValueMismatch(self._why_not(value, error)) from error
        # msgspec writes nan as null, so only a document with a null in it can hide one.
        if data.find(b"null") >= 0 and value is not None:
            self._refuse_nan(value)
        return data

    def decode(self, data: bytes, type: object, /) -> object:
        """Return the value of ``type`` that ``data`` holds.

        Raises:
            ValueMismatch: The data is not of that type; the message ends in ``- at $.path``
                unless the whole value is wrong.
            DefinitionError: Values of that type cannot be stored as JSON.
        """
        try:
            decode = self._decoders[type]
        except (KeyError, TypeError):
            decode = self.prepare(type)
        try:
            return decode(data)
        except msgspec.ValidationError as error:
            raise ValueMismatch(readable(str(error))) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValueMismatch(f"not a JSON document: {error}") from error
        except RecursionError:
            raise ValueMismatch("the stored value is nested too deeply") from None
        except Exception as error:
            raise ValueMismatch(f"{error.__class__.__name__} while building it: {error}") from error

    def prepare(self, type: object, /) -> Callable[[bytes], object]:
        """Return the decoder of ``type``, made once and kept.

        Raises:
            DefinitionError: Values of that type cannot be stored as JSON.
        """
        try:
            decoder = msgspec.json.Decoder(cast("Any", type), dec_hook=self._from_stored)
            unknown = None if self._dec_hook else _find_unknown(msgspec.inspect.type_info(type))
        except Exception as error:
            raise DefinitionError(_unsupported(type, error)) from error
        if unknown is not None:
            raise DefinitionError(
                f"values of type {_type_name(unknown)} cannot be stored as JSON; use a dataclass, "
                "a msgspec.Struct or a pydantic model, pass an id instead, or give the codec hooks"
            )
        with contextlib.suppress(TypeError):  # An annotation may carry unhashable metadata.
            self._decoders[type] = decoder.decode
        return decoder.decode

    def _to_storable(self, value: Any) -> Any:
        if self._enc_hook is not None:
            try:
                return self._enc_hook(value)
            except NotImplementedError:
                pass
        if _is_pydantic(value.__class__):
            # Aliases and `round_trip` make the document one that the model itself accepts.
            return msgspec.Raw(value.model_dump_json(by_alias=True, round_trip=True).encode())
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
        if _is_pydantic(type):
            try:
                # Strict models take a JSON string for a datetime only when they read JSON.
                return type.model_validate_json(msgspec.json.encode(data))
            except ValueError as error:
                raise ValueError(_pydantic_text(error)) from error
        return data

    def _why_not(self, value: object, error: Exception) -> str:
        path, leaf = locate(value, lambda part: not self._can_encode(part))
        if isinstance(leaf, str):
            text = "the text holds lone surrogates, which UTF-8 cannot express"
        elif isinstance(leaf, dict):
            text = "keys of a dict must be strings or numbers"
        elif isinstance(error, TypeError) and not str(error):
            text = f"a value of type {_type_name(type(leaf))} cannot be stored as JSON"
        else:
            text = str(error) or error.__class__.__name__
        return at(text, path)

    def _can_encode(self, value: object) -> bool:
        try:
            self._encode(value)
        except Exception:  # noqa: BLE001 - whatever the reason, this is the part
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
        if isinstance(value, msgspec.Raw) or _is_pydantic(value.__class__):
            return None
        return self._to_storable(value)


class WrappedCodec:
    """A codec whose documents are passed through ``wrap``: for encryption, compression, signing.

    What ``wrap`` returns is stored as a JSON string of base64, so that a payload stays one JSON
    document. For the change of a key let ``unwrap`` try the new one and then the old.

    Args:
        inner: The codec that turns values into JSON.
        wrap: From the JSON document to the bytes to store.
        unwrap: The opposite of ``wrap``; it raises when it cannot.
    """

    __slots__ = ("_unwrap", "_wrap", "inner")

    def __init__(
        self,
        inner: Codec,
        wrap: Callable[[bytes], bytes],
        unwrap: Callable[[bytes], bytes],
    ) -> None:
        self.inner = inner
        self._wrap = wrap
        self._unwrap = unwrap

    def encode(self, value: object, /) -> bytes:
        """Return ``value`` as a JSON string that holds the wrapped document.

        Raises:
            ValueMismatch: The value cannot be stored. What ``wrap`` raises passes through.
        """
        return self.seal(self.inner.encode(value))

    def decode(self, data: bytes, type: object, /) -> object:
        """Return the value of ``type`` that the wrapped ``data`` holds.

        Raises:
            ValueMismatch: ``unwrap`` refused the data, or what it gave is not of that type.
            DefinitionError: Values of that type cannot be stored at all.
        """
        if data[:1] != b'"' or data[-1:] != b'"':
            raise ValueMismatch("the stored value is not wrapped; was it stored by another codec?")
        try:
            document = self._unwrap(base64.b64decode(data[1:-1], validate=True))
        except binascii.Error as error:
            text = "the stored value is not base64; was it stored by another codec?"
            raise ValueMismatch(text) from error
        except Exception as error:
            raise ValueMismatch(
                f"the stored value cannot be unwrapped ({error!r}); was it stored with another key?"
            ) from error
        return self.inner.decode(document, type)

    def seal(self, document: bytes) -> bytes:
        """Wrap a document that ``inner`` has already encoded."""
        return b'"' + base64.b64encode(self._wrap(document)) + b'"'


def check_size(data: bytes, what: str, limit: int = MAX_PAYLOAD) -> bytes:
    """Return ``data`` if it has at most ``limit`` bytes.

    Raises:
        PayloadTooLarge: It has more.
    """
    if len(data) > limit:
        raise PayloadTooLarge(
            f"{what}: {len(data):,} bytes encoded, the limit is {limit:,}; store it elsewhere "
            "and pass a reference"
        )
    return data


def check_type(codec: Codec, type: object, what: str) -> None:
    """Check that ``codec`` can store values of ``type``; codecs that are not ours always pass.

    Raises:
        DefinitionError: It cannot.
    """
    while isinstance(codec, WrappedCodec):
        codec = codec.inner
    if isinstance(codec, JsonCodec):
        try:
            codec.prepare(NoneType if type is None else type)
        except DefinitionError as error:
            raise DefinitionError(f"{what}: {error}") from error


def encode_verified(codec: Codec, value: object, type: object) -> bytes:
    """Encode ``value`` and check that it would come back as ``type``.

    Raises:
        ValueMismatch: It cannot be stored, or would not come back.
        DefinitionError: Values of that type cannot be stored at all.
    """
    if isinstance(codec, WrappedCodec):
        # The check needs no wrapping, which may cost more than everything else here.
        return codec.seal(encode_verified(codec.inner, value, type))
    data = codec.encode(value)
    codec.decode(data, type)
    return data


def encode_checked(
    codec: Codec, value: object, type: object, what: str, limit: int = MAX_PAYLOAD
) -> bytes:
    """Encode a value that was declared to be a ``type``.

    Args:
        codec: The codec to use.
        value: The value.
        type: Its declared type; ``None`` means ``None``, ``typing.Any`` is not checked.
        what: What the value is, for messages: ``"charge() result"``.
        limit: The number of bytes allowed.

    Returns:
        One JSON document.

    Raises:
        ValueMismatch: The value cannot be stored or is not of that type, and where.
        DefinitionError: Values of that type cannot be stored at all.
        PayloadTooLarge: The encoded value is larger than ``limit``.
    """
    type = NoneType if type is None else type
    try:
        if type == Any or (value.__class__ is type and type in _SELF_EVIDENT):
            data = codec.encode(value)
        else:
            data = encode_verified(codec, value, type)
    except Exception as error:
        raise named(codec, error, what) from error
    return data if len(data) <= limit else check_size(data, what, limit)


def decode_as(codec: Codec, data: bytes, type: object, what: str) -> Any:
    """Return the value of ``type`` that ``data`` holds.

    Args:
        codec: The codec it was encoded with.
        data: One JSON document.
        type: The declared type; ``None`` means ``None``.
        what: What the value is, for messages: ``"charge() result"``.

    Raises:
        ValueMismatch: The data is not of that type, and where.
        DefinitionError: Values of that type cannot be stored at all.
    """
    try:
        return codec.decode(data, NoneType if type is None else type)
    except Exception as error:
        raise named(codec, error, what) from error


def named(codec: Codec, error: Exception, what: str) -> TrioflowError:
    """Return what a codec raised as an error that says what was encoded or decoded."""
    if isinstance(error, DefinitionError):
        return DefinitionError(f"{what}: {error}")
    if isinstance(error, ValueMismatch):
        return ValueMismatch(f"{what}: {error}")
    return ValueMismatch(f"{what}: {codec.__class__.__name__} failed: {error!r}")


# Values of exactly these classes need no decoding to be known as what they are.
_SELF_EVIDENT: frozenset[object] = frozenset({str, int, float, bool, bytes, NoneType})

_strict_json = json.JSONEncoder(allow_nan=False, check_circular=False).encode


def _type_name(type: Any) -> str:
    name = getattr(type, "__qualname__", None) or repr(type)
    module = getattr(type, "__module__", "builtins")
    return name if module in ("builtins", "typing") else f"{module}.{name}"


def _unsupported(type: object, error: Exception) -> str:
    text = str(error).replace("`", "")
    if "union" in text:
        text += (
            "; JSON alone cannot tell the members apart: use msgspec.Struct classes with tag=True, "
            "or a pydantic model with a discriminator"
        )
    return text or f"{_type_name(type)} cannot be stored as JSON: {error!r}"


def _find_unknown(info: object) -> object | None:
    """Return the first class in a described type that only a hook could build."""
    seen: set[int] = set()
    queue: list[Any] = [info]
    while queue:
        node = queue.pop()
        if node.__class__ is tuple:
            queue.extend(node)
        elif isinstance(node, msgspec.inspect.Field):
            queue.append(node.type)
        elif isinstance(node, msgspec.inspect.CustomType):
            if node.cls is not object and not _is_pydantic(node.cls):
                return node.cls
        elif isinstance(node, msgspec.inspect.Type) and id(node) not in seen:
            seen.add(id(node))
            queue.extend(getattr(node, name) for name in node.__struct_fields__)
    return None


def _is_pydantic(type: Any) -> bool:
    # A model can only be met where pydantic was imported, so it never has to be imported here.
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(type, pydantic.BaseModel.__class__)


def _pydantic_text(error: Any) -> str:
    if not hasattr(error, "errors"):
        return str(error)
    first, *others = error.errors(include_url=False)
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return f"{first['msg']}{more}" + (f" - at `${path}`" if path else "")
