"""Arguments as stored JSON: what a call becomes and what becomes a call again."""

# Much of what is given here is wrong on purpose.
# mypy: disable-error-code="arg-type, empty-body, import-not-found, valid-type"

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import sys
from collections.abc import Callable
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    ParamSpec,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
)

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.values import JsonCodec, WrappedCodec
from trioflow.errors import (
    ArgumentError,
    DefinitionError,
    PayloadTooLarge,
    UndecodableValue,
    ValueMismatch,
)

if TYPE_CHECKING:
    from nowhere import OnlyForCheckers

CODEC = JsonCodec()
T = TypeVar("T")
Narrow = TypeVar("Narrow", int, str)
Bounded = TypeVar("Bounded", bound=int)
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")


class DictCodec:
    """A codec that knows plain data only, as one around another JSON library would."""

    def encode(self, value: object, /) -> bytes:
        return json.dumps(msgspec.to_builtins(value)).encode()

    def decode(self, data: bytes, type: Any, /) -> object:
        try:
            return msgspec.convert(json.loads(data), type)
        except msgspec.ValidationError as error:
            raise ValueMismatch(str(error).replace("`", "")) from error


CODECS = [CODEC, DictCodec(), WrappedCodec(CODEC, lambda data: data[::-1], lambda data: data[::-1])]


@dataclasses.dataclass
class Line:
    quantity: int


@dataclasses.dataclass
class Order:
    lines: list[Line]


async def checkout(
    order: Order, gift: bool = False, *, note: str = "", retries: int = 0
) -> Order: ...


def stored(fn, *args, **kwargs):
    return json.loads(CallSignature.of(fn).encode(CODEC, args, kwargs))


def again(fn, data):
    return CallSignature.of(fn).decode(CODEC, json.dumps(data).encode())


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.__class__.__name__)
def test_a_call_comes_back(codec):
    signature = CallSignature.of(checkout)
    order = Order([Line(1)])
    for args, kwargs in [((order,), {}), ((order, True), {}), ((order,), {"note": "n"})]:
        data = signature.encode(codec, args, kwargs)
        assert signature.decode(codec, data) == ([*args], kwargs)
    assert signature.decode(codec, signature.encode(codec, (), {"order": order})) == ([order], {})


def test_arguments_are_stored_by_name_and_defaults_are_not():
    assert stored(checkout, Order([])) == {"order": {"lines": []}}
    assert stored(checkout, Order([]), retries=2) == {"order": {"lines": []}, "retries": 2}
    assert stored(checkout, order=Order([]), gift=False) == {"order": {"lines": []}, "gift": False}
    assert stored(lambda: 1) == {}


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {}, "missing a required argument: 'order'"),
        ((1, 2, 3), {}, "takes 2 positional arguments, 3 were given"),
        ((1,), {"colour": 1}, "got an unexpected keyword argument 'colour'"),
        ((1,), {"order": 1}, "multiple values for argument 'order'"),
    ],
)
def test_what_does_not_fit_the_parameters_is_refused(args, kwargs, text):
    with pytest.raises(ArgumentError) as caught:
        CallSignature.of(checkout).encode(CODEC, args, kwargs)
    assert str(caught.value) == f"checkout() {text}"
    with pytest.raises(ArgumentError) as caught:
        CallSignature.of(checkout).encode(CODEC, args, kwargs, "shop.checkout")
    assert str(caught.value) == f"shop.checkout() {text}"


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.__class__.__name__)
@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((Order([Line("two")]),), {}, "'order': Expected int, got str - at $.lines[0].quantity"),
        ((1,), {}, "'order': Expected object, got int"),
        ((Order([]), "yes"), {}, "'gift': Expected bool, got str"),
        ((Order([]),), {"retries": "x"}, "'retries': Expected int, got str"),
    ],
)
def test_a_wrong_argument_is_named_with_its_path(codec, args, kwargs, text):
    with pytest.raises(ArgumentError) as caught:
        CallSignature.of(checkout).encode(codec, args, kwargs)
    assert str(caught.value) == f"checkout() argument {text}"


def test_a_wrong_stored_argument_is_named_in_the_same_form():
    with pytest.raises(UndecodableValue) as caught:
        again(checkout, {"order": {"lines": [{"quantity": None}]}})
    assert str(caught.value) == (
        "checkout() argument 'order': Expected int, got null - at $.lines[0].quantity"
    )


