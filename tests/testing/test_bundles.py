"""Bundles of histories: what is under way, checked where its store cannot be reached."""

from __future__ import annotations

import pytest
import trio

from trioflow import JsonCodec, Registry, Signal, WrappedCodec, check_compatibility
from trioflow.errors import TrioflowError
from trioflow.testing import (
    check_bundle,
    check_replay,
    export_bundle,
    export_history,
    load_bundle,
    open_tester,
    save_bundle,
)

go = Signal("go", str)


def shop(*, first="charge", value=1):
    """Return definitions; in others the first call is another one, or has another argument."""
    flows = Registry()

    @flows.activity
    async def charge(number: int) -> int:
        return number

    @flows.activity
    async def ship(number: int) -> int:
        return number

    @flows.workflow
    async def order(rounds: int = 0) -> str:
        await flows.activities[first](value)
        return await go.receive()

    @flows.workflow
    async def waits() -> str:
        return await go.receive()

    return flows


async def under_way(path, codec=None, sample=None):
    """Write what is under way into a file; return what the store's own check says of other code."""
    flows = shop()
    async with open_tester(registry=flows, codec=codec) as tester:
        order, waits = flows.workflows["order"], flows.workflows["waits"]
        for number in range(3):
            await tester.start(order.options(id=f"order-{number}"))
        await tester.start(waits.options(id="waits"))
        await tester.start(waits.options(id="later", delay=60))
        done = await tester.start(waits.options(id="done"))
        await done.signal(go, "x")
        await done.result()
        await tester.sleep(1)
        await tester.client.handle("order-2").pause()
        save_bundle(await export_bundle(tester.client, sample=sample), path)
        return await check_compatibility(tester.client, shop(first="ship"), suspended=True)


async def test_other_code_diverges_as_it_would_on_the_store(tmp_path):
    there = await under_way(tmp_path / "all.json")
    here = check_bundle(tmp_path / "all.json", shop(first="ship"))
    assert here == there
    assert {misfit.instance for misfit in here.diverging} == {"order-0", "order-1", "order-2"}
    assert here.diverging[0].report.patch
    assert (here.checked, here.unknown) == (5, {})


async def test_the_same_code_fits_and_other_data_is_told(tmp_path):
    await under_way(tmp_path / "all.json")
    same = check_bundle((tmp_path / "all.json").read_bytes(), shop())
    assert same.ok
    assert same.differing == []
    other = check_bundle(load_bundle(tmp_path / "all.json"), shop(value=2))
    assert other.ok
    assert {misfit.instance for misfit in other.differing} == {"order-0", "order-1", "order-2"}
    assert check_bundle(tmp_path / "all.json", Registry()).unknown == {"order": 3, "waits": 2}


async def test_a_sample(tmp_path):
    await under_way(tmp_path / "some.json", sample=1)
    assert {each.workflow for each in load_bundle(tmp_path / "some.json")} == {"order", "waits"}
    assert check_bundle(tmp_path / "some.json", shop()).checked == 2


async def test_values_of_another_codec(tmp_path):
    codec = WrappedCodec(JsonCodec(), lambda data: data[::-1], lambda data: data[::-1])
    await under_way(tmp_path / "all.json", codec)
    assert check_bundle(tmp_path / "all.json", shop(), codec=codec).differing == []
    assert not check_bundle(tmp_path / "all.json", shop()).ok


async def test_a_single_history_is_a_bundle_but_no_bundle_a_history(tmp_path):
    flows = shop()
    async with open_tester(registry=flows) as tester:
        handle = await tester.start(flows.workflows["order"])
        await tester.sleep(1)
        (await export_history(handle)).save(tmp_path / "one.json")
        save_bundle(await export_bundle(tester.client), tmp_path / "all.json")
    assert check_bundle(tmp_path / "one.json", flows).checked == 1
    with pytest.raises(TrioflowError, match="is no history of an instance: it is a bundle"):
        check_replay(tmp_path / "all.json", flows.workflows["order"])


@pytest.mark.parametrize("data", [b"[1", b"[{}]", b"{}", b"nothing"])
def test_what_is_no_bundle(data):
    with pytest.raises(
        TrioflowError, match="it is no (bundle of histories|history of an instance)"
    ):
        load_bundle(data)


def test_none_at_all():
    async def main():
        async with open_tester(registry=shop()) as tester:
            with pytest.raises(ValueError, match="sample is at least 1, not 0"):
                await export_bundle(tester.client, sample=0)
            return await export_bundle(tester.client)

    assert trio.run(main) == []
    assert check_bundle([], shop()).ok
