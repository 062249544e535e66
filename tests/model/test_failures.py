"""Exceptions as stored facts: what comes back, as which class, and what never happens."""

# Much of what is given here is wrong on purpose.
# mypy: disable-error-code="arg-type, attr-defined, method-assign, override, union-attr"

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import enum
import json
import math
import re
import subprocess
import sys
import traceback
import types
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trioflow import errors
from trioflow._codec.failures.failures import (
    FAILURE_LIMIT,
    Failure,
    RemoteTraceback,
    matches,
    type_name,
)
from trioflow._codec.failures.groups import first_interrupt, is_cancel
from trioflow.errors import RemoteError


class Reason(enum.Enum):
    EMPTY = "empty"


class Text(str):
    __slots__ = ()


class Plain(Exception):
    pass


class Quiet(Exception):
    def __str__(self):
        return "quiet"


class Strict(Exception):
    """Runs code when it is made: what must not happen because of stored data."""

    made = 0

    def __init__(self, code, *, hint=None):
        super().__init__(f"declined: {code}")
        self.code = code
        self.hint = hint
        type(self).made += 1

    def __setstate__(self, state):
        raise AssertionError

    def __reduce__(self):
        raise AssertionError


class NoSuper(Exception):
    def __init__(self, a, b):
        self.pair = (a, b)

    def __str__(self):
        return f"{self.pair[0]}/{self.pair[1]}"


class WithNew(Exception):
    def __new__(cls, *args):
        if args != ("only here",):
            raise AssertionError
        return super().__new__(cls, *args)


class Disk(OSError):
    def __init__(self, path):
        super().__init__(28, "full", path)
        self.path = path


class Slotted(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code):
        super().__init__("slotted")
        self.code = code


@dataclasses.dataclass(frozen=True)
class FrozenData(Exception):
    code: int
    reason: str = "x"


@attrs.frozen
class FrozenAttrs(Exception):
    code: int


class Mixed(errors.TrioflowError, TimeoutError):
    pass


class Group(ExceptionGroup):
    def derive(self, excs):
        return Group(self.message, excs)


class Final(errors.NonRetryable):
    pass


class Later(errors.Retry):
    pass


def sent(failure):
    """Return a failure as another process would read it."""
    back = msgspec.json.decode(msgspec.json.encode(failure), type=Failure)
    assert back == failure
    return back


def there_and_back(exc):
    return sent(Failure.of(exc)).rebuild()


def raised(fn):
    try:
        fn()
    except BaseException as exc:
        return exc
    raise AssertionError


def raise_from(exc, cause):
    def fn():
        raise exc from cause

    return raised(fn)


def attributes(exc):
    return {k: v for k, v in vars(exc).items() if not k.startswith("_")}


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exc",
    [
        Plain(),
        Plain("text"),
        Plain("a", 1, None, [2.5], {"k": True}),
        Plain((1, "a"), {1, 2}, frozenset({3}), {1: 2, "$x": 3}, b"\xff", 2**100),
        Plain(Decimal("1.10"), uuid.UUID(int=1), datetime(2026, 1, 2, tzinfo=UTC)),
        Plain(Reason.EMPTY, math.inf, Text("t")),
        Strict("c", hint=Decimal(1)),
        NoSuper(1, "b"),
        WithNew("only here"),
        Disk("/x"),
        FrozenData(1),
        FrozenData(1, "y"),
        FrozenAttrs(3),
        Mixed("late"),
        ValueError("x"),
        KeyError("k"),
        KeyError(("a", 1)),
        OSError(2, "gone", "file", None, "other"),
        OSError("only text"),
        ImportError("x", path="p"),
        subprocess.CalledProcessError(3, ["a", "b"], b"out"),
        SyntaxError("bad", ("file", 1, 2, "text")),
        raised(lambda: json.loads("{")),
        raised(b"\xff".decode),
        raised(lambda: 1 / 0),
        raised(lambda: Reason.EMPTY.nothing),
        errors.ActivityTimeout("too long"),
        errors.InstanceCancelled("order-7", "by hand"),
        errors.InstanceTerminated("order-7"),
        errors.InstanceNotFound("order-7"),
        errors.Retry("again", after=3),
        errors.NonRetryable("no"),
        errors.RemoteError("a.B", "m"),
        errors.ArgumentError("f() x"),
        errors.PayloadTooLarge("big"),
    ],
    ids=repr,
)
def test_exceptions_come_back_as_what_they_were(exc):
    made = Strict.made
    back = there_and_back(exc)
    assert type(back) is type(exc)
    assert str(back) == str(exc)
    assert back.args == exc.args
    assert attributes(back) == attributes(exc)
    for name in ("errno", "filename", "filename2", "path", "lineno", "object", "reason"):
        assert getattr(back, name, None) == getattr(exc, name, None)
    assert Strict.made == made