def test_an_argument_that_cannot_be_stored_is_named_with_its_path():
    def plain(a, order): ...

    with pytest.raises(
        ArgumentError, match=r"^plain\(\) argument 'order': a value of type object "
    ):
        stored(plain, 1, object())
    with pytest.raises(
        ArgumentError, match=r"argument 'order': JSON has no nan; .* - at \$\.x\[0\]$"
    ):
        stored(plain, 1, {"x": [float("nan")]})
    with pytest.raises(
        ArgumentError, match=r"'order': JSON has no nan; use None or a string instead$"
    ):
        stored(plain, 1, order=float("nan"))


def test_an_argument_over_the_limit_is_refused():
    with pytest.raises(PayloadTooLarge, match=r"^f\(\) arguments: 2,097,160 bytes"):
        stored(f, "x" * 2**21)
    with pytest.raises(PayloadTooLarge, match="the limit is 5"):
        CallSignature.of(f).encode(CODEC, (1,), {}, limit=5)


def f(a): ...


# --- a function that changed while calls were stored ---------------------------------------------


def test_a_new_parameter_with_a_default_is_safe_wherever_it_stands():
    def now(new=7, a=1, *rest, b=2): ...

    assert again(now, {}) == ([], {})
    assert again(now, {"a": 5}) == ([7, 5], {})
    assert again(now, {"rest": [8, 9], "b": 3}) == ([7, 1, 8, 9], {"b": 3})


def test_a_positional_only_parameter_after_a_new_one_is_filled():
    def now(a, new=7, b=8, /): ...

    assert again(now, {"a": 1, "b": 2}) == ([1, 7, 2], {})


@pytest.mark.parametrize("codec", CODECS[:1])
def test_a_parameter_that_is_gone_is_named(codec):
    with pytest.raises(
        UndecodableValue, match=r"^f\(\) got a stored argument 'old' that is no parameter"
    ):
        again(f, {"a": 1, "old": 2})


def test_a_parameter_without_a_stored_argument_is_named():
    def late(a=1, *, b): ...

    for fn, data, name in [(f, {}, "a"), (late, {"a": 2}, "b")]:
        with pytest.raises(
            UndecodableValue, match=f"missing a required argument: '{name}'; .* default"
        ):
            again(fn, data)


def test_stored_arguments_that_are_no_object_are_refused():
    with pytest.raises(UndecodableValue, match=r"^f\(\) arguments: Expected object, got array$"):
        again(f, [1])
    with pytest.raises(UndecodableValue, match=r"^f\(\) arguments: not a JSON document"):
        CallSignature.of(f).decode(CODEC, b"{")


# --- kinds of parameters --------------------------------------------------------------------------


def everything(a, b: int, /, c, d: str = "d", *args: int, e, f: int = 1, **kwargs: str): ...


def test_variadic_arguments_are_stored_under_their_names():
    data = stored(everything, 1, 2, 3, "x", 4, 5, e=6, args="n", a="m")
    assert data == {
        "a": 1, "b": 2, "c": 3, "d": "x", "args": [4, 5], "e": 6, "kwargs": {"args": "n", "a": "m"},
    }  # fmt: skip
    assert again(everything, data) == ([1, 2, 3, "x", 4, 5], {"e": 6, "args": "n", "a": "m"})
    with pytest.raises(
        ArgumentError, match=r"argument 'args': Expected int, got str - at \$\[1\]$"
    ):
        stored(everything, 1, 2, 3, "x", 4, "five", e=6)
    with pytest.raises(ArgumentError, match=r"argument 'kwargs': Expected str, got int"):
        stored(everything, 1, 2, 3, e=6, more=1)


def simple(a, b=2): ...
def positional_only(a, b=1, /, c=2): ...
def keyword_only(a=1, *, b, c=3, d): ...
def variadic(*args, **kwargs): ...
def of_all_kinds(a, b, /, c, d=1, *args, e, x=1, **kwargs): ...


SIMPLE = st.integers(0, 9)


