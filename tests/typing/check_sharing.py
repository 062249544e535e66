"""What type checkers know of limits and of what instances share; `nox -s types` reads it."""

from __future__ import annotations

from typing import assert_type

from trioflow import (
    Client,
    Limit,
    SharedEvent,
    SharedLock,
    SharedSemaphore,
    activity,
    workflow,
)
from trioflow.backends import SharedState

opened = SharedEvent("market open")


@activity(queue="emails")
async def send(address: str, tenant: str) -> None: ...


@workflow
async def shares(account: str) -> str:
    async with SharedLock(account) as nothing, SharedSemaphore("gpu", 4):
        assert_type(nothing, None)
    await opened.wait()
    await opened.clear()
    await opened.set()
    SharedSemaphore("gpu", "4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return opened.name


async def limits(client: Client) -> None:
    await client.set_limit(queue="emails", concurrency=10, rate=5, per=1.0, key="tenant")
    await client.set_limit(activity=send, concurrency=3, key="tenant", key_concurrency=1)
    await client.set_limit(workflow=shares, concurrency=2)
    await client.set_limit(queue=send, rate=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    found = await client.limits()
    assert_type(found, list[Limit])
    assert_type(found[0].concurrency, int | None)
    assert_type(await client.remove_limit(workflow="shares"), bool)
    state = await client.shared(SharedLock("account-7"))
    assert_type(state, SharedState)
    assert_type(state.holders, list[str])
    assert_type((await client.shared(opened)).is_set, bool)
    await client.shared("account-7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