def test_slots_come_back():
    back = there_and_back(Slotted(5))
    assert type(back) is Slotted
    assert back.code == 5
    assert not hasattr(back, "unset")


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.decimals(allow_nan=False) | st.uuids() | st.dates()
    | st.times().map(lambda time: time.replace(fold=0))
    | st.timedeltas() | st.sampled_from(Reason)
)  # fmt: skip
HASHABLE = SCALARS | st.tuples(SCALARS)
DATA = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.sets(HASHABLE)
        | st.dictionaries(HASHABLE, inner) | st.dictionaries(st.text("$ab"), inner)
    ),
    max_leaves=8,
)  # fmt: skip


NAMES = st.text().filter(lambda name: name[:2] != "__" and not hasattr(Quiet, name))


@given(st.lists(DATA, max_size=3), st.dictionaries(NAMES, DATA, max_size=3))
def test_any_plain_data_comes_back(args, state):
    exc = Quiet(*args)
    vars(exc).update(state)
    back = there_and_back(exc)
    assert type(back) is Quiet
    assert exact(back.args) == exact(exc.args)
    assert exact(attributes(back)) == exact(attributes(exc))


def test_an_attribute_with_a_name_of_pythons_own_does_no_harm():
    exc = Quiet()
    vars(exc).update({"__cause__": [], "__class__": 1, "args": [1], "code": 2})
    back = there_and_back(exc)
    assert type(back) is Quiet
    assert (back.args, attributes(back)) == ((), {"code": 2})
    forged = Failure(type=type_name(Quiet), message="quiet", state={"__cause__": [], "args": 1})
    assert isinstance(forged.rebuild(), Exception)