@given(
    st.sampled_from([f, simple, positional_only, keyword_only, variadic, of_all_kinds]),
    st.lists(SIMPLE, max_size=4),
    st.dictionaries(st.sampled_from("abcdex"), SIMPLE, max_size=4),
)
def test_binding_is_as_in_a_call(fn, args, kwargs):
    signature = CallSignature.of(fn)
    try:
        fn(*args, **kwargs)
    except TypeError:
        with pytest.raises(ArgumentError):
            signature.encode(CODEC, args, kwargs)
        return
    plain = inspect.signature(fn)
    bound = plain.bind(*args, **kwargs)
    data = signature.encode(CODEC, args, kwargs)
    args, kwargs = signature.decode(CODEC, data)
    back = plain.bind(*args, **kwargs)
    back.apply_defaults()
    bound.apply_defaults()
    assert back.arguments == bound.arguments


def test_a_keyword_is_not_taken_for_a_positional_only_parameter():
    with pytest.raises(ArgumentError, match=r"^of_all_kinds\(\) .*'b'"):
        stored(of_all_kinds, 1, b=2, c=3, e=4)


def test_any_name_may_be_a_parameter():
    def odd(__struct_fields__, _x, größe, p0, p1=5): ...  # noqa: PLC2401 - it is the point

    data = stored(odd, 1, 2, größe=3, p0=4)
    assert data == {"__struct_fields__": 1, "_x": 2, "größe": 3, "p0": 4}
    assert again(odd, data) == ([1, 2, 3, 4], {})
    with pytest.raises(ArgumentError, match="argument 'größe': "):
        stored(odd, 1, 2, object(), 4)


def test_an_unset_argument_is_as_one_not_given():
    assert stored(simple, 1, UNSET) == {"a": 1}
    assert stored(simple, 1, b=UNSET) == {"a": 1}


class Service:
    def charge(self, amount: int) -> str: ...

    @classmethod
    def make(cls, amount: int) -> str: ...

    def __call__(self, amount: int) -> str: ...


@pytest.mark.parametrize(
    ("signature", "name"),
    [
        (CallSignature.of(Service().charge), "charge"),
        (CallSignature.of(Service.charge, method=True), "charge"),
        (CallSignature.of(Service.make), "make"),
        (CallSignature.of(Service()), "Service"),
        (CallSignature.of(functools.partial(Service.charge, Service())), "charge"),
    ],
)
def test_self_is_no_argument(signature, name):
    assert signature.name == name
    assert signature.result_type is str
    assert signature.encode(CODEC, (1,), {}) == b'{"amount":1}'
    with pytest.raises(ArgumentError, match="argument 'amount': Expected int"):
        signature.encode(CODEC, ("x",), {})


def test_what_has_no_signature_is_refused():
    with pytest.raises(DefinitionError, match="cannot be known"):
        CallSignature.of(type)


# --- annotations ----------------------------------------------------------------------------------


def test_the_result_type_is_the_annotation():
    def nothing() -> None: ...
    def never() -> NoReturn: ...
    def unknown(): ...

    assert CallSignature.of(checkout).result_type is Order
    assert CallSignature.of(nothing).result_type is type(None)
    assert CallSignature.of(never).result_type is type(None)
    assert CallSignature.of(unknown).result_type is Any


def early(value: Late) -> Late: ...


EARLY = CallSignature.of(early)


class Late(msgspec.Struct):
    x: int


def test_annotations_are_looked_up_at_the_first_use():
    assert EARLY.result_type is Late
    assert EARLY.decode(CODEC, EARLY.encode(CODEC, (Late(1),), {})) == ([Late(1)], {})


def hidden(a: int, b: OnlyForCheckers) -> int: ...
def hidden_result(a: int) -> OnlyForCheckers: ...


def test_an_annotation_that_does_not_exist_is_named():
    with pytest.raises(DefinitionError) as caught:
        CallSignature.of(hidden).encode(CODEC, (1, 2), {})
    text = str(caught.value)
    assert text.startswith(
        "hidden() parameter 'b': the annotation 'OnlyForCheckers' cannot be resolved"
    )
    assert "TYPE_CHECKING" in text
    with pytest.raises(DefinitionError, match=r"hidden_result\(\) result: the annotation 'OnlyFor"):
        _ = CallSignature.of(hidden_result).result_type


