"""What type checkers must know of tests of workflows; see `check_types`. Never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any, assert_type

from trioflow import ActivityInfo, Client, Compatibility, Handle, activity, workflow
from trioflow.testing import (
    Cluster,
    ClusterReport,
    Fake,
    History,
    activity_context,
    check_bundle,
    export_bundle,
    load_bundle,
    open_tester,
    save_bundle,
)


@activity
async def charge(order: str) -> int:
    return len(order)


@workflow
async def checkout(order: str) -> float:
    return await charge(order)


async def wait(order: str) -> int:
    return len(order)


def plain(order: str) -> int:
    return len(order)


def of_another_type(order: int) -> int:
    return order


def with_another_result(order: str) -> str:
    return order


async def fakes_are_typed_like_the_originals() -> None:
    async with open_tester() as tester:
        tester.fake(charge, plain)
        tester.fake(charge, wait)
        assert_type(tester.fake("charge", of_another_type), Fake[..., Any])
        tester.fake(charge, of_another_type)  # type: ignore[misc, arg-type]
        tester.fake(charge, with_another_result)  # type: ignore[arg-type]
        assert_type(await tester.start(checkout, "a"), Handle[float])
        assert_type(await tester.run(checkout, "a"), float)
        await tester.run(checkout, 1)  # type: ignore[arg-type]

        def watch(child: Handle[float]) -> None: ...
        def watch_another(child: Handle[str]) -> None: ...

        tester.on_start(checkout, watch)
        tester.on_start("checkout", watch)
        tester.on_start(checkout, watch_another)  # type: ignore[arg-type]


async def activities_alone() -> None:
    with activity_context(charge, attempt=2) as about:
        assert_type(about, ActivityInfo)
        assert_type(await charge("a"), int)
    activity_context(attempt="2")  # type: ignore[arg-type]


async def bundles(client: Client) -> None:
    histories = await export_bundle(client, sample=20)
    assert_type(histories, list[History])
    assert_type(save_bundle(histories, "under-way.json"), None)
    assert_type(load_bundle("under-way.json"), list[History])
    assert_type(check_bundle("under-way.json"), Compatibility)
    check_bundle(histories[0])  # type: ignore[arg-type]


def clusters() -> None:
    async def scenario(client: Client) -> None: ...

    assert_type(Cluster(1, workers=3).run(scenario), ClusterReport)