def exact(value):
    """Return something that is equal only for values of the same types."""
    if isinstance(value, dict):
        return {exact(key): exact(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(map(exact, value))
    if isinstance(value, (list, tuple)):
        return type(value), [*map(exact, value)] if isinstance(value, list) else tuple(
            map(exact, value)
        )
    return type(value), value


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_text_that_utf8_cannot_express_never_fails(message, note):
    exc = Plain(message)
    exc.add_note(note)
    exc.attribute = message
    back = there_and_back(exc)
    assert type(back) is Plain
    assert str(back) == message.encode(errors="backslashreplace").decode()


class Opaque:
    def __str__(self):
        return "opaque"


def test_what_is_not_plain_is_given_up_before_the_class():
    exc = Plain(Opaque())
    exc.response = Opaque()
    exc.status = 404
    back = there_and_back(exc)
    assert type(back) is Plain
    assert str(back) == "opaque"
    assert attributes(back) == {"status": 404}
    assert back.__notes__ == ["attributes that could not be stored: response"]
    again = there_and_back(back)
    assert again.__notes__ == back.__notes__


@pytest.mark.parametrize(
    "exc",
    [KeyError(Opaque()), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(4),
     StopAsyncIteration(), asyncio.CancelledError("m"), errors.Evicted("x")],
    ids=repr,
)  # fmt: skip
def test_what_cannot_or_must_not_be_raised_becomes_a_remote_error(exc):
    back = there_and_back(exc)
    assert type(back) is errors.RemoteError
    assert back.type == type_name(type(exc))
    assert back.remote_message == str(exc)


def test_a_local_class_becomes_a_remote_error():
    class Local(Exception):
        pass

    back = there_and_back(Local("x"))
    assert type(back) is errors.RemoteError
    assert back.type.endswith("<locals>.Local")


def test_nothing_is_imported_or_run_for_stored_data(monkeypatch):
    module = types.ModuleType("lazy_shop")
    module.__getattr__ = lambda name: pytest.fail("the module was asked")
    monkeypatch.setitem(sys.modules, "lazy_shop", module)
    before = set(sys.modules)
    for name in ("lazy_shop.Error", "colorsys.Error", "lazy_shop", "", ".", "a..b", "print",
                 "builtins.int", "trioflow.errors.no.more", "subprocess.Popen"):  # fmt: skip
        back = sent(Failure(type=name, message="m", args=["m"])).rebuild()
        assert type(back) is errors.RemoteError
        assert back.type == name
    assert set(sys.modules) == before


def test_arguments_that_do_not_fit_are_given_up_before_the_class():
    name = type_name(Plain)
    unfit: list[list[Any]] = [
        ["another"],
        [{"$uuid": "x"}],
        [{"$enum": ["os.Nothing", "X"]}],
        [{"$enum": [name, "X"]}],
        [{"$what": 1}],
        [{"$set": [[]]}],
    ]
    for args in unfit:
        back = Failure(type=name, message="m", args=args).rebuild()
        assert type(back) is Plain
        assert back.args == ("m",)


def test_a_class_that_gives_another_message_becomes_a_remote_error():
    back = Failure(type=type_name(Quiet), message="m", args=["m"]).rebuild()
    assert type(back) is errors.RemoteError
    assert str(back) == f"{__name__}.Quiet: m"


def test_a_set_that_reads_differently_here_does_not_cost_the_class():
    given = set("abcdefgh")
    failure = Failure.of(RuntimeError(given))
    elsewhere = "{" + ", ".join(map(repr, reversed([*given]))) + "}"
    back = sent(msgspec.structs.replace(failure, message=elsewhere)).rebuild()
    assert type(back) is RuntimeError
    assert str(back) == elsewhere


def test_a_class_that_is_unknown_on_the_way_is_known_again_at_the_end(monkeypatch):
    unknown = Final
    exc = raise_from(unknown("no", 1), KeyError("k"))
    exc.code = 5
    exc.add_note("first")
    module = sys.modules[__name__]
    monkeypatch.delattr(module, "Final")
    middle = there_and_back(exc)
    assert type(middle) is errors.RemoteError
    middle.add_note("second")
    passed_on = sent(Failure.of(middle))
    monkeypatch.setattr(module, "Final", unknown, raising=False)
    back = passed_on.rebuild()
    assert type(back) is unknown
    assert (back.args, back.code) == (("no", 1), 5)
    assert back.__notes__ == ["first", "second"]
    assert type(back.__cause__) is KeyError
    assert passed_on.non_retryable


def test_a_renamed_class_can_keep_its_old_name_as_an_alias(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "OldName", Plain, raising=False)
    assert type(Failure(type=f"{__name__}.OldName", message="m", args=["m"]).rebuild()) is Plain


# --- causes, tracebacks and notes -----------------------------------------------------------------


def deep():
    raise Plain("inner")


def chained():
    try:
        deep()
    except Plain as exc:
        raise ValueError("outer") from exc


def test_causes_come_back_and_the_remote_traceback_ends_them():
    back = there_and_back(raised(chained))
    assert type(back) is ValueError
    assert type(back.__cause__) is Plain
    end = back.__cause__.__cause__
    assert type(end) is RemoteTraceback
    assert end.__cause__ is None
    text = "".join(traceback.format_exception(back))
    assert text.index("in deep") < text.index("direct cause") < text.rindex("in chained")
    assert end.text.count("in deep") == 1
    assert end.text.count("direct cause of the following") == 1


def test_the_context_is_shown_in_the_traceback_only():
    def fn():
        try:
            deep()
        except Plain:
            raise ValueError("outer")  # noqa: B904

    back = there_and_back(raised(fn))
    assert type(back.__cause__) is RemoteTraceback
    assert "in deep" in back.__cause__.text
    assert "During handling" in back.__cause__.text


def test_a_suppressed_context_is_not_shown():
    def fn():
        try:
            deep()
        except Plain:
            raise ValueError("outer") from None

    assert "deep" not in Failure.of(raised(fn)).traceback


def test_every_place_on_the_way_is_shown():
    first = there_and_back(raised(chained))

    def workflow():
        raise first

    second = there_and_back(raised(workflow))
    assert type(second.__cause__) is Plain
    end = second.__cause__.__cause__
    assert type(end) is RemoteTraceback
    text = str(end)
    assert text.index("in deep") < text.rindex("in chained") < text.index("in workflow")


def test_an_error_made_from_a_rebuilt_one_keeps_its_story():
    first = there_and_back(raised(deep))
    back = there_and_back(raise_from(KeyError("k"), first))
    assert type(back.__cause__) is Plain
    assert "in deep" in back.__cause__.__cause__.text


def test_frames_of_the_machinery_are_left_out_at_the_top():
    def in_trio():
        async def main():
            deep()

        trio.run(main)

    exc = raised(in_trio)
    exc.__traceback__ = exc.__traceback__.tb_next.tb_next
    text = Failure.of(exc).traceback
    assert text.splitlines()[1].endswith("in main")


def test_cycles_of_causes_end():
    a, b = Plain("a"), Plain("b")
    a.__cause__, b.__cause__ = b, a
    back = there_and_back(a)
    assert str(back.__cause__) == "b"
    assert type(back.__cause__.__cause__) is RemoteTraceback
    assert any("not shown here" in note for note in back.__cause__.__notes__)
    itself = Plain("i")
    itself.__cause__ = itself
    assert str(there_and_back(itself)) == "i"


def test_notes_come_back():
    exc = Plain("x")
    exc.add_note("one")
    exc.add_note("two\nlines")
    assert there_and_back(exc).__notes__ == ["one", "two\nlines"]
    frozen = FrozenData(1)
    vars(frozen)["__notes__"] = ["n"]
    assert there_and_back(frozen).__notes__ == ["n"]


# --- groups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [ExceptionGroup, Group])
def test_groups_come_back(cls):
    group = cls("several", [raised(deep), cls("inner", [KeyError("k"), Disk("/x")])])
    group.add_note("n")
    back = there_and_back(group)
    assert type(back) is cls
    assert back.message == "several"
    assert type(back.__cause__) is RemoteTraceback
    assert "in deep" in back.exceptions[0].__cause__.text
    found = []
    try:
        raise back
    except* KeyError as some:
        found.append(some)
    except* Disk as some:
        found.append(some)
    except* Plain as some:
        found.append(some)
    assert len(found) == 3
    assert str(group) == str(back)


def test_cancelled_members_are_left_out_and_others_become_exceptions():
    cancelled = (
        trio.Cancelled._create(source="unknown") if _new_trio() else trio.Cancelled._create()
    )
    group = BaseExceptionGroup(
        "g", [cancelled, asyncio.CancelledError(), SystemExit(2), Plain("p")]
    )
    back = there_and_back(group)
    assert type(back) is ExceptionGroup
    assert [type(each) for each in back.exceptions] == [errors.RemoteError, Plain]
    back = there_and_back(BaseExceptionGroup("g", [cancelled]))
    assert type(back) is errors.RemoteError
    assert back.type == "BaseExceptionGroup"


def _new_trio():
    with contextlib.suppress(TypeError):
        trio.Cancelled._create()
        return False
    return True


def test_a_group_of_a_class_that_is_not_here_is_a_group():
    failure = Failure(
        type="shop.Errors", message="m", args=["m"], members=(Failure.of(Plain("p")),)
    )
    back = failure.rebuild()
    assert type(back) is ExceptionGroup
    assert type(back.exceptions[0]) is Plain


# --- what policies ask ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exc",
    [
        errors.NonRetryable("n"),
        Final("n"),
        raise_from(Plain(), Final()),
        raise_from(Plain(), raise_from(Plain(), Final())),
        ExceptionGroup("g", [Plain(), ExceptionGroup("h", [Final()])]),
        raise_from(Plain(), ExceptionGroup("g", [Final()])),
        errors.ArgumentError("f() x"),
        errors.ValueMismatch("x"),
        errors.PayloadTooLarge("x"),
        errors.InstanceTerminated("i"),
        errors.InstanceCancelled("i"),
    ],
    ids=repr,
)
def test_what_is_never_tried_again(exc):
    assert Failure.of(exc).non_retryable
    assert Failure.of(there_and_back(exc)).non_retryable


@pytest.mark.parametrize(
    "exc",
    [Plain(), errors.Retry(after=1), errors.RemoteError("a.B", "m"), errors.ActivityTimeout("t")],
)
def test_what_may_be_tried_again(exc):
    assert not Failure.of(exc).non_retryable


def test_the_implicit_context_does_not_make_a_failure_final():
    def fn():
        try:
            raise Final
        except Final:
            raise Plain  # noqa: B904

    assert not Failure.of(raised(fn)).non_retryable


@pytest.mark.parametrize(
    ("exc", "after"),
    [
        (errors.Retry(after=3), 3.0),
        (Later(after=3), 3.0),
        (ExceptionGroup("g", [errors.Retry(after=3), errors.Retry(after=5), Plain()]), 5.0),
        (raise_from(Plain(), errors.Retry(after=3)), 3.0),
        (errors.Retry(after=-1), 0.0),
        (errors.Retry(after=math.nan), None),
        (errors.Retry(after=math.inf), None),
        (Plain(), None),
    ],
    ids=repr,
)
def test_the_delay_that_was_asked_for(exc, after):
    assert Failure.of(exc).retry_after == after


def test_the_delay_survives_a_place_that_lacks_the_class(monkeypatch):
    failure = sent(Failure.of(Later(after=3)))
    monkeypatch.delattr(sys.modules[__name__], "Later")
    back = failure.rebuild()
    assert type(back) is errors.RemoteError
    assert Failure.of(back).retry_after == 3


def test_matches_sees_bases_causes_and_members():
    failure = Failure.of(raise_from(Plain(), ExceptionGroup("g", [Disk("/x")])))
    for name in ("OSError", f"{__name__}.Disk", f"{__name__}.Plain", "ExceptionGroup", "Exception"):
        assert matches(failure, [name])
    for names in ([], ["ValueError"], ["Disk"]):
        assert not matches(failure, names)
    assert matches(Failure.of(SystemExit()), ("BaseException",))


# --- bounds ---------------------------------------------------------------------------------------


def grouped(exc, depth):
    for _ in range(depth):
        exc = raise_from(ExceptionGroup("g", [exc]), None)
    return exc


def size(failure):
    return len(msgspec.json.encode(failure))


def nested(depth):
    exc = Plain("x" * 5000)
    for _ in range(depth):
        exc = raise_from(Plain("x" * 5000), exc)
    return exc


@pytest.mark.parametrize(
    "exc",
    [
        Plain("x" * 10**6),
        Plain(list(range(10**5))),
        nested(200),
        ExceptionGroup("g", [Plain("x" * 1000) for _ in range(1000)]),
        ExceptionGroup("g", [nested(50) for _ in range(10)]),
        grouped(ExceptionGroup("g", [nested(50) for _ in range(200)]), 100),
    ],
    ids=["message", "args", "causes", "members", "both", "deep"],
)
@pytest.mark.parametrize("limit", [100, 10_000, FAILURE_LIMIT])
def test_the_size_is_bounded(exc, limit):
    for name in "abc":
        vars(exc)[name] = "y" * 10**5
    exc.__notes__ = ["z" * 10**5] * 100
    failure = Failure.of(exc, limit=limit)
    assert size(failure) < max(3 * limit, 12_000)
    assert isinstance(sent(failure).rebuild(), Exception)


def test_a_long_message_is_cut_and_keeps_its_class():
    back = there_and_back(Plain("a" * 10**5 + "the end"))
    assert type(back) is Plain
    assert "characters left out" in str(back)
    assert str(back).endswith("the end")


def test_what_is_left_out_is_said():
    group = ExceptionGroup("g", [Plain(str(number)) for number in range(1000)])
    back = there_and_back(group)
    left_out = 1000 - len(back.exceptions)
    short = sum(str(each.__cause__.text) == "" for each in back.exceptions)
    assert left_out > 0
    assert short == len(back.exceptions) > 300
    assert back.__notes__ == [
        f"{short} of the group's exceptions are shown without their tracebacks",
        f"{left_out} more exceptions in the group are not shown here: {left_out} {__name__}.Plain",
    ]


def test_fifty_members_come_back_as_fifty():
    back = there_and_back(ExceptionGroup("g", [raised(lambda: int("x")) for _ in range(50)]))
    assert [type(each) for each in back.exceptions] == [ValueError] * 50
    assert all("int" in str(each.__cause__) for each in back.exceptions)
    assert not hasattr(back, "__notes__")


def bottom(exc):
    levels = 0
    while isinstance(exc, BaseExceptionGroup):
        levels += 1
        assert len(exc.exceptions) == 1
        exc = exc.exceptions[0]
    return levels, exc


@pytest.mark.parametrize("depth", [1, 6, 17, 60])
def test_groups_of_groups_come_back_however_deep(depth):
    back = there_and_back(grouped(raised(lambda: int("x")), depth))
    levels, exc = bottom(back)
    assert (levels, type(exc)) == (depth, ValueError)
    matched, rest = back.split(ValueError)
    assert matched is not None
    assert rest is None


def test_groups_may_be_nested_deeper_than_pythons_stack():
    cancel, interrupt = concurrent.futures.CancelledError(), KeyboardInterrupt()
    assert is_cancel(grouped(cancel, 5000))
    assert not is_cancel(grouped(ValueError(), 5000))
    assert first_interrupt(BaseExceptionGroup("g", [grouped(cancel, 5000), interrupt])) is interrupt


def test_beyond_a_depth_groups_are_put_together_and_that_is_said():
    back = there_and_back(grouped(ExceptionGroup("h", [Plain("a"), Disk("/x")]), 150))
    exc = back
    while isinstance(exc.exceptions[0], BaseExceptionGroup):
        exc = exc.exceptions[0]
    assert [type(each) for each in exc.exceptions] == [Plain, Disk]
    assert exc.__notes__ == ["groups nested more than 64 deep are shown here as one"]


def test_a_large_group_keeps_what_except_needs_of_its_members():
    members = [Final(str(number)) for number in range(99)]
    back = there_and_back(ExceptionGroup("g", [ExceptionGroup("h", members), KeyError("k")]))
    inner, outer = back.exceptions
    assert [str(each) for each in inner.exceptions] == [str(number) for number in range(99)]
    assert {type(each) for each in inner.exceptions} == {Final}
    assert type(outer) is KeyError


class Broken(Exception):
    def __str__(self):
        raise KeyError("broken")

    def __repr__(self):
        raise KeyError("broken")


class Awful(Exception):
    @property
    def __notes__(self):
        raise RuntimeError("awful")


def test_exceptions_that_cannot_be_read_are_described_all_the_same():
    back = there_and_back(Broken("x"))
    assert type(back) is errors.RemoteError
    assert back.remote_message == "<str() of it raised KeyError>"
    failure = Failure.of(Awful("x"))
    assert failure.type == f"{__name__}.Awful"
    assert "awful" in failure.message


class Own(BaseException):
    pass


BASES = [SystemExit, GeneratorExit, Own, ZeroDivisionError]


def says(error):
    class Saying(Exception):
        def __str__(self):
            raise error

        __repr__ = __str__

    return Saying


def denies(error):
    class Denying(Exception):
        def __getattribute__(self, name):
            raise error

    return Denying


def has_no_class(error):
    class Classless(Exception):
        @property
        def __class__(self):
            raise error

    return Classless


def has_a_bad_attribute(error):
    value = type("Value", (), {"__class__": property(lambda self: says(error)().__str__())})()

    class Holding(Exception):
        def __init__(self):
            super().__init__(value)
            self.value = value

        def __str__(self):
            return "holding"

    return Holding


@pytest.mark.parametrize("error", BASES)
@pytest.mark.parametrize("kind", [says, denies, has_no_class, has_a_bad_attribute])
def test_whatever_an_exceptions_code_raises_it_becomes_a_failure(kind, error):
    cls = kind(error)
    for each in (cls(), BaseExceptionGroup("both", [cls(), Plain("fine")])):
        failure = Failure.of(each)
        assert failure.type == type_name(type(each))
        assert failure.message


def test_what_reading_an_exception_raised_need_not_be_readable_itself():
    failure = Failure.of(denies(says(Own)())())
    assert re.fullmatch(r"<reading it raised <Saying, .* raised Own>>", failure.message)


class Grown(Exception):
    broken = False

    def __str__(self):
        if self.broken:
            raise SystemExit
        return "grown"


def test_a_class_whose_code_raises_when_it_is_rebuilt_is_given_up(monkeypatch):
    failure = Failure.of(Grown())
    monkeypatch.setattr(Grown, "broken", True)
    back = failure.rebuild()
    assert type(back) is RemoteError
    assert back.type == type_name(Grown)


def test_an_interrupt_while_an_exception_is_read_is_an_interrupt():
    with pytest.raises(KeyboardInterrupt):
        Failure.of(says(KeyboardInterrupt)())


@pytest.mark.parametrize("error", BASES)
def test_a_codec_may_raise_anything_while_it_seals(error):
    class Broken:
        def encode(self, value):
            raise error

    failure = Failure.of(Plain("secret"), Broken())
    assert failure.message == (f"<the codec failed to store what it says: {error.__name__}>")
