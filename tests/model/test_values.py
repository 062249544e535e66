"""Values as stored JSON: what comes back, what is refused, and how it is said."""

# Much of what is given here is wrong on purpose.
# mypy: disable-error-code="arg-type, misc, name-defined, prop-decorator"

from __future__ import annotations

import dataclasses
import enum
import json
import math
import sys
import uuid
import zlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypedDict

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trioflow._codec.values import (
    MAX_PAYLOAD,
    JsonCodec,
    WrappedCodec,
    check_size,
    check_type,
    decode_as,
    encode_checked,
    encode_plain,
    encode_verified,
)
from trioflow.errors import DefinitionError, PayloadTooLarge, UndecodableValue, ValueMismatch


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Line:
    sku: str
    quantity: int
    price: float | None = None


@dataclasses.dataclass
class Order:
    id: str
    lines: list[Line]


@attrs.define
class Parcel:
    weight: Decimal


class Point(NamedTuple):
    x: int
    y: int


class Options(TypedDict, total=False):
    express: bool


class Card(msgspec.Struct, tag=True):
    number: str


class Cash(msgspec.Struct, tag=True):
    pass


class Words(str):
    __slots__ = ()


class Opaque:
    pass


EXAMPLES = [
    (None, type(None)),
    (True, bool),
    (1, int),
    (2**70, int),
    (1.5, float),
    ("ü\n", str),
    (b"\x00\xff", bytes),
    ((1, "a"), tuple[int, str]),
    ({1, 2}, set[int]),
    (frozenset({"a"}), frozenset[str]),
    ({1: "a"}, dict[int, str]),
    (Colour.RED, Colour),
    (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), datetime),
    (date(2026, 1, 2), date),
    (timedelta(days=1, microseconds=1), timedelta),
    (uuid.UUID(int=7), uuid.UUID),
    (Decimal("1.10"), Decimal),
    (Decimal("NaN"), Decimal),
    (Order("o", [Line("s", 1)]), Order),
    (Parcel(Decimal("2.5")), Parcel),
    (Point(1, 2), Point),
    ({"express": True}, Options),
    (Card("1"), Card | Cash),
    (Cash(), Card | Cash),
    (3, Annotated[int, msgspec.Meta(ge=1)]),
    ([None, 1], list[int | None]),
]


@pytest.mark.parametrize(("value", "type"), EXAMPLES, ids=repr)
@pytest.mark.parametrize("wrapped", [False, True])
def test_values_come_back(value, type, wrapped):
    codec = WrappedCodec(JsonCodec(), zlib.compress, zlib.decompress) if wrapped else JsonCodec()
    data = encode_checked(codec, value, type, "it")
    json.loads(data)
    back = decode_as(codec, data, type, "it")
    assert back == value or value != value  # noqa: PLR0124 - Decimal("NaN") equals nothing
    assert back.__class__ is value.__class__


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@given(PLAIN)
def test_plain_data_comes_back_without_a_type(value):
    codec = JsonCodec()
    assert codec.decode(codec.encode(value), Any) == value


@given(
    st.builds(
        Order,
        st.text(),
        st.lists(
            st.builds(
                Line,
                st.text(),
                st.integers(),
                st.none() | st.floats(allow_nan=False, allow_infinity=False),
            )
        ),
    )
)
def test_any_dataclass_comes_back(order):
    codec = JsonCodec()
    assert codec.decode(encode_verified(codec, order, Order), Order) == order


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (math.nan, ""),
        (-math.inf, ""),
        ([1.0, math.nan], " - at $[1]"),
        ({"a": {"b c": [None, math.inf]}}, " - at $.a['b c'][1]"),
        (Order("o", [Line("s", 1, math.nan)]), " - at $.lines[0].price"),
        (Parcel(math.nan), " - at $.weight"),
        ({"p": Point(1, math.nan)}, " - at $.p[1]"),
    ],
)
def test_what_json_cannot_hold_is_refused_instead_of_becoming_null(value, path):
    with pytest.raises(ValueMismatch) as caught:
        JsonCodec().encode(value)
    assert str(caught.value).startswith("JSON has no ")
    assert str(caught.value).endswith(f"use None or a string instead{path}")


