"""Nothing comes back as something else in silence: each value is kept, or refused with its path."""

# Much of what is given here is wrong on purpose.
# mypy: disable-error-code="arg-type"

from __future__ import annotations

import dataclasses
import enum
import math
import re
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    field_serializer,
    field_validator,
)

from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.values import JsonCodec, WrappedCodec, decode_as, encode_checked
from trioflow.errors import ArgumentError, UndecodableValue, ValueMismatch

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
BERLIN = ZoneInfo("Europe/Berlin")
T = TypeVar("T")
CODEC = JsonCodec()


def flip(data):
    return bytes(each ^ 0x55 for each in data)


def round_trip(value, type, codec=CODEC):
    return decode_as(codec, encode_checked(codec, value, type, "it"), type, "it")


def exact(value):
    """Return something that is equal for identical values only."""
    if isinstance(value, BaseModel):
        fields = {name: exact(part) for name, part in vars(value).items()}
        return type(value), fields, value.model_fields_set, value.__pydantic_private__
    if isinstance(value, (list, tuple)):
        return type(value), [exact(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return type(value), {repr(each) for each in value}
    if isinstance(value, dict):
        return [(exact(key), exact(each)) for key, each in value.items()]
    if dataclasses.is_dataclass(value) or attrs.has(type(value)):
        names = [each.name for each in getattr(value, "__attrs_attrs__", ())]
        names = names or [each.name for each in dataclasses.fields(value)]
        return type(value), [exact(getattr(value, name)) for name in names]
    return type(value), repr(value)


# --- what is kept ---------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: float


class Card(msgspec.Struct, tag=True):
    number: str


class Cash(msgspec.Struct, tag=True):
    paid_at: datetime


class Some(TypedDict, total=False):
    at: datetime
    n: int


@attrs.define
class Account:
    name: str
    _balance: int = 0


@dataclasses.dataclass
class Visit:
    when: datetime
    day: date
    hour: time
    length: timedelta
    id: UUID
    price: Decimal
    data: bytes
    colour: Colour | None
    where: tuple[Point, ...]
    keys: dict[int, set[str]]
    mixed: dict[int | str, float | None]
    paid: Card | Cash | None
    some: Some
    text: str
    account: Account


@dataclasses.dataclass
class Box(Generic[T]):
    item: T


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
ZONES = st.none() | st.timezones() | st.just(UTC) | st.builds(
    timezone,
    st.integers(-86_399, 86_399).map(lambda seconds: timedelta(seconds=seconds)),
)  # fmt: skip


def meaningful(value):
    # With a fixed offset fold means nothing.
    return value.replace(fold=0) if isinstance(value.tzinfo, timezone) else value


DATETIMES = st.datetimes(timezones=ZONES, allow_imaginary=True).map(meaningful)
STAMPS = st.just("2026-01-15T09:00:00+01:00[Europe/Berlin]")
VISITS = st.builds(
    Visit,
    when=DATETIMES,
    day=st.dates(),
    hour=st.times(),
    length=st.timedeltas(),
    id=st.uuids(),
    price=st.decimals(),
    data=st.binary(max_size=9),
    colour=st.none() | st.just(Colour.RED),
    where=st.lists(st.builds(Point, st.integers(), FLOATS), max_size=2).map(tuple),
    keys=st.dictionaries(st.integers(), st.sets(st.text(max_size=2)), max_size=2),
    mixed=st.dictionaries(st.integers(0, 3) | st.sampled_from("0123a"), st.none() | FLOATS),
    paid=st.none() | st.builds(Card, st.text()) | st.builds(Cash, DATETIMES),
    some=st.fixed_dictionaries({}, optional={"at": DATETIMES, "n": st.integers()}),
    text=st.text(max_size=5) | STAMPS,
    account=st.builds(Account, st.text(max_size=2), st.integers(-1, 1)),
)


@given(VISITS, st.booleans())
def test_every_value_comes_back_the_same_or_is_refused(visit, wrapped):
    codec = WrappedCodec(CODEC, flip, flip) if wrapped else CODEC
    try:
        back = round_trip(visit, Visit, codec)
    except ValueMismatch:
        return
    assert exact(back) == exact(visit)


@given(VISITS)
def test_most_values_are_kept(visit):
    visit.when = datetime(2026, 7, 1, 9, tzinfo=BERLIN)
    visit.hour = visit.hour.replace(fold=0)
    visit.mixed = {"b": 2.0, "a": None}
    visit.paid = Cash(datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1))
    visit.some = {"at": datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))}
    visit.text = "text"
    visit.account = Account("x")
    assert exact(round_trip(visit, Visit)) == exact(visit)


