"""The checks of stored documents: how deep they nest, and keys that occur twice."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow._codec.documents import find_lost_keys, is_too_deep
from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.signatures.special import SignatureByName
from trioflow._codec.values import JsonCodec, WrappedCodec, encode_checked, encode_plain
from trioflow.errors import ArgumentError, ValueMismatch

CODEC = JsonCodec()
TEXTS = st.text('[]{}"\\a', max_size=5)
JSON = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXTS, parts, max_size=3),
    max_leaves=20,
)


class Foreign:
    """A codec that is not ours."""

    def encode(self, value: object, /) -> bytes:
        return json.dumps(value, indent=1).encode()

    def decode(self, data: bytes, type: object, /) -> object:
        return msgspec.convert(json.loads(data), type)  # type: ignore[call-overload]  # any type


CODECS = {
    "json": CODEC,
    "wrapped": WrappedCodec(CODEC, lambda data: data, lambda data: data),
    "foreign": Foreign(),
    "wrapped foreign": WrappedCodec(Foreign(), lambda data: data, lambda data: data),
}


def levels(value: Any) -> int:
    if isinstance(value, dict):
        value = [*value.values()]
    return 1 + max(map(levels, value), default=0) if isinstance(value, list) else 0


def nested(count: int) -> Any:
    value: Any = "a [ text"
    for number in range(count):
        value = [value] if number % 2 else {"key": value}
    return value


@given(JSON)
def test_levels_are_counted_as_they_are(value: object) -> None:
    deep = levels(value)
    for document in (msgspec.json.encode(value), json.dumps(value, indent=2).encode()):
        assert not is_too_deep(document, deep)
        assert deep == 0 or is_too_deep(document, deep - 1)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("type", [Any, object, list[Any] | dict[str, Any]])
def test_a_value_has_a_hundred_levels_at_most(codec: Any, type: object) -> None:
    encode_checked(codec, nested(100), type, "it")
    encode_plain(codec, nested(100), "it")
    for count in (101, 2_000, 100_000):
        with pytest.raises(ValueMismatch, match="^it: .*more than 100 levels deep|RecursionError"):
            encode_checked(codec, nested(count), type, "it")
        with pytest.raises(ValueMismatch, match="^it: .*more than 100 levels deep|RecursionError"):
            encode_plain(codec, nested(count), "it")


def test_the_path_leads_towards_what_is_too_deep() -> None:
    def call(x: Any, rows: list[Any]) -> None: ...

    signature = CallSignature.of(call)
    rows = [1, {"no": [[]], "key": nested(98)}]
    wanted = r"^call\(\) argument 'rows': it is nested more than 100 levels .* - at \$\[1\]\.key"
    with pytest.raises(ArgumentError, match=rf"{wanted}\[0\]\.key\[0\]\.key\[0\]…$"):
        signature.encode(CODEC, (1, rows), {})
    signature.encode(CODEC, (1, [1, {"no": [[]], "key": nested(97)}]), {})


def test_a_value_that_contains_itself_says_so() -> None:
    value: dict[str, Any] = {}
    value["me"] = value
    with pytest.raises(ValueMismatch, match=r"contains itself, or .* - at \$\.me\.me"):
        CODEC.encode(value)


@given(JSON)
def test_plain_data_loses_no_keys(value: object) -> None:
    assert find_lost_keys(msgspec.json.encode(value)) is None


@dataclass
class Ledger:
    entries: dict[Any, str]


LOST = {1: "one", "1": "eins", "2": "zwei"}


@pytest.mark.parametrize("codec", [CODECS["json"], CODECS["wrapped"], CODECS["foreign"]])
@pytest.mark.parametrize(
    ("value", "path"),
    [(LOST, ""), ([0, {"a b": LOST}], r"\$\[1\]\['a b'\]"), ((0, LOST), r"\$\[1\]")],
)
def test_keys_that_are_alike_as_text_are_refused_without_a_declared_type(
    codec: Any, value: object, path: str
) -> None:
    wanted = "^{}: of 3 keys 2 would come back, .*" + (rf" - at {path}$" if path else "$")
    with pytest.raises(ValueMismatch, match=wanted.format("it")):
        encode_checked(codec, value, Any, "it")
    with pytest.raises(ValueMismatch, match=wanted.format("it")):
        encode_plain(codec, value, "it")

    def call(x, *more, **others): ...  # type: ignore[no-untyped-def]

    signature = CallSignature.of(call)
    for args, kwargs, name in (((value,), {}, "x"), ((1, 2, value), {}, "more"),
                               ((1,), {"k": value}, "others")):  # fmt: skip
        with pytest.raises(ArgumentError, match=rf"^call\(\) argument '{name}': of 3 keys 2"):
            signature.encode(codec, args, kwargs)
    with pytest.raises(ArgumentError, match=r"call\(\) arguments: of 3 keys 2 .* - at \$\.x"):
        SignatureByName.of(call).encode(codec, (), {"x": value})


def test_keys_of_a_field_that_is_not_looked_at_are_kept_too() -> None:
    with pytest.raises(ValueMismatch, match=r"of 3 keys 2 would come back, .* - at \$\.entries$"):
        encode_plain(CODEC, Ledger(LOST), "it")
    with pytest.raises(ValueMismatch, match=r"of 3 keys 2 would come back, .* - at \$\.entries$"):
        encode_checked(CODEC, Ledger(LOST), Any, "it")
