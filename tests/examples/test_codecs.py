"""The codecs of the examples: keys that change, large values, damaged ones."""

from __future__ import annotations

import pickle  # noqa: TID251  # as it is for activities in processes
from pathlib import Path
from typing import Any

import pytest
import trio

from examples.codecs import Envelope, Shelf
from trioflow import JsonCodec, Registry, Signal, WrappedCodec, open_client, open_worker
from trioflow.errors import UndecodableValue, ValueMismatch

OLD, NEW = b"o" * 32, b"n" * 32
SECRET = "4711-0815"
word = Signal("word", str)
flows = Registry()


@flows.activity
async def twice(text: str) -> str:
    return text + text


@flows.workflow
async def tells(text: str) -> str:
    return await twice(text + await word.receive())


def encrypted(keys: dict[str, bytes], current: str) -> WrappedCodec:
    envelope = Envelope(keys, current)
    return WrappedCodec(JsonCodec(), envelope.wrap, envelope.unwrap)


def test_the_key_is_changed_while_an_instance_waits(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/s.db"

    async def begin() -> None:
        async with open_worker(url, registry=flows, codec=encrypted({"old": OLD}, "old")) as worker:
            await worker.client.start(tells.options(id="t"), SECRET)

    async def go_on() -> str:
        codec = encrypted({"old": OLD, "new": NEW}, "new")
        async with open_worker(url, registry=flows, codec=codec) as worker:
            handle = worker.client.handle("t", tells)
            await handle.signal(word, "!")
            return await handle.result()

    async def without_the_old_one() -> tuple[Any, str]:
        async with open_client(url, registry=flows, codec=encrypted({"new": NEW}, "new")) as client:
            handle = client.handle("t", tells)
            described = await handle.describe()
            return await handle.result(), described.undecodable["input"]

    trio.run(begin)
    assert trio.run(go_on) == f"{SECRET}!{SECRET}!"
    result, why = trio.run(without_the_old_one)
    assert result == f"{SECRET}!{SECRET}!", "the new key has written it"
    assert "no key 'old' any more" in why
    for path in tmp_path.iterdir():
        assert SECRET.encode() not in path.read_bytes()


def test_what_was_tampered_with_is_refused():
    codec = encrypted({"old": OLD}, "old")
    envelope = Envelope({"old": OLD}, "old")
    data = bytearray(envelope.wrap(b'"x"'))
    assert codec.decode(codec.encode("x"), str) == "x"
    for place in (0, 1, 10, 70, len(data) - 1):
        data[place] ^= 1
        with pytest.raises(Exception):  # noqa: B017  # of the cipher, or of whoever reads
            envelope.unwrap(bytes(data))
        data[place] ^= 1
    assert envelope.unwrap(bytes(data)) == b'"x"'


def test_two_values_that_are_equal_do_not_look_equal():
    codec = encrypted({"old": OLD}, "old")
    assert codec.encode("x") != codec.encode("x")


def test_large_values_are_stored_by_reference(tmp_path: Path):
    shelf = Shelf(tmp_path / "shelf")
    shelf.folder.mkdir()
    inner = encrypted({"old": OLD}, "old")
    codec = WrappedCodec(inner, shelf.wrap, shelf.unwrap)
    url = f"sqlite:///{tmp_path}/s.db"
    large = SECRET * 400_000  # 3.6 MB, where 2 MiB are allowed

    async def main() -> str:
        async with open_worker(url, registry=flows, codec=codec, cache_size=0) as worker:
            handle = await worker.client.start(tells, large)
            await handle.signal(word, large)
            with trio.fail_after(30):
                return await handle.result(wait_suspended=False)

    assert trio.run(main) == large * 4
    assert (tmp_path / "s.db").stat().st_size < 1_000_000
    files = list(shelf.folder.iterdir())
    assert all(path.stat().st_size > shelf.limit for path in files)
    assert not [path for path in files if path.suffix == ".part"]
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


def test_small_values_are_not_and_changed_files_are_refused(tmp_path: Path):
    shelf = Shelf(tmp_path, limit=10)
    codec = WrappedCodec(JsonCodec(), shelf.wrap, shelf.unwrap)
    assert codec.decode(codec.encode("small"), str) == "small"
    assert not list(tmp_path.iterdir())
    data = codec.encode("x" * 20)
    assert codec.encode("x" * 20) == data, "it may be written twice"
    (path,) = tmp_path.iterdir()
    path.write_bytes(b'"other"')
    with pytest.raises(ValueMismatch, match="was changed"):
        codec.decode(data, str)


def test_both_can_be_sent_to_another_process(tmp_path: Path):
    codec = encrypted({"old": OLD}, "old")
    shelf = Shelf(tmp_path)
    for each in (codec, WrappedCodec(codec, shelf.wrap, shelf.unwrap)):
        copy = pickle.loads(pickle.dumps(each))  # ours
        assert copy.decode(each.encode("x"), str) == "x"


def test_without_the_codec_the_result_is_an_error(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/s.db"

    async def main() -> None:
        async with open_worker(url, registry=flows, codec=encrypted({"old": OLD}, "old")) as worker:
            handle = await worker.client.start(tells.options(id="t"), "a")
            await handle.signal(word, "b")
            await handle.result()
        async with open_client(url, registry=flows, codec=encrypted({"new": NEW}, "new")) as client:
            await client.handle("t", tells).result()

    with pytest.raises((UndecodableValue, ValueMismatch), match="no key 'old' any more"):
        trio.run(main)
