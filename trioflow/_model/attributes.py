"""Attributes of instances: their values, how they are stored, and what filters say of them.

Stored they are one JSON object. A store also keeps an index of them: a row for each value, of which
`index_rows` says how it reads. There a name begins with a letter for the kind of the value, so that
values of different kinds are never compared; a value is a word, the same for equal values, and for
what has an order a number as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast

import msgspec

from trioflow._codec.limits import check_characters
from trioflow.errors import ArgumentError

__all__ = [
    "ATTRIBUTE_NAME_LENGTH",
    "ATTRIBUTE_SIZE",
    "MOST_ATTRIBUTES",
    "AttributeCondition",
    "AttributeKey",
    "AttributeValue",
    "Condition",
    "IndexRow",
    "Moment",
    "NamedAttribute",
    "Stored",
    "Where",
    "attribute",
    "changed",
    "conditions_of",
    "decode_attributes",
    "encode_attributes",
    "group_value",
    "index_rows",
    "readable_attributes",
    "stored_attributes",
]

AttributeKey: TypeAlias = str | int | float | bool | datetime
AttributeValue: TypeAlias = str | int | float | bool | datetime | Sequence[str]

ATTRIBUTE_NAME_LENGTH: Final = 64
MOST_ATTRIBUTES: Final = 32
ATTRIBUTE_SIZE: Final = 2048
"""Bytes of one value; what the index of every server takes beside a name."""

_EXACT = 2**53  # beyond, not every whole number is a float

Comparison = Literal["=", "<", "<=", ">", ">="]


class Moment(msgspec.Struct, frozen=True):
    """A datetime as it is stored: in UTC."""

    time: str


Stored: TypeAlias = dict[str, str | int | float | bool | list[str] | Moment]
"""Attributes as they are stored."""

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Stored).decode


def encode_attributes(stored: Stored) -> bytes:
    """Return the stored form of attributes, ``b""`` for none."""
    return _encode(stored) if stored else b""


def decode_attributes(data: bytes) -> Stored:
    """Read attributes from their stored form.

    Raises:
        msgspec.MsgspecError: It is damaged.
    """
    return _decode(data) if data else {}


def readable_attributes(data: bytes) -> dict[str, AttributeValue]:
    """Return attributes as users gave them.

    Raises:
        msgspec.MsgspecError: What is stored is damaged.
        ValueError: Likewise.
    """
    return {
        name: datetime.fromisoformat(value.time) if isinstance(value, Moment) else value
        for name, value in decode_attributes(data).items()
    }


# --- values ---------------------------------------------------------------------------------------


def stored_attributes(given: Mapping[str, AttributeValue]) -> Stored:
    """Return attributes as they are stored.

    Raises:
        ArgumentError: A name or a value is not as every store takes it, or there are too many.
    """
    if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may have no type checker
        raise ArgumentError(f"attributes are a dict of names and values, not {given!r}")
    stored = {_name(name): _stored(name, value) for name, value in given.items()}
    _check_number(stored)
    return stored


def changed(stored: Stored, changes: Mapping[str, AttributeValue | None]) -> Stored:
    """Return attributes with some of them set, and without those that are set to ``None``.

    Raises:
        ArgumentError: As `stored_attributes`; nothing was changed.
    """
    result = dict(stored)
    for name, value in changes.items():
        if value is None:
            result.pop(_name(name), None)
        else:
            result[_name(name)] = _stored(name, value)
    _check_number(result)
    return result


def _check_number(stored: Stored) -> None:
    if len(stored) > MOST_ATTRIBUTES:
        raise ArgumentError(
            f"an instance has at most {MOST_ATTRIBUTES} attributes, not {len(stored)}; keep what "
            "is not searched for in the arguments, or in set_status()"
        )


def _name(name: object) -> str:
    text = check_characters(name, "the name of an attribute")
    if not text or len(text) > ATTRIBUTE_NAME_LENGTH:
        raise ArgumentError(
            f"the name of an attribute has 1 to {ATTRIBUTE_NAME_LENGTH} characters, not "
            f"{len(text)}: {text[:40]!r}"
        )
    return text


def _stored(name: str, value: object) -> str | int | float | bool | list[str] | Moment:
    """Check one value, and return it as it is stored."""
    what = f"attribute {name!r}"
    match value:
        case bool():
            return value
        case str():
            return _text(what, value)
        case int() if abs(value) <= _EXACT:
            return int(value)
        case float() if abs(value) < float("inf"):  # which nan is not either
            return float(value) + 0.0  # no negative zero
        case int() | float():
            raise ArgumentError(f"{what}: {value!r} is no number that every store keeps exactly")
        case datetime():
            if value.utcoffset() is None:
                raise ArgumentError(
                    f"{what}: {value!r} has no time zone; give it one, such as tzinfo=UTC"
                )
            return Moment(value.astimezone(UTC).isoformat())
        case list() | tuple():
            return _texts(what, cast("Sequence[object]", value))
        case _:
            raise ArgumentError(
                f"{what}: a str, int, float, bool, datetime or list of str is needed, not {value!r}"
            )


def _texts(what: str, values: Sequence[object]) -> list[str]:
    texts = [_text(f"a member of {what}", value) for value in values]
    if sum(len(text.encode()) for text in texts) > ATTRIBUTE_SIZE:
        raise _too_large(what)
    return texts


def _text(what: str, value: object) -> str:
    text = check_characters(value, what)
    if len(text.encode()) > ATTRIBUTE_SIZE:
        raise _too_large(what)
    return text


def _too_large(what: str) -> ArgumentError:
    return ArgumentError(
        f"{what} has more than {ATTRIBUTE_SIZE} bytes; an attribute is something to search for, "
        "keep long texts in the arguments, or in set_status()"
    )


# --- the index ------------------------------------------------------------------------------------


class IndexRow(NamedTuple):
    """One row of the index; see the module."""

    name: str
    word: str
    quantity: float | None


def index_rows(data: bytes) -> list[IndexRow]:
    """Return the rows of the index for attributes in their stored form; each row once."""
    rows: dict[IndexRow, None] = {}
    for name, value in decode_attributes(data).items():
        for each in value if isinstance(value, list) else [value]:
            rows[_index_row(name, each)] = None
    return list(rows)


def _index_row(name: str, value: str | float | bool | Moment) -> IndexRow:  # noqa: FBT001 - a value
    match value:
        case str():
            return IndexRow(f"s{name}", value, None)
        case bool():
            return IndexRow(f"b{name}", "true" if value else "false", None)
        case Moment(time=time):
            return _numbered(f"t{name}", datetime.fromisoformat(time).timestamp())
        case _:
            return _numbered(f"n{name}", float(value))


def _numbered(name: str, quantity: float) -> IndexRow:
    return IndexRow(name, repr(quantity), quantity)


def group_value(name: str, word: str) -> AttributeKey:
    """Return the value that a row of the index stands for."""
    match name[:1]:
        case "b":
            return word == "true"
        case "n":
            number = float(word)
            return int(number) if number.is_integer() else number
        case "t":
            return datetime.fromtimestamp(float(word), UTC)
        case _:
            return word


class AttributeCondition(msgspec.Struct, frozen=True):
    """What a filter demands: a row of the index with that name, and that word or quantity.

    With ``how`` ``"="`` the word counts, otherwise the quantity.
    """

    name: str
    how: Comparison
    word: str = ""
    quantity: float = 0.0

    def holds(self, rows: Sequence[IndexRow]) -> bool:
        """Return whether one of the rows is such."""
        return any(self._is(row) for row in rows)

    def _is(self, row: IndexRow) -> bool:
        if row.name != self.name:
            return False
        if self.how == "=" or row.quantity is None:
            return self.how == "=" and row.word == self.word
        return {
            "<": row.quantity < self.quantity,
            "<=": row.quantity <= self.quantity,
            ">": row.quantity > self.quantity,
            ">=": row.quantity >= self.quantity,
        }[self.how]


# --- what users write -----------------------------------------------------------------------------


class Condition:
    """A condition on an attribute, as ``attribute("amount") >= 10`` makes it."""

    __slots__ = ("_text", "conditions")

    def __init__(self, conditions: Sequence[AttributeCondition], text: str) -> None:
        self.conditions = tuple(conditions)
        self._text = text

    def __repr__(self) -> str:
        return f"<Condition {self._text}>"

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self!r} is for where=…, it is neither true nor false; give several conditions as a "
            "list: where=[attribute('a') >= 1, attribute('a') < 5]"
        )


class NamedAttribute:
    """An attribute by its name, to be compared: ``attribute("amount") >= 10``."""

    __slots__ = ("name",)
    __hash__ = None  # type: ignore[assignment]  # comparing gives conditions

    def __init__(self, name: str) -> None:
        self.name = _name(name)

    def __repr__(self) -> str:
        return f"attribute({self.name!r})"

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return Condition(_equal(self.name, value), f"{self!r} == {value!r}")

    def __lt__(self, value: float | datetime) -> Condition:
        return self._compared("<", value)

    def __le__(self, value: float | datetime) -> Condition:
        return self._compared("<=", value)

    def __gt__(self, value: float | datetime) -> Condition:
        return self._compared(">", value)

    def __ge__(self, value: float | datetime) -> Condition:
        return self._compared(">=", value)

    def _compared(self, how: Comparison, value: float | datetime) -> Condition:
        rows = index_rows(encode_attributes({self.name: _stored(self.name, value)}))
        row = rows[0] if rows else None
        if row is None or row.quantity is None:
            raise ArgumentError(
                f"attribute({self.name!r}) {how} {value!r}: numbers and datetimes have an order, "
                "other values can be compared with =="
            )
        one = AttributeCondition(row.name, how, quantity=row.quantity)
        return Condition([one], f"{self!r} {how} {value!r}")


def attribute(name: str) -> NamedAttribute:
    """Name an attribute in a filter, ``where=[attribute("amount") >= 10]``, or to group by.

    Numbers and datetimes can be compared with ``<``, ``<=``, ``>`` and ``>=``, every value with
    ``==``; a list of texts is equal to each of its members.

    Raises:
        ArgumentError: No attribute can have that name; or, where it is compared, that value.
    """
    return NamedAttribute(name)


Where: TypeAlias = Mapping[str, AttributeValue] | Condition | Sequence[Condition]
"""What a filter says of attributes: values that they have, or conditions that all hold."""


def conditions_of(where: Where | None) -> tuple[AttributeCondition, ...]:
    """Return what a filter demands of attributes.

    Raises:
        ArgumentError: It is something else, or an attribute can have no such name or value.
    """
    return tuple(_conditions(where))


def _conditions(where: object) -> Iterator[AttributeCondition]:
    match where:
        case None:
            return
        case Condition():
            yield from where.conditions
        case Mapping():
            for name, value in cast("Mapping[object, object]", where).items():
                yield from _equal(_name(name), value)
        case list() | tuple():
            for each in cast("Sequence[object]", where):
                if not isinstance(each, Condition):
                    raise _no_condition(each)
                yield from each.conditions
        case _:
            raise _no_condition(where)


def _no_condition(given: Any) -> ArgumentError:
    return ArgumentError(
        "where: a dict of attributes and their values, or a list of conditions such as "
        f"attribute('amount') >= 10 is needed, not {given!r}"
    )


def _equal(name: str, value: object) -> list[AttributeCondition]:
    rows = index_rows(encode_attributes({name: _stored(name, value)}))
    if not rows:
        raise ArgumentError(f"attribute {name!r}: nothing is equal to a member of an empty list")
    return [AttributeCondition(row.name, "=", word=row.word) for row in rows]