def test_a_null_is_no_reason_to_refuse_anything():
    value = {"a": None, "text": "null", "raw": msgspec.Raw(b"[1]"), "s": {None}}
    assert json.loads(JsonCodec().encode(value)) == {
        "a": None,
        "text": "null",
        "raw": [1],
        "s": [None],
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, Opaque()]}, f"type {__name__}.Opaque cannot be stored as JSON - at $.a[1]"),
        (Order("o", [Line("s", Opaque())]), "cannot be stored as JSON - at $.lines[0].quantity"),
        (Card(Opaque()), "cannot be stored as JSON - at $.number"),
        (["\ud800"], "lone surrogates, which UTF-8 cannot express - at $[0]"),
        (lambda: 1, "a value of type function cannot be stored as JSON"),
        ({"a": {(1, 2): 3}}, "keys of a dict must be strings or numbers - at $.a"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_stored_is_named_with_its_place(value, text):
    with pytest.raises(ValueMismatch) as caught:
        JsonCodec().encode(value)
    assert str(caught.value).endswith(text)


def test_a_value_that_contains_itself_is_refused():
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ValueMismatch, match="contains itself"):
        JsonCodec().encode(value)


def test_a_wrong_value_is_refused_with_its_path():
    codec = JsonCodec()
    order = Order("o", [Line("s", "two")])
    with pytest.raises(ValueMismatch) as caught:
        encode_checked(codec, order, Order, "checkout() result")
    wanted = "checkout() result: Expected int, got str - at $.lines[0].quantity"
    assert str(caught.value) == wanted
    with pytest.raises(ValueMismatch) as caught:
        decode_as(codec, codec.encode(order), Order, "checkout() result")
    assert str(caught.value) == wanted


def test_the_path_leads_into_keys():
    with pytest.raises(ValueMismatch, match=r"^it: Expected int, got str in a key - at \$\.a$"):
        decode_as(
            JsonCodec(), b'{"a":{"x":1}}', msgspec.defstruct("S", [("a", dict[int, int])]), "it"
        )


@pytest.mark.parametrize("type", [None, type(None)])
def test_a_function_declared_to_return_none_returns_none(type):
    assert encode_checked(JsonCodec(), None, type, "it") == b"null"
    assert decode_as(JsonCodec(), b"null", type, "it") is None
    with pytest.raises(ValueMismatch, match=r"^it: Expected null, got int$"):
        encode_checked(JsonCodec(), 1, type, "it")


@pytest.mark.parametrize(
    ("value", "back", "text"),
    [
        (Point(1, 2), [1, 2], f"a {__name__}.Point would come back as a list"),
        ({"a": {1: 2}}, {"a": {"1": 2}}, r"the key: 1 would come back as '1'.* - at \$\.a\[1\]"),
        ([Line("s", 1)], [{"sku": "s", "quantity": 1, "price": None}], r"Line .* - at \$\[0\]"),
        (Decimal(1), "1", r"Decimal\('1'\) would come back as '1'; declare its type"),
        (
            {"t": datetime(2026, 1, 2, tzinfo=UTC)},
            {"t": "2026-01-02T00:00:00Z"},
            r"datetime .* - at \$\.t",
        ),
        ([Colour.RED], ["red"], r"Colour would come back as a str; declare .* - at \$\[0\]"),
        ((1, "a"), [1, "a"], "a tuple would come back as a list; declare its type"),
        ({1}, [1], "a set would come back as a list; declare its type"),
        ({"a": [(1,)]}, {"a": [[1]]}, r"a tuple would come back as a list; .* - at \$\.a\[0\]"),
        (b"a", "YQ==", r"b'a' would come back as 'YQ=='; declare its type"),
    ],
    ids=repr,
)
def test_without_a_declared_type_values_come_back_plain_with_a_warning(value, back, text):
    with pytest.warns(UserWarning, match=f"^it has no declared type: .*{text}"):
        data = encode_checked(JsonCodec(), value, Any, "it")
    assert decode_as(JsonCodec(), data, Any, "it") == back


