"""Codecs, and the checks when a value is encoded or decoded.

The default codec is in :mod:`trioflow._codec.json`; the arguments of calls are in
:mod:`trioflow._codec.signatures.signatures`.

A payload is always one JSON document, whatever the codec, so that stores, exports and the web
page can embed it as it is.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import warnings
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from types import NoneType
from typing import Any, Final, Protocol

from trioflow._codec.documents import NESTED_TOO_DEEPLY, find_lost_keys, is_too_deep
from trioflow._codec.foreign import shown
from trioflow._codec.json import JsonCodec
from trioflow._codec.limits import MAX_PAYLOAD
from trioflow._codec.paths import at
from trioflow._codec.round_trip import equal, find_change, find_untyped
from trioflow.errors import (
    DefinitionError,
    PayloadTooLarge,
    TrioflowError,
    UndecodableValue,
    ValueMismatch,
)

__all__ = [
    "MAX_PAYLOAD",
    "SELF_EVIDENT",
    "Codec",
    "JsonCodec",
    "WrappedCodec",
    "check_size",
    "check_type",
    "decode_as",
    "encode_checked",
    "encode_plain",
    "encode_verified",
    "is_plain",
    "named",
    "open_text",
    "outside_of_workflows",
    "refuse_lost_keys",
    "seal_text",
    "warn_untyped",
    "write",
    "write_and_read",
]

_SEALED: Final = "sealed:"
_LOOPS: Final = frozenset({"anyio", "asyncio", "contextvars", "outcome", "threading", "trio"})


class _Outside:
    """How a codec's own functions are called; the engine's guard has them called outside of it."""

    def __init__(self) -> None:
        self.block: Callable[[], AbstractContextManager[None]] = nullcontext


outside_of_workflows: Final = _Outside()
"""``wrap`` and ``unwrap`` may do what workflow code must not: draw random numbers, read files."""


class Codec(Protocol):
    """Turns values into JSON documents and back. Implement it to replace :class:`JsonCodec`.

    Both methods are called on the event loop, often: they must be quick and do no I/O. What plain
    functions give to ``heartbeat()`` is also encoded in their threads.
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