@given(st.lists(DATETIMES, max_size=3))
def test_datetimes_in_lists_and_sets(values):
    for given_, type_ in ((values, list[datetime]), ({*values}, set[datetime])):
        try:
            back = round_trip(given_, type_)
        except ValueMismatch:
            continue
        assert exact(back) == exact(given_)


def test_a_time_zone_keeps_its_name_across_a_change_to_summer_time():
    def book(when: datetime) -> datetime:
        return when

    signature = CallSignature.of(book)
    # The constant is another object once some other test has emptied the cache of time zones.
    berlin = ZoneInfo("Europe/Berlin")
    when = datetime(2026, 1, 15, 9, tzinfo=berlin)
    (back,), _ = signature.decode(CODEC, signature.encode(CODEC, (when,), {}))
    assert back.tzinfo is berlin
    later = back + timedelta(days=180)
    assert later.utcoffset() == timedelta(hours=2)
    assert later.hour == 9


def test_the_stored_form_of_a_time_zone_is_the_one_of_rfc_9557():
    data = CODEC.encode_verified(datetime(2026, 1, 15, 9, tzinfo=BERLIN), datetime)[0]
    assert data == b'"2026-01-15T09:00:00+01:00[Europe/Berlin]"'
    fixed = CODEC.encode_verified(datetime(2026, 1, 15, 9, tzinfo=UTC), datetime)[0]
    assert fixed == b'"2026-01-15T09:00:00Z"'


def test_a_time_zone_that_is_not_known_here_is_an_error():
    with pytest.raises(UndecodableValue, match="time zone 'Mars/Base' is not known here"):
        decode_as(CODEC, b'"2026-01-15T09:00:00+01:00[Mars/Base]"', datetime, "it")


def test_a_text_that_looks_like_a_datetime_stays_a_text():
    text = "2026-01-15T09:00:00+01:00[Europe/Berlin]"

    @dataclasses.dataclass
    class Note:
        at: datetime
        text: str

    note = Note(datetime(2026, 1, 1, tzinfo=UTC), text)
    assert round_trip(note, Note) == note


# --- what is refused ------------------------------------------------------------------------------


class Nameless(tzinfo):
    def utcoffset(self, _):
        return timedelta(hours=1)

    def dst(self, _):
        return timedelta(0)

    def tzname(self, _):
        return "somewhere"


@dataclasses.dataclass
class Line:
    sku: str


@dataclasses.dataclass
class Priced(Line):
    price: int


@dataclasses.dataclass
class Counted:
    n: int

    def __post_init__(self):
        self.n += 1


@dataclasses.dataclass
class Basket:
    lines: list[Line]
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)


ODD = timezone(timedelta(hours=2, seconds=17))