def test_local_classes_can_be_given_or_seen_through_the_closure():
    class Local(msgspec.Struct):
        x: int

    class Seen(msgspec.Struct):
        x: int

    def use(a: Local): ...
    def look(a: Seen) -> Seen:
        return Seen(a.x)

    signature = CallSignature.of(use, localns={"Local": Local})
    assert signature.decode(CODEC, b'{"a":{"x":1}}') == ([Local(1)], {})
    assert CallSignature.of(look).result_type is Seen
    with pytest.raises(DefinitionError, match="'Local' cannot be resolved"):
        CallSignature.of(use).check(CODEC)


class Box(Generic[T]):
    pass


def test_types_that_cannot_be_stored_name_their_parameter():
    def first(a: int, b: Callable[[], int]): ...
    def second(a: list[Order | Line]): ...
    def third() -> Box[int]: ...

    for codec in (CODEC, CODECS[2]):
        with pytest.raises(DefinitionError, match=r"^first\(\) parameter 'b': values of type "):
            CallSignature.of(first).check(codec)
        with pytest.raises(DefinitionError, match=r"^second\(\) parameter 'a': .*tag=True"):
            CallSignature.of(second).check(codec)
        with pytest.raises(DefinitionError, match=r"^third\(\) result: values of type"):
            CallSignature.of(third).check(codec)
        with pytest.raises(DefinitionError, match=r"^first\(\) parameter 'b': "):
            CallSignature.of(first).encode(codec, (1, 2), {})
    CallSignature.of(checkout).check(CODEC)
    CallSignature.of(first).check(DictCodec())


class Extra(TypedDict, total=False):
    size: int


def test_type_variables_are_their_bounds():
    def of_any(a: T, b: list[T]): ...
    def of_bound(a: Bounded): ...
    def of_either(a: Narrow): ...
    def of_params(*args: P.args, **kwargs: P.kwargs): ...
    def of_tuple(*args: Unpack[Ts]): ...  # noqa: UP044 - both ways are met
    def of_items(*args: *tuple[int, str]): ...
    def of_dict(**kwargs: Unpack[Extra]): ...

    assert stored(of_any, 1, ["a"]) == {"a": 1, "b": ["a"]}
    assert stored(of_either, "x") == {"a": "x"}
    assert stored(of_params, 1, b=2) == {"args": [1], "kwargs": {"b": 2}}
    assert stored(of_tuple, 1, "b") == {"args": [1, "b"]}
    assert again(of_items, stored(of_items, 1, "b")) == ([1, "b"], {})
    assert again(of_dict, stored(of_dict, size=1)) == ([], {"size": 1})
    for fn, args, kwargs in [
        (of_bound, ("x",), {}),
        (of_either, (1.5,), {}),
        (of_items, (1, 2), {}),
        (of_dict, (), {"size": "x"}),
    ]:
        with pytest.raises(ArgumentError, match="Expected"):
            stored(fn, *args, **kwargs)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax came with Python 3.12")
@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_type_parameters_are_their_bounds(future):
    names: dict[str, Any] = {}
    source = f"{future}def f[T: int](a: T, b: list[T]) -> T: ..."
    exec(compile(source, "source", "exec", dont_inherit=True), names)
    assert stored(names["f"], 1, [2]) == {"a": 1, "b": [2]}
    with pytest.raises(ArgumentError, match=r"argument 'b': Expected int, got str - at \$\[0\]"):
        stored(names["f"], 1, ["x"])


def test_a_codec_that_ignores_the_type_is_found_out():
    class Careless(DictCodec):
        def decode(self, data, type, /):
            return json.loads(data)

    with pytest.raises(UndecodableValue, match=r"Careless\.decode\(\) returned dict"):
        CallSignature.of(f).decode(Careless(), b'{"a":1}')


def test_an_option_among_the_arguments_is_told_where_it_goes():
    def start(order): ...

    with pytest.raises(ArgumentError, match=r"'id'; if it is .*start\.options\(id=…\)"):
        CallSignature.of(start).encode(CODEC, (3,), {"id": "x"})


def test_the_name_of_a_missing_field_is_quoted():
    def pay(order: Order): ...

    with pytest.raises(UndecodableValue, match="missing required field 'lines'"):
        again(pay, {"order": {}})
