"""With a codec that encrypts, nothing that a user said can be read in the store."""

from __future__ import annotations

import pytest
import trio

from trioflow import (
    InstanceCancelled,
    InstanceTerminated,
    JsonCodec,
    Registry,
    RetryPolicy,
    Signal,
    UndecodableValue,
    WrappedCodec,
    heartbeat,
    open_client,
    open_worker,
    set_status,
    side_effect,
)

SECRET = "4711-0815"
word = Signal("word", str)


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
        await word.receive()
        await later(card)

    @flows.workflow
    async def parent(card: str) -> None:
        await wait.options(id=f"child of {len(card)}")(card)

    return flows, pay, many, wait, parent


def found(folder):
    return {path.name: path.read_bytes().count(SECRET.encode()) for path in folder.iterdir()}


async def eventually(condition):
    with trio.fail_after(20):
        while not await condition():
            await trio.sleep(0.01)


async def test_nothing_of_a_user_is_in_plain_text(tmp_path):
    flows, pay, many, wait, parent = definitions()
    url = f"sqlite:///{tmp_path}/s.db"

    async with open_worker(url, registry=flows, codec=codec(), drain=0) as worker:
        client = worker.client
        with pytest.raises(Declined, match=SECRET) as caught:
            await client.run(pay.options(id="pay"), SECRET)
        assert caught.value.card == SECRET
        assert type(caught.value.__cause__) is KeyError
        said = await client.run(many, SECRET)
        assert len(said) == 3
        assert all(SECRET in each for each in said)
        waiting = await client.start(wait, SECRET)
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
        assert found(tmp_path) == dict.fromkeys(found(tmp_path), 0)
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
        assert found(tmp_path) == dict.fromkeys(found(tmp_path), 0)
    # What is not of a user can be read, and another codec sees no more than the type.
    async with open_client(url, registry=flows) as client:
        handle = client.handle("pay")
        record = await client.backend.get("pay")
        assert b"Declined" in record.outcome
        with pytest.raises(UndecodableValue, match=r"Declined says .* another codec\?$"):
            await handle.result()


async def test_with_the_default_codec_failures_can_be_read_in_the_store(tmp_path):
    flows, pay, *_ = definitions()

    async with open_worker(f"sqlite:///{tmp_path}/s.db", registry=flows, drain=0) as worker:
        with pytest.raises(Declined):
            await worker.client.run(pay, SECRET)
        assert any(found(tmp_path).values())
