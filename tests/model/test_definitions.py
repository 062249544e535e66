"""Definitions: what is accepted, and what a mistake is told."""

# Much of what is given here is wrong on purpose.
# mypy: disable-error-code="arg-type, call-arg, call-overload"

from __future__ import annotations

import functools

import pytest
import trio

from tests.stores import opened
from tests.worker.flow import in_memory
from trioflow import Registry, RetryPolicy, open_worker
from trioflow._codec.signatures.signatures import CallSignature
from trioflow._codec.values import JsonCodec, encode_checked
from trioflow._model.activities import Activity
from trioflow._model.workflows import Workflow
from trioflow.errors import ArgumentError, DefinitionError, UndecodableValue, ValueMismatch

CODEC = JsonCodec()


class Caller:
    def __init__(self, name):
        self.name = name
        self.queue = "its own"

    async def __call__(self, n: int) -> str:
        return f"{self.name}{n}"


class PlainCaller:
    def __call__(self, n: int) -> int:
        return n + 1


class Desk:
    def __init__(self, name):
        self.name = name

    @Activity
    async def who(self, n: int = 1) -> str:
        return self.name * n


def test_objects_that_can_be_called_are_activities():
    activity = Activity(Caller("x"))
    assert (activity.name, activity.runtime, activity.queue) == ("Caller", "async", None)
    assert trio.run(activity, 3) == "x3"
    plain = Activity(PlainCaller(), name="plain")
    assert (plain.name, plain.runtime) == ("plain", "thread")
    assert trio.run(plain, 3) == 4


def test_partials_have_the_name_and_the_kind_of_their_function():
    async def add(a: int, b: int) -> int:
        return a + b

    activity = Activity(functools.partial(functools.partial(add, 1)))
    assert (activity.name, activity.runtime) == ("add", "async")
    assert trio.run(activity, 2) == 3


def test_a_parameter_may_be_called_self():
    def me(self: int, cls: int = 0) -> int:
        return self + cls

    activity = Activity(me)
    assert trio.run(functools.partial(activity, self=1, cls=2)) == 3
    signature = CallSignature.of(me)
    data = signature.encode(CODEC, (), {"self": 1})
    assert data == b'{"self":1}'
    assert signature.decode(CODEC, data) == ([1], {})

    async def flow(self: int) -> int:
        return self

    with pytest.raises(RuntimeError, match="called outside of a workflow"):
        Workflow(flow)(self=1)


def test_a_coroutine_that_nobody_awaited_is_called_that():
    async def fetch() -> int:
        return 1

    for value, where in ((fetch(), ""), ({"a": [fetch()]}, r" - at \$\.a\[0\]")):
        with pytest.raises(ValueMismatch, match=rf"^f\(\) result: it is a coroutine: .*{where}$"):
            encode_checked(CODEC, value, int, "f() result")


async def test_a_plain_function_that_gives_a_coroutine_is_told_to_be_async(clock):
    async def fetch(n: int) -> int:
        return n

    activity = Activity(lambda n: fetch(n + 1), name="fetch")
    with pytest.raises(DefinitionError, match=r"^activity 'fetch' \(.*\) gave a coroutine"):
        await activity(1)
    registry = Registry()
    registry.add(activity)

    @registry.workflow
    async def call() -> int:
        return await activity(1)

    async with (
        opened(in_memory(clock)) as backend,
        open_worker(backend, registry=registry) as worker,
    ):
        with pytest.raises(DefinitionError, match="gave a coroutine"):
            await worker.client.run(call)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"amout": 3}, "got an unexpected keyword argument 'amout'; did you mean 'amount'?"),
        ({"x": 3, "amount": 1}, "got an unexpected keyword argument 'x'"),
        ({}, "missing a required argument: 'amount'"),
    ],
)
def test_the_wrong_keyword_is_named(kwargs, text):
    def act(amount: int) -> None: ...

    with pytest.raises(ArgumentError) as caught:
        CallSignature.of(act).encode(CODEC, (), kwargs)
    assert str(caught.value) == f"act() {text}"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retries": 5}, "'retries'; say retry=RetryPolicy(max_attempts=5)"),
        ({"max_retries": 2}, "'max_retries'; say retry=RetryPolicy(max_attempts=2)"),
        ({"time_out": 5}, "'time_out'; did you mean timeout=?"),
        ({"xyz": 5}, "'xyz'; there are name, queue, priority, retry, timeout, "),
    ],
)
@pytest.mark.parametrize("kind", ["activity", "workflow"])
def test_an_option_that_does_not_exist_is_named_with_what_to_say(kind, options, text):
    with pytest.raises(DefinitionError) as caught:
        getattr(Registry(), kind)(**options)
    assert str(caught.value).startswith(f"@{kind} has no option {text}")


