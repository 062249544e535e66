"""With a codec that encrypts, nothing that a user said can be read in the store."""

from __future__ import annotations

import subprocess

import pytest
import trio

from tests.stores import marked, open_store, opened
from trioflow import (
    InstanceCancelled,
    InstanceTerminated,
    JsonCodec,
    Promise,
    Query,
    Registry,
    RetryPolicy,
    Signal,
    UndecodableValue,
    Update,
    WrappedCodec,
    emit,
    heartbeat,
    open_client,
    open_worker,
    set_status,
    side_effect,
)

SECRET = "4711-0815"
word = Signal("word", str)
ask = Update("ask", argument=str, result=str)
card_of = Query("card", result=str)


class Declined(Exception):
    def __init__(self, card):
        super().__init__(f"card {card} was declined")
        self.card = card


def flip(data):
    return bytes(each ^ 0x55 for each in data)


def codec():
    return WrappedCodec(JsonCodec(), flip, flip)


def definitions():  # noqa: C901 - one of each kind
    flows = Registry()

    @flows.activity(retry=RetryPolicy(max_attempts=2, initial_interval=0.01))
    async def charge(card: str) -> None:
        heartbeat({"card": card})
        try:
            raise KeyError(card)
        except KeyError as cause:
            error = Declined(card)
            error.add_note(f"asked for {card}")
            raise error from cause

    @flows.activity(retry=RetryPolicy(initial_interval=1000, max_interval=1000))
    async def later(card: str) -> None:
        heartbeat(f"about to charge {card}")
        raise Declined(card)

    @flows.workflow
    async def pay(card: str) -> None:
        await charge(card)

    @flows.workflow
    async def many(card: str) -> list[str]:
        def decline() -> None:
            raise Declined(card)

        said = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(charge, card)
                nursery.start_soon(pay, card)
        except* Declined as group:
            said += [f"{error}; {error.__notes__}" for error in group.exceptions]
        try:
            side_effect(decline)
        except Declined as error:
            said.append(error.card)
        return said

    @flows.workflow
    async def wait(card: str) -> None:
        set_status({"card": card})
        card_of.handler(lambda: card)

        @ask.handler
        def _(again: str) -> str:
            if again != card:
                raise Declined(again)
            return f"you said {again}"

        await word.receive()
        await later(card)

    @flows.workflow
    async def parent(card: str) -> None:
        await wait.options(id=f"child of {len(card)}")(card)

    @flows.workflow
    async def streams(card: str) -> str:
        await emit("cards", card)
        promise = Promise("again", str)
        set_status(promise.token)
        return await promise.receive()

    return flows, pay, many, wait, parent, streams


class Stored:
    """A store, and all that is in it as bytes."""

    def __init__(self, kind, path, servers):
        self.kind = kind
        self._path = path
        self._servers = servers
        self.new = open_store(kind, path, servers)

    def contents(self, backend):
        """Return the bytes of the files, or of a dump, by name."""
        if self.kind == "sqlite":  # with the log, and what is shared of it
            return {path.name: path.read_bytes() for path in self._path.iterdir()}
        if self.kind == "postgres":
            place = backend._get.keywords
            command = ["pg_dump", "-h", place["host"], "-U", "trioflow", "-n", backend.schema]
            done = subprocess.run([*command, "postgres"], capture_output=True, check=True)
            return {"dump": done.stdout}
        import redis  # noqa: PLC0415

        with redis.Redis.from_url(backend.address.url) as client:
            client.config_set("rdbcompression", "no")  # also of what DUMP gives
            keys = list(client.scan_iter(f"{backend.address.tag}*"))
            return {key: key + (client.dump(key) or b"") for key in keys}

    def places(self, backend):
        """Return where the secret is, in plain or as PostgreSQL writes bytes."""
        contents = self.contents(backend)
        assert sum(map(len, contents.values())) > 3000
        plain = SECRET.encode()
        return [n for n, data in contents.items() if plain in data or plain.hex().encode() in data]


@pytest.fixture(params=marked(["sqlite", "postgres", "redis"]))
def stored(request, tmp_path, servers):
    return Stored(request.param, tmp_path, servers)


async def eventually(condition):
    with trio.fail_after(20):
        while not await condition():
            await trio.sleep(0.01)


async def stream_and_promise(client, streams):
    handle = await client.start(streams, SECRET)

    async def has_promised():
        return (await handle.describe()).custom_status is not None

    await eventually(has_promised)
    await client.resolve((await handle.describe()).custom_status, SECRET)
    assert await handle.result() == SECRET
    assert [each.value async for each in handle.stream("cards")] == [SECRET]


async def test_nothing_of_a_user_is_in_plain_text(stored):
    flows, pay, many, wait, parent, streams = definitions()

    async with (
        opened(stored.new()) as backend,
        open_worker(backend, registry=flows, codec=codec(), drain=0) as worker,
    ):
        client = worker.client
        with pytest.raises(Declined, match=SECRET) as caught:
            await client.run(pay.options(id="pay"), SECRET)
        assert caught.value.card == SECRET
        assert type(caught.value.__cause__) is KeyError
        said = await client.run(many, SECRET)
        assert len(said) == 3
        assert all(SECRET in each for each in said)
        waiting = await client.start(wait, SECRET)
        assert await waiting.query(card_of) == SECRET
        assert await waiting.update(ask, SECRET) == f"you said {SECRET}"
        with pytest.raises(Declined, match=f"{SECRET}-2"):
            await waiting.update(ask, f"{SECRET}-2")
        await stream_and_promise(client, streams)
        assert stored.places(backend) == []
        await waiting.signal(word, SECRET)

        async def tried():
            (activity,) = (await waiting.describe()).activities or [None]
            return activity is not None and activity.attempt == 2

        await eventually(tried)
        (activity,) = (await waiting.describe()).activities
        assert activity.heartbeat == f"about to charge {SECRET}"
        above = await client.start(parent, SECRET)

        async def began():
            return (
                (await client.handle("child of 9").describe()).turns
                if await client.count(id_prefix="child of")
                else 0
            )

        await eventually(began)
        assert stored.places(backend) == []
        await above.cancel(f"because of {SECRET}")
        with pytest.raises(InstanceCancelled, match=f"because of {SECRET}"):
            await above.result()
        assert (await above.describe()).reason == f"because of {SECRET}"
        assert (await client.handle("child of 9").describe()).reason == f"because of {SECRET}"
        await waiting.terminate(f"enough of {SECRET}")
        with pytest.raises(InstanceTerminated, match=f"enough of {SECRET}"):
            await waiting.result()
        failure = (await client.handle("pay").describe()).failure
        assert SECRET in failure.message
        assert SECRET in failure.traceback
        assert stored.places(backend) == []
    # What is not of a user can be read, and another codec sees no more than the type.
    async with opened(stored.new()) as backend, open_client(backend, registry=flows) as client:
        handle = client.handle("pay")
        record = await client.backend.get("pay")
        assert b"Declined" in record.outcome
        with pytest.raises(UndecodableValue, match=r"Declined says .* another codec\?$"):
            await handle.result()


async def test_with_the_default_codec_failures_can_be_read_in_the_store(stored):
    flows, pay, *_ = definitions()

    async with (
        opened(stored.new()) as backend,
        open_worker(backend, registry=flows, drain=0) as worker,
    ):
        with pytest.raises(Declined):
            await worker.client.run(pay, SECRET)
        assert stored.places(backend)