@pytest.mark.parametrize(
    ("value", "type", "text"),
    [
        (Account("x", 500), Account, "500 would come back as 0 - at $._balance"),
        ({1: "a", "1": "b"}, dict[int | str, str], "of 2 keys 1 would come back, because JSON wri"),
        (datetime(1900, 1, 1, tzinfo=ODD), datetime, ": an offset of UTC with seconds"),
        (datetime(2026, 1, 1, tzinfo=Nameless()), datetime, "; use zoneinfo.ZoneInfo"),
        (datetime(2026, 3, 29, 2, 30, tzinfo=BERLIN), datetime, "in a gap of its time zone Europe"),
        (time(9, tzinfo=BERLIN), time, "zone ZoneInfo('Europe/Berlin') would come back as None"),
        (time(9, tzinfo=ZoneInfo("UTC")), time, "ZoneInfo('UTC') would .*; use datetime.UTC"),
        (datetime(2026, 1, 2, tzinfo=UTC), date, "date; of a datetime give its .date()"),
        (datetime(2026, 1, 1, fold=1), datetime, "fold=1 of a time without a time zone"),  # noqa: DTZ001
        (Basket([Priced("s", 1)]), Basket, "what only the subclass has; .* - at $.lines[0]"),
        (Basket([], {"a": [Line("s")]}), Basket, "Line would come .* a dict; .* - at $.notes.a"),
        (Basket([], {"a": (1, UUID(int=1))}), Basket, "UUID .* a str; .* - at $.notes.a[1]"),
        (Basket([], {"a": {1: 2}}), Basket, "key: 1 would .* '1'; .* - at $.notes.a[1]"),
        (Box(Line("s")), Box, "Line would come back as a dict; declare its type there - at $.item"),
        ([Counted(1)], list[Counted], "would come back as .* - at $[0].n"),
        (UUID(int=1), str, "a uuid.UUID would come back as a str; declare its type there"),
        ([Colour.RED], list[str], "Colour would come back as a str; .* - at $[0]"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_would_come_back_as_something_else_is_refused(value, type, text):
    pattern = re.escape(text).replace(r"\.\*", ".*")
    with pytest.raises(ValueMismatch, match=pattern):
        encode_checked(CODEC, value, type, "it")

    def call(x):
        return x

    call.__annotations__ = {"x": type}
    path = pattern.replace(re.escape(" - at $"), re.escape(" - at $"))
    with pytest.raises(ArgumentError, match=rf"^call\(\) argument 'x': .*{path}"):
        CallSignature.of(call).encode(CODEC, (value,), {})


def test_a_generic_whose_parameter_is_given_keeps_it():
    assert round_trip(Box(Line("s")), Box[Line]) == Box(Line("s"))
    assert round_trip([Box(1), Box("a")], list[Box]) == [Box(1), Box("a")]


def test_an_argument_of_a_type_variable_is_refused_and_one_without_a_type_warned_of():
    def typed(x: T) -> T:
        return x

    def untyped(x, *more, **others):
        return x, more, others

    with pytest.raises(ArgumentError, match="'x': a .*Line would come back as a dict"):
        CallSignature.of(typed).encode(CODEC, (Line("s"),), {})
    signature = CallSignature.of(untyped)
    for args, kwargs, name in (((Line("s"),), {}, "x"), ((1, Line("s")), {}, "more"),
                               ((1,), {"k": Line("s")}, "others")):  # fmt: skip
        with pytest.warns(UserWarning, match=rf"^untyped\(\) parameter '{name}' has no declared"):
            signature.encode(CODEC, args, kwargs)
    signature.encode(CODEC, (1, "a", None), {"k": [1, {"a": [2]}]})


# --- pydantic -------------------------------------------------------------------------------------


class Inner(BaseModel):
    kind: Literal["inner"] = "inner"
    x: int = 0
    tags: list[str] = []


class Other(BaseModel):
    kind: Literal["other"] = "other"


class Model(BaseModel):
    a: int | None = None
    b: int | None = None
    f: float | None = 1.0
    when: datetime | None = None
    inner: Inner | Other = Field(default_factory=Inner, discriminator="kind")
    inners: list[Inner] = []
    by_name: dict[str, Inner] = {}


MODELS = st.builds(
    Model.model_validate,
    st.fixed_dictionaries(
        {},
        optional={
            "a": st.none() | st.integers(),
            "b": st.none() | st.integers(),
            "f": st.none() | st.floats(),
            "when": st.none() | DATETIMES,
            "inner": st.builds(Inner, x=st.integers()) | st.builds(Other),
            "inners": st.lists(st.builds(Inner) | st.builds(Inner, x=st.integers()), max_size=2),
            "by_name": st.dictionaries(st.text(max_size=2), st.builds(Inner), max_size=2),
        },
    ),
)


def always_written(model):
    """Count as set what is written in any case, as the table in the guide says."""
    for inner in (model.inner, *model.inners, *model.by_name.values()):
        inner.__pydantic_fields_set__.add("kind")
    model.__pydantic_fields_set__.add("inner")
    return model


def without_zone(model):
    # Its own class for a fixed offset is as good as Python's.
    if model.when is not None and model.when.tzinfo is not None:
        model.when = model.when.astimezone(UTC)
    return model


@given(MODELS)
def test_models_come_back_the_same_or_are_refused(model):
    try:
        back = round_trip(model, Model)
    except ValueMismatch:
        return
    assert exact(without_zone(back)) == exact(without_zone(always_written(model)))


def test_fields_that_are_set_are_told_from_defaults_at_any_depth():
    model = Model(a=1, b=None, inners=[Inner(), Inner(x=0)])
    back = round_trip(model, Model)
    assert back == model
    assert back.model_fields_set == {"a", "b", "inners", "inner"}
    assert [each.model_fields_set for each in back.inners] == [{"kind"}, {"kind", "x"}]


def test_a_default_that_was_changed_in_place_is_kept():
    model = Inner()
    model.tags.append("new")
    assert round_trip(model, Inner).tags == ["new"]


class Entity(BaseModel):
    id: UUID = Field(default_factory=uuid4)


def test_what_a_factory_made_is_kept():
    entity = Entity()
    assert round_trip(entity, Entity) == entity


class Login(BaseModel):
    password: SecretStr


class Shown(Login):
    @field_serializer("password", when_used="json")
    def show(self, value):
        return value.get_secret_value()


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    amount: int = Field(0, validation_alias="in", serialization_alias="out")


class Alias(BaseModel):
    amount: int = Field(alias="in")


class Hidden(BaseModel):
    a: int
    _b: int = PrivateAttr(0)


class Numbers(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")
    f: float | None


class Constants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    f: float


class Excluded(BaseModel):
    a: int = Field(0, exclude=True)


class Adding(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def add(cls, n):
        return n + 1


class When(BaseModel):
    at: datetime


class Many(RootModel[list[Inner]]):
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


def hidden(value):
    model = Hidden(a=1)
    model._b = value
    return model


@pytest.mark.parametrize(
    "model",
    [
        Shown(password="hunter2"),
        Alias(**{"in": 3}),
        hidden(0),
        Numbers(f=math.inf),
        Numbers(f=math.nan),
        Many([Inner(x=1)]),
        Open(a=1, b=[2]),
    ],
    ids=repr,
)
def test_models_that_read_what_they_write_are_kept(model):
    assert repr(round_trip(model, type(model))) == repr(model)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (Login(password="hunter2"), "SecretStr is written as asterisks; .* - at $.password"),
        (Aliased(amount=42), "42 would come back as 0: .*different aliases .* - at $.amount"),
        (hidden(5), "5 would come back as 0: .* private attribute.* - at $._b"),
        (Model(f=math.inf), "set ser_json_inf_nan='strings' in model_config - at $.f"),
        (Model(f=math.nan), "set ser_json_inf_nan='strings' in model_config - at $.f"),
        (Constants(f=math.nan), "the model does not accept what it writes"),
        (Excluded(a=1), "1 would come back as 0: .* - at $.a"),
        (Adding(n=1), "2 would come back as 3: .*a validator.* - at $.n"),
        (Model(inners=[Inner.model_construct(x="no")]), "does not accept what it writes: Input"),
        (When(at=datetime(2026, 1, 1, tzinfo=BERLIN)), "store the zone's name in a .* - at $.at"),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("typed", [True, False])
def test_models_that_do_not_are_refused(model, text, typed):
    pattern = re.escape(text).replace(r"\.\*", ".*")
    with pytest.raises(ValueMismatch, match=pattern):
        encode_checked(CODEC, model, type(model) if typed else Any, "it")
    path = " - at \\$\\[0\\]"
    with pytest.raises(ValueMismatch, match=path):
        encode_checked(CODEC, [model], list[type(model)], "it")  # type: ignore[misc]


# --- stored values that do not fit the code -------------------------------------------------------


class Struct(msgspec.Struct):
    a: int = 0


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str = ""


class Array(msgspec.Struct, array_like=True):
    a: int = 0


@attrs.define
class Attrs:
    a: int = 0


@dataclasses.dataclass(frozen=True)
class Data:
    a: int = 0
    lines: tuple[Line, ...] = ()


@dataclasses.dataclass
class Allowing:
    __allow_unknown_fields__ = True
    a: int = 0


class Forbidding(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int = 0


@pytest.mark.parametrize(
    ("data", "type", "text"),
    [
        ('{"old": 1}', Data, "stored field 'old' is no field of .*Data"),
        ('{"lines": [{"sku": "s"}, {"sku": "s", "old": 1}]}', Data, r"Line .* - at \$.lines\[1\]"),
        ('{"k": {"old": 1}}', dict[str, Struct], r"'old' .* - at \$\['k'\]"),
        ('{"3": {"old": 1}}', dict[int, Struct], r"'old' .* - at \$\['3'\]"),
        ('[{"old": 1}]', list[Attrs], r"'old' .* - at \$\[0\]"),
        ('[{"old": 1}]', frozenset[Data], r"'old' .* - at \$\[0\]"),
        ('[{"old": 1}]', tuple[Some], r"'old' .*TypedDict .* - at \$\[0\]"),
        ('{"first_name": "x"}', Renamed, "'first_name'"),
        ("[1, 2]", Array, "has 2 parts"),
        ('{"type": "Card", "number": "1", "old": 1}', Card | Cash, "'old' is no field of .*Card"),
        ('[{"old": 1}]', list[Forbidding], r"Extra inputs are not permitted - at \$\[0\].old"),
    ],
)
def test_unknown_fields_of_a_stored_value_are_an_error(data, type, text):
    with pytest.raises(UndecodableValue, match=f"^it: .*{text}"):
        decode_as(CODEC, data.encode(), type, "it")

    def call(x):
        return x

    call.__annotations__ = {"x": type}
    with pytest.raises(UndecodableValue, match=r"^call\(\) argument 'x': "):
        CallSignature.of(call).decode(CODEC, f'{{"x": {data}}}'.encode())


@pytest.mark.parametrize(
    ("data", "type", "value"),
    [
        ('{"old": 1}', Allowing, Allowing()),
        ('{"old": 1}', Inner, Inner()),
        ("{}", Data, Data()),
        ('{"lines": [{"sku": "s"}]}', Data, Data(0, (Line("s"),))),
        ('{"firstName": "x"}', Renamed, Renamed("x")),
        ("[]", Array, Array()),
        ('{"type": "Card", "number": "1"}', Card | Cash, Card("1")),
        ('{"n": 1}', Some, {"n": 1}),
    ],
)
def test_new_fields_with_defaults_and_types_that_allow_it_are_fine(data, type, value):
    assert decode_as(CODEC, data.encode(), type, "it") == value


def test_a_renamed_parameter_is_named():
    def order(total: int = 0) -> int:
        return total

    with pytest.raises(UndecodableValue, match=r"^order\(\) got a stored argument 'amount' that"):
        CallSignature.of(order).decode(CODEC, b'{"amount": 7}')


# --- the guide ------------------------------------------------------------------------------------


def test_the_guide_has_one_table_of_it():
    text = GUIDE.read_text("utf-8")
    table = text[text.index("| what JSON or a library does not keep") :].split("\n\n")[0]
    for word in ("ZoneInfo", "fold", "inf", "subclass", "SecretStr", "alias", "model_fields_set",
                 "private", "keys", "generic", "unknown", "seconds"):  # fmt: skip
        assert word in table, word