def test_the_warning_is_at_the_callers_line():
    with pytest.warns(UserWarning, match="no declared type") as warned:
        encode_checked(JsonCodec(), (1, 2), Any, "it")
    assert warned[0].filename == __file__


@pytest.mark.parametrize("value", [[1, "a"], {"a": [None, 1.5]}, [], Words("text"), "text", None])
def test_plain_data_needs_no_declared_type(value):
    encode_checked(JsonCodec(), value, Any, "it")


@pytest.mark.parametrize(("value", "type"), [(True, int), (1, str), (1.5, int), ("1", int)])
def test_values_are_not_coerced(value, type):
    with pytest.raises(ValueMismatch, match=r"^it: Expected"):
        encode_checked(JsonCodec(), value, type, "it")


def test_an_int_is_a_fine_float():
    assert decode_as(JsonCodec(), encode_checked(JsonCodec(), 1, float, "it"), float, "it") == 1.0


def test_subclasses_of_standard_types_are_stored_as_their_base():
    class Text(str):
        __slots__ = ()

    class Number(float):
        pass

    assert JsonCodec().encode([Text("a"), Number(1.5)]) == b'["a",1.5]'


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (Line | Order, "use msgspec.Struct classes with tag=True"),
        (dict[str, list[int] | set[int]], "use msgspec.Struct classes with tag=True"),
        (Callable[[int], int], "type collections.abc.Callable cannot be stored as JSON; use"),
        (list[Opaque | None], f"values of type {__name__}.Opaque cannot be stored as JSON; use"),
        (complex, "values of type complex cannot be stored"),
        (trio.Event, "a trio.Event cannot be stored: it lives in one process"),
        (dict[str, list[trio.Lock] | None], "a trio.Lock cannot be stored"),
        (msgspec.defstruct("S", [("x", list[Opaque])]), "Opaque cannot be stored as JSON; use"),
    ],
    ids=repr,
)  # fmt: skip
def test_types_that_cannot_be_stored_are_refused_before_any_value(type, text):
    with pytest.raises(DefinitionError) as caught:
        check_type(JsonCodec(), type, "charge() result")
    assert str(caught.value).startswith("charge() result: ")
    assert text in str(caught.value)
    with pytest.raises(DefinitionError, match=r"^charge\(\) result: "):
        encode_checked(JsonCodec(), None, type, "charge() result")
    with pytest.raises(DefinitionError):
        check_type(WrappedCodec(JsonCodec(), bytes, bytes), type, "it")


@dataclasses.dataclass
class Tree:
    branches: list[Tree]


def test_recursive_types_and_object_can_be_stored():
    check_type(JsonCodec(), Tree, "it")
    tree = Tree([Tree([])])
    assert decode_as(JsonCodec(), JsonCodec().encode(tree), Tree, "it") == tree
    assert decode_as(JsonCodec(), b"[1]", object, "it") == [1]


def test_a_type_with_unhashable_metadata_can_be_stored():
    assert decode_as(JsonCodec(), b"1", Annotated[int, ["note"]], "it") == 1


def test_hooks_add_types():
    codec = JsonCodec(
        enc_hook=lambda value: {"re": value.real, "im": value.imag},
        dec_hook=lambda type, data: type(data["re"], data["im"]),
    )
    data = encode_checked(codec, [1 + 2j], list[complex], "it")
    assert decode_as(codec, data, list[complex], "it") == [1 + 2j]


def test_hooks_may_leave_a_type_to_the_defaults():
    def leave(*args):
        raise NotImplementedError

    codec = JsonCodec(enc_hook=leave, dec_hook=leave)
    with pytest.raises(ValueMismatch, match="Opaque cannot be stored as JSON - at"):
        codec.encode([Opaque()])
    with pytest.raises(ValueMismatch, match="Expected Opaque, got int"):
        codec.decode(b"1", Opaque)