class WrappedCodec:
    """A codec whose documents are passed through ``wrap``: for encryption, compression, signing.

    What ``wrap`` returns is stored as a JSON string of base64, so that a payload stays one JSON
    document. Both functions run on the event loop, also for values of workflows, outside of the
    determinism guard. For the change of a key let ``unwrap`` try the new one and then the old.

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
            wrapped = base64.b64decode(data[1:-1], validate=True)
            with outside_of_workflows.block():
                document = self._unwrap(wrapped)
        except binascii.Error as error:
            text = "the stored value is not base64; was it stored by another codec?"
            raise ValueMismatch(text) from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise ValueMismatch(
                f"the stored value cannot be unwrapped ({shown(error)}); was it stored with "
                "another key?"
            ) from error
        return self.inner.decode(document, type)

    def seal(self, document: bytes) -> bytes:
        """Wrap a document that ``inner`` has already encoded."""
        with outside_of_workflows.block():
            wrapped = self._wrap(document)
        return b'"' + base64.b64encode(wrapped) + b'"'


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
    """Encode ``value`` and check that it would come back as what it is, read as a ``type``.

    Raises:
        ValueMismatch: It cannot be stored, or would not come back.
        DefinitionError: Values of that type cannot be stored at all.
    """
    return write_and_read(codec, value, type)[0]


def write_and_read(
    codec: Codec, value: object, type: object, untyped: Collection[str] = ()
) -> tuple[bytes, object]:
    """Encode as `encode_verified` does; return the bytes and the value that would come back.

    Args:
        codec: The codec to use.
        value: The value.
        type: Its declared type.
        untyped: Fields of a Struct whose types are not declared; they are not compared.
    """
    cls: Any = codec.__class__
    if cls is WrappedCodec:
        # The check needs no wrapping, which may cost more than everything else here.
        wrapped: Any = codec
        data, back = write_and_read(wrapped.inner, value, type, untyped)
        return wrapped.seal(data), back
    if cls is JsonCodec:
        json: Any = codec
        return json.encode_verified(value, type, untyped)  # type: ignore[no-any-return]  # as declared there
    data, back = write(codec, value, type)
    change = find_change(value, back, untyped)
    if change is not None:
        path, text = change
        raise ValueMismatch(at(text, path))
    return data, back


def write(codec: Codec, value: object, type: object) -> tuple[bytes, object]:
    """Encode a value; return the bytes and the value that would come back, not compared.

    Raises:
        ValueMismatch: It cannot be stored, or not be read.
        DefinitionError: Values of that type cannot be stored at all.
    """
    cls: Any = codec.__class__
    if cls is WrappedCodec:
        wrapped: Any = codec
        data, back = write(wrapped.inner, value, type)
        return wrapped.seal(data), back
    data = codec.encode(value)
    if cls is not JsonCodec and is_too_deep(data):
        raise ValueMismatch(NESTED_TOO_DEEPLY)
    return data, codec.decode(data, type)


def refuse_lost_keys(codec: Codec, value: object, back: object, path: str = "") -> None:
    """Check that no dict in a value without a declared type would lose keys.

    Args:
        codec: The codec to use.
        value: The value.
        back: What it would come back as.
        path: Where the value is in a larger one.

    Raises:
        ValueMismatch: Some of a dict's keys are alike as text.
    """
    if equal(value, back):
        return
    while isinstance(codec, WrappedCodec):
        codec = codec.inner
    lost = find_lost_keys(codec.encode(value))
    if lost is not None:
        raise ValueMismatch(at(lost[1], path + lost[0]))


def warn_untyped(value: object, back: object, what: str) -> None:
    """Warn if a value without a declared type would come back as something else."""
    # Equal to plain JSON data is plain JSON data only.
    change = None if equal(value, back) else find_untyped(value, back)
    if change is not None:
        path, text = change
        warnings.warn(
            at(f"{what} has no declared type: {text}", path), stacklevel=_level_of_caller()
        )


def _level_of_caller() -> int:
    """Return the ``stacklevel`` of the nearest caller outside of trioflow.

    For a result, which the loop asks for, there is none; then it is that of `warn_untyped`.
    """
    frame = inspect.currentframe()
    level = 0
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in _LOOPS:
            return 1
        if package != "trioflow":
            return level
        frame = frame.f_back
        level += 1
    return 1


def is_plain(codec: Codec) -> bool:
    """Return whether a codec stores values in plain text."""
    return codec.__class__ is JsonCodec


def seal_text(codec: Codec, text: str | None) -> str | None:
    """Encode a user's text, such as the reason of a cancel, with a codec that encrypts.

    Raises:
        ValueMismatch: The codec cannot store it.
    """
    if text is None or is_plain(codec):
        return text
    return _SEALED + codec.encode(text).decode()


def open_text(codec: Codec, text: str | None) -> str | None:
    """Decode a text of `seal_text`; one that this codec cannot read is returned as it is."""
    if text is None or is_plain(codec) or not text.startswith(_SEALED):
        return text
    try:
        return str(codec.decode(text[len(_SEALED) :].encode(), str))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - of another key; it is no reason to fail what it explains
        return text


def encode_plain(codec: Codec, value: object, what: str, limit: int = MAX_PAYLOAD) -> bytes:
    """Encode a value without a declared type, which may come back as other plain JSON data.

    Raises:
        ValueMismatch: The value cannot be stored, or would lose keys, and where.
        PayloadTooLarge: The encoded value is larger than ``limit``.
    """
    try:
        if value.__class__ in SELF_EVIDENT:
            data = codec.encode(value)
        else:
            data, back = write(codec, value, Any)
            refuse_lost_keys(codec, value, back)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise named(codec, error, what) from error
    return data if len(data) <= limit else check_size(data, what, limit)


def encode_checked(
    codec: Codec, value: object, type: object, what: str, limit: int = MAX_PAYLOAD
) -> bytes:
    """Encode a value that was declared to be a ``type``.

    Args:
        codec: The codec to use.
        value: The value.
        type: Its declared type; ``None`` means ``None``. With ``typing.Any`` there is a warning if
            it comes back as something else.
        what: What the value is, for messages: ``"charge() result"``.
        limit: The number of bytes allowed.

    Returns:
        One JSON document.

    Raises:
        ValueMismatch: The value cannot be stored, is not of that type or would come back
            different, and where.
        DefinitionError: Values of that type cannot be stored at all.
        PayloadTooLarge: The encoded value is larger than ``limit``.
    """
    type = NoneType if type is None else type
    try:
        cls: Any = value.__class__
        if cls in SELF_EVIDENT and (cls is type or (type == Any and cls is not bytes)):
            data = codec.encode(value)
        elif type == Any:
            data, back = write(codec, value, Any)
            refuse_lost_keys(codec, value, back)
            warn_untyped(value, back, what)
        else:
            data = encode_verified(codec, value, type)
    except UserWarning:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
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
        UndecodableValue: The data is not of that type, and where.
        DefinitionError: Values of that type cannot be stored at all.
    """
    try:
        return codec.decode(data, NoneType if type is None else type)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise named(codec, error, what, UndecodableValue) from error


def named(
    codec: Codec, error: BaseException, what: str, kind: type[ValueMismatch] = ValueMismatch
) -> TrioflowError:
    """Turn what a codec raised into an error that names the value."""
    if isinstance(error, DefinitionError):
        return DefinitionError(f"{what}: {error}")
    if isinstance(error, ValueMismatch):
        return kind(f"{what}: {error}")
    return kind(f"{what}: {codec.__class__.__name__} failed: {shown(error)}")


# Values of exactly these classes need no decoding to be known as what they are.
SELF_EVIDENT: frozenset[object] = frozenset({str, int, float, bool, bytes, NoneType})