def test_a_retry_that_is_a_number_is_refused():
    async def act() -> None: ...

    for kind in (Activity, Workflow):
        with pytest.raises(DefinitionError, match=r"^retry is a RetryPolicy, not 5; for example"):
            kind(act, retry=5)
    with pytest.raises(DefinitionError, match="retry is a RetryPolicy"):
        Activity(act).options(retry=5)


# --- methods --------------------------------------------------------------------------------------


def test_a_method_is_called_on_its_object():
    desk = Desk("a")
    assert trio.run(desk.who, 2) == "aa"
    data = desk.who.signature.encode(CODEC, (2,), {})
    assert desk.who.signature.decode(CODEC, data) == ([2], {})
    # Where it simply runs, it is the function that it is.
    assert trio.run(Desk.who, desk) == "a"


def test_a_method_of_a_class_is_refused_and_says_what_to_call():
    with pytest.raises(ArgumentError, match=r"^who\(\) is an activity of an object; call it on"):
        Desk.who.signature.encode(CODEC, (3,), {})
    with pytest.raises(UndecodableValue, match=r"none was added in this process: .*registry\.add"):
        Desk.who.signature.decode(CODEC, b"{}")


def test_static_methods_and_functions_kept_in_a_class_are_no_methods():
    async def act(n: int) -> int:
        return n

    one = Activity(act)

    class Holder:
        kept = one

        @Activity
        @staticmethod
        async def static(n: int) -> int:
            return n

    assert Holder.kept.signature.encode(CODEC, (3,), {}) == b'{"n":3}'
    assert Holder.static.signature.encode(CODEC, (3,), {}) == b'{"n":3}'


def test_a_registry_takes_one_object_of_a_class():
    registry = Registry()
    one, other = Desk("a"), Desk("b")
    registry.add(Desk.who)
    registry.add(one)
    registry.add(one)
    with pytest.raises(DefinitionError, match=r"'Desk\.who': another object of its class was add"):
        registry.add(other)
    assert trio.run(registry.activities["Desk.who"]) == "a"
    Registry().add(other)


def test_two_objects_that_can_be_called_need_two_names():
    registry = Registry()
    one = Caller("x")
    registry.activity(one)
    registry.activity(one)
    with pytest.raises(DefinitionError, match="the name is taken"):
        registry.activity(Caller("y"))
    registry.activity(name="another")(Caller("y"))


def test_a_file_that_runs_as_two_modules_is_told_so():
    source = "@registry.activity\ndef act() -> None: ..."
    code = compile(source, "shop.py", "exec")
    registry = Registry()
    exec(code, {"registry": registry, "__name__": "__main__"})
    exec(code, {"registry": registry, "__name__": "__main__"})
    with pytest.raises(DefinitionError, match=r"'act' \(shop\.py:1\): its file runs twice"):
        exec(code, {"registry": registry, "__name__": "shop"})


def test_a_method_does_not_take_the_name_of_another_activity():
    registry = Registry()

    @registry.activity(name="Desk.who")
    async def other() -> None: ...

    with pytest.raises(DefinitionError, match="the name is taken"):
        registry.add(Desk("a"))


def test_a_retry_policy_is_taken():
    async def act() -> None: ...

    assert Activity(act, retry=RetryPolicy(max_attempts=5)).retry == RetryPolicy(max_attempts=5)