@dataclasses.dataclass
class Picky:
    x: int

    def __post_init__(self):
        {1: 1}[self.x]


def test_what_a_constructor_raises_is_a_mismatch():
    with pytest.raises(ValueMismatch, match=r"^it: KeyError while building it: 2$"):
        decode_as(JsonCodec(), b'{"x":2}', Picky, "it")


@pytest.mark.parametrize("data", [b"", b"{", b"nul", b'"\xff"'])
def test_what_is_no_json_is_a_mismatch(data):
    with pytest.raises(ValueMismatch, match=r"^it: not a JSON document"):
        decode_as(JsonCodec(), data, Any, "it")


def test_wrapped_documents_hide_their_content_and_are_json():
    codec = WrappedCodec(JsonCodec(), lambda data: data[::-1], lambda data: data[::-1])
    data = codec.encode({"card": "4711"})
    assert b"4711" not in data
    assert isinstance(json.loads(data), str)
    assert codec.decode(data, Any) == {"card": "4711"}
    with pytest.raises(ValueMismatch, match="Expected int, got str - at"):
        encode_checked(codec, ["x"], list[int], "it")


def test_checking_a_value_does_not_unwrap_it():
    def unwrap(data):
        raise AssertionError

    codec = WrappedCodec(JsonCodec(), lambda data: data, unwrap)
    assert encode_checked(codec, [1], list[int], "it") == b'"WzFd"'


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'{"a":1}', "not wrapped"),
        (b'"***"', "not base64"),
        (b'"WzFd"', r"cannot be unwrapped \(error\(.*another key"),
    ],
)
def test_what_was_not_wrapped_by_this_codec_is_refused(data, text):
    codec = WrappedCodec(JsonCodec(), zlib.compress, zlib.decompress)
    with pytest.raises(ValueMismatch, match=text):
        decode_as(codec, data, Any, "it")


class ForeignCodec:
    def encode(self, value: object, /) -> bytes:
        raise RuntimeError("out of keys")

    def decode(self, data: bytes, type: object, /) -> object:
        raise RuntimeError("out of keys")


def test_what_a_foreign_codec_raises_is_named():
    text = r"^it: ForeignCodec failed: RuntimeError\('out of keys'\)$"
    with pytest.raises(ValueMismatch, match=text):
        encode_checked(ForeignCodec(), 1, int, "it")
    with pytest.raises(ValueMismatch, match=text):
        decode_as(ForeignCodec(), b"1", int, "it")
    check_type(ForeignCodec(), Opaque, "it")


def test_the_limit_holds_for_the_encoded_value():
    assert check_size(b"x" * MAX_PAYLOAD, "it") == b"x" * MAX_PAYLOAD
    with pytest.raises(
        PayloadTooLarge, match=r"^it: 2,097,153 bytes encoded, the limit is 2,097,152"
    ):
        check_size(b"x" * (MAX_PAYLOAD + 1), "it")
    assert len(encode_checked(JsonCodec(), "x" * 8, str, "it", 10)) == 10
    with pytest.raises(PayloadTooLarge, match=r"^it: 11 bytes"):
        encode_checked(JsonCodec(), "x" * 9, str, "it", 10)


