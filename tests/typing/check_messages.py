"""What type checkers know of messages. It is never run; `nox -s types` reads it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, assert_type

from trioflow import (
    Client,
    Handle,
    Promise,
    Query,
    Signal,
    Update,
    UpdateHandle,
    forward_unread,
    workflow,
)

add = Update("add", argument=str, result=int)
flush = Update("flush", result=list[str])
note = Update("note", argument=str)
anything = Update("anything")
contents = Query("contents", result=list[str])
matching = Query("matching", argument=str, result=list[str])


@workflow
async def cart(user: str) -> list[str]:
    items: list[str] = []

    def check(item: str) -> None:
        if not item:
            raise ValueError(item)

    @add.handler(validator=check)
    async def _(item: str) -> int:
        items.append(item)
        return len(items)

    @flush.handler
    async def _flush() -> list[str]:
        return [user]

    assert_type(_flush, Callable[[], Awaitable[list[str]]])
    flush.handler(lambda: items)
    note.handler(items.append)

    contents.handler(lambda: items)

    @Query.any_handler
    def _any(name: str, value: Any) -> list[str]:
        return [name, str(value)]

    assert_type(_any("x", 1), list[str])

    @Update.any_handler
    async def _other(name: str, value: Any) -> str:
        return name

    assert_type(await _other("x", 1), str)
    Query.any_handler(lambda name: name)  # type: ignore[type-var]

    @matching.handler
    def matches(text: str) -> list[str]:
        return [item for item in items if text in item]

    assert_type(matches("x"), list[str])
    matching.handler(lambda: items)  # type: ignore[misc, arg-type]
    contents.handler(lambda: user)  # type: ignore[arg-type, return-value]

    async def wrong(item: int) -> int:
        return item

    def wrong_result(item: str) -> str:
        return item

    add.handler(wrong)  # type: ignore[arg-type]
    add.handler(wrong_result)  # type: ignore[arg-type]
    add.handler(validator=lambda: None)  # type: ignore[misc, arg-type]
    return items


@workflow(unread="fail")
async def hands_on(to: str) -> int:
    return await forward_unread(to)


@workflow
async def promises() -> str:
    paid = Promise("paid", dict[str, int])
    assert_type(paid, Promise[dict[str, int]])
    assert_type(paid.token, str)
    assert_type(await paid.receive(), dict[str, int])
    return paid.token


async def settling(client: Client) -> None:
    assert_type(await client.resolve("token", 3), bool)
    assert_type(await client.reject("token", ValueError()), bool)
    await client.reject("token", "no error")  # type: ignore[arg-type]


async def any_signals() -> None:
    assert_type(await hands_on("x"), int)
    assert_type(await Signal.any().receive(), tuple[str, Any])
    assert_type(Signal.any().receive_nowait(), tuple[str, Any])
    async for name, value in Signal.any():
        assert_type(name, str)
        assert_type(value, Any)


async def updates(client: Client, handle: Handle[int]) -> None:
    assert_type(add, Update[[str], int])
    assert_type(flush, Update[[], list[str]])
    assert_type(note, Update[[str], Any])
    assert_type(anything, Update[[], Any])
    assert_type(add.options(id="x"), Update[[str], int])
    assert_type(await handle.update(add, "tea"), int)
    assert_type(await handle.update(add.options(id="1"), "tea", wait_suspended=False), int)
    assert_type(await handle.update(flush), list[str])
    assert_type(await handle.update("add", "tea"), Any)
    assert_type(await handle.update("flush"), Any)
    begun = await handle.start_update(add, "tea")
    assert_type(begun, UpdateHandle[int])
    assert_type(begun.id, str)
    assert_type(await begun.result(), int)
    assert_type(await handle.start_update(flush), UpdateHandle[list[str]])
    await handle.update(add, 3)  # type: ignore[arg-type]
    await handle.update(add)  # type: ignore[arg-type]
    await handle.update(flush, 3)  # type: ignore[arg-type]


async def with_start(client: Client) -> None:
    call = cart.options(id="ann").bind("ann")
    assert_type(await client.update_with_start(call, add, "tea"), int)
    assert_type(await client.update_with_start(call, flush), list[str])
    await client.update_with_start(call, add)  # type: ignore[arg-type]
    await client.update_with_start(call, add, 3)  # type: ignore[arg-type]


async def queries(handle: Handle[int]) -> None:
    assert_type(contents, Query[[], list[str]])
    assert_type(matching, Query[[str], list[str]])
    assert_type(Query("any"), Query[[], Any])
    assert_type(await handle.query(contents), list[str])
    assert_type(await handle.query(contents, timeout=3), list[str])
    assert_type(await handle.query(matching, "tea"), list[str])
    assert_type(await handle.query("contents"), Any)
    await handle.query(matching)  # type: ignore[arg-type]
    await handle.query(matching, 3)  # type: ignore[arg-type]
    await handle.query(contents, 3)  # type: ignore[arg-type]
