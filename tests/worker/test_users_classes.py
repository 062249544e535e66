"""Whatever the code of a user's class raises while trioflow runs it, the worker goes on."""

# mypy: ignore-errors

from __future__ import annotations

import dataclasses

import pytest

from tests.worker.flow import Flow, until_status
from trioflow import JsonCodec, Registry, RetryPolicy, ValueMismatch, WrappedCodec, open_client


class Own(BaseException):
    pass


@pytest.fixture(params=["trio", "asyncio"])
def host(request, tmp_path, harness):
    return Flow("memory", request.param, 1000, tmp_path).of(harness)


@pytest.fixture(params=[SystemExit, GeneratorExit, Own])
def error(request, monkeypatch):
    """What the classes below raise."""
    for cls in (Saying, Denying, Classless, Shut, Uneven):
        monkeypatch.setattr(cls, "error", request.param)
    return request.param


class Saying(Exception):
    error = Own

    def __str__(self):
        raise type(self).error

    __repr__ = __str__


class Denying(Exception):
    error = Own

    def __getattribute__(self, name):
        raise type(self).error


class Classless(Exception):
    error = Own

    @property
    def __class__(self):
        raise type(self).error


@dataclasses.dataclass
class Shut:
    """Can be made, and not be read back."""

    error = Own
    x: int

    def __post_init__(self):
        if self.x == 2:
            raise type(self).error


@dataclasses.dataclass
class Uneven:
    error = Own
    x: int

    def __eq__(self, other):
        raise type(self).error

    __hash__ = None


def shut():
    value = Shut(1)
    value.x = 2
    return value


flows = Registry()
once = flows.activity(retry=RetryPolicy(max_attempts=1))
KINDS = {"Saying": Saying, "Denying": Denying, "Classless": Classless}


@once
async def raises_async(kind: str) -> None:
    raise KINDS[kind]


@once
def raises_plain(kind: str) -> None:
    raise KINDS[kind]


@once
async def returns_shut() -> Shut:
    return shut()


@once
async def returns_uneven() -> Uneven:
    return Uneven(1)


@flows.workflow
async def raises(kind: str, where: str) -> None:
    if where == "workflow":
        raise KINDS[kind]
    await {"async": raises_async, "plain": raises_plain}[where](kind)


@flows.workflow
async def returns(where: str) -> Shut | None:
    if where == "workflow":
        return shut()
    await returns_shut()
    return None


@flows.workflow
async def compares(where: str) -> Uneven:
    return Uneven(1) if where == "workflow" else await returns_uneven()


@flows.workflow
async def innocent() -> str:
    return "fine"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["workflow", "async", "plain"])
async def test_an_exception_whose_code_raises_fails_its_workflow_alone(host, error, kind, where):
    async with host.worker(flows) as worker:
        handle = await worker.client.start(raises, kind, where)
        with pytest.raises(Exception):  # noqa: B017 - of which class is told below
            await handle.result()
        d = await handle.describe()
        assert d.failure.type == f"{__name__}.{kind}"
        assert error.__name__ in d.failure.message
        assert await worker.client.run(innocent) == "fine"


@pytest.mark.parametrize("where", ["workflow", "activity"])
async def test_a_result_whose_code_raises_when_it_is_read_fails_its_workflow_alone(
    host, error, where
):
    async with host.worker(flows) as worker:
        with pytest.raises(ValueMismatch, match=f"{error.__name__} while building it"):
            await worker.client.run(returns, where)
        assert await worker.client.run(innocent) == "fine"


@pytest.mark.usefixtures("error")
@pytest.mark.parametrize("where", ["workflow", "activity"])
async def test_a_result_whose_code_raises_when_it_is_compared_is_compared_by_its_fields(
    host, where
):
    async with host.worker(flows) as worker:
        back = await worker.client.run(compares, where)
        assert back.x == 1
        assert await worker.client.run(innocent) == "fine"


async def test_a_failure_that_the_codec_cannot_read_again_is_no_reason_to_end(host, error):
    broken = []

    def unwrap(data):
        if broken:
            raise error
        return data

    keyed = Registry()

    @keyed.activity(retry=RetryPolicy(max_attempts=1))
    async def breaks() -> None:
        broken.append(True)
        raise ValueError("secret")

    @keyed.workflow
    async def work() -> None:
        await breaks()

    @keyed.workflow
    async def other() -> str:
        return "fine"

    backend = await host.backend()
    whole, codec = (WrappedCodec(JsonCodec(), bytes, each) for each in (bytes, unwrap))
    async with (
        host.worker(keyed, backend=backend, codec=codec) as worker,
        open_client(backend, registry=keyed, codec=whole) as client,
    ):
        handle = await client.start(work)
        await until_status(handle, "suspended", "failed")
        broken.clear()
        assert await worker.client.run(other) == "fine"