def test_pydantic_models_come_back():
    pydantic = pytest.importorskip("pydantic")

    class Item(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        when: datetime
        count: int = pydantic.Field(alias="howMany")

    class Basket(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        items: list[Item]

        @pydantic.computed_field
        @property
        def size(self) -> int:
            return len(self.items)

    shop_type = dataclasses.make_dataclass(
        "Shop", [("baskets", list[Basket]), ("best", Basket | None)]
    )
    shop = shop_type([Basket(items=[Item(when=datetime(2026, 1, 2, tzinfo=UTC), howMany=3)])], None)
    codec = JsonCodec()
    data = encode_checked(codec, shop, shop_type, "it")
    assert decode_as(codec, data, shop_type, "it") == shop
    with pytest.raises(ValueMismatch) as caught:
        decode_as(codec, data.replace(b"3}", b'"x"}'), shop_type, "it")
    assert str(caught.value).endswith(" - at $.baskets[0].items[0].howMany")


def test_pydantic_is_not_imported_for_others():
    if "pydantic" not in sys.modules:
        encode_checked(JsonCodec(), [Point(1, 2)], list[Point], "it")
        with pytest.raises(ValueMismatch):
            JsonCodec().encode(Opaque())
        assert "pydantic" not in sys.modules


class Own(BaseException):
    pass


BASES = [SystemExit, GeneratorExit, Own, ZeroDivisionError]


@dataclasses.dataclass
class Trap:
    """Raises what is set for the moment that is set."""

    x: int = 1

    def __post_init__(self):
        self.spring("read")

    def __eq__(self, other):
        self.spring("compare")
        return self.x == other.x

    __hash__ = None

    def __repr__(self):
        self.spring("show")
        return "Trap"

    def spring(self, moment):
        if moment == type(self).moment:
            raise type(self).error("sprung")


def trap(monkeypatch, moment, error):
    monkeypatch.setattr(Trap, "moment", moment, raising=False)
    monkeypatch.setattr(Trap, "error", error, raising=False)


@pytest.mark.parametrize("codec", [JsonCodec(), WrappedCodec(JsonCodec(), bytes, bytes)])
@pytest.mark.parametrize("error", BASES)
def test_whatever_a_values_code_raises_when_it_is_read_back_is_a_mismatch(
    monkeypatch, codec, error
):
    trap(monkeypatch, "", error)
    value = Trap()
    data = encode_checked(codec, value, Trap, "it")
    trap(monkeypatch, "read", error)
    with pytest.raises(ValueMismatch, match=f"it: {error.__name__} while building it"):
        encode_checked(codec, value, Trap, "it")
    with pytest.raises(UndecodableValue, match=f"it: {error.__name__} while building it"):
        decode_as(codec, data, Trap, "it")


@pytest.mark.parametrize("error", BASES)
@pytest.mark.parametrize("moment", ["compare", "show"])
def test_whatever_a_values_code_raises_its_fields_are_compared(monkeypatch, moment, error):
    trap(monkeypatch, moment, error)
    assert encode_checked(JsonCodec(), [Trap()], list[Trap], "it") == b'[{"x":1}]'
    with pytest.raises(ValueMismatch, match="it: "):
        encode_checked(JsonCodec(), [Trap()], list[int], "it")


class Unreadable(BaseException):
    def __str__(self):
        raise Own

    __repr__ = __str__


@pytest.mark.parametrize("error", [*BASES, Unreadable])
def test_a_codec_may_raise_anything(error):
    class Broken:
        def encode(self, value):
            raise error

        def decode(self, data, type):
            raise error

    with pytest.raises(ValueMismatch, match=f"it: Broken failed: .*{error.__name__}"):
        encode_checked(Broken(), 1, int, "it")
    with pytest.raises(ValueMismatch, match=f"it: Broken failed: .*{error.__name__}"):
        encode_plain(Broken(), 1, "it")
    with pytest.raises(UndecodableValue, match=f"it: Broken failed: .*{error.__name__}"):
        decode_as(Broken(), b"1", int, "it")

    def unwrap(data):
        raise error

    wrapped = WrappedCodec(JsonCodec(), bytes, unwrap)
    with pytest.raises(UndecodableValue, match=f"cannot be unwrapped .*{error.__name__}"):
        decode_as(wrapped, wrapped.encode(1), int, "it")


def test_an_interrupt_while_a_value_is_read_is_an_interrupt(monkeypatch):
    trap(monkeypatch, "", KeyboardInterrupt)
    value = Trap()
    for moment in ("read", "compare"):
        trap(monkeypatch, moment, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            encode_checked(JsonCodec(), value, Trap, "it")
