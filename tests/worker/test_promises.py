"""Promises are settled from anywhere, once; also an activity's work that somebody else does."""

from __future__ import annotations

import anyio
import pytest

from tests.worker.flow import until
from trioflow import (
    ArgumentError,
    InstanceFinished,
    InstanceNotFound,
    Promise,
    Registry,
    Signal,
    continue_as_new,
)

go = Signal("go", str)


class Board:
    """Where activities leave tokens, as in an e-mail."""

    def __init__(self):
        self.tokens = []
        self.flows = Registry()

        @self.flows.activity
        async def mail(token: str) -> None:
            self.tokens.append(token)

        @self.flows.workflow
        async def order(first: bool = True) -> dict[str, int]:
            promise = Promise("paid", dict[str, int])
            await mail(promise.token)
            if first:
                await go.receive()
            return await promise.receive()

        @self.flows.workflow
        async def again(times: int) -> int:
            promise = Promise("paid", int)
            await mail(promise.token)
            if times == 0:
                return await promise.receive()
            await go.receive()
            continue_as_new(times - 1)

        self.order, self.again = order, again

    async def token(self, number=1):
        async def there():
            return len(self.tokens) >= number and self.tokens[number - 1]

        return await until(there)


async def test_it_is_settled_once_from_anywhere(flow):
    board = Board()
    async with flow.client() as client, flow.worker(board.flows) as worker:
        handle = await worker.client.start(board.order)
        token = await board.token()
        assert await client.resolve(token, {"paid": 7}) is True
        assert await worker.client.resolve(token, {"paid": 8}) is False
        assert await client.reject(token, ValueError("too late")) is False
        await handle.signal(go, "")
        assert await handle.result() == {"paid": 7}
        assert await client.resolve(token, {"paid": 7}) is False


async def test_it_is_settled_while_no_worker_runs(flow):
    board = Board()
    async with flow.client() as client:
        async with flow.worker(board.flows):
            handle = await client.start(board.order, first=False)
            token = await board.token()
        assert await client.reject(token, LookupError("no such card")) is True
        async with flow.worker(board.flows):
            with pytest.raises(LookupError, match="no such card"):
                await handle.result()


async def test_many_at_once_settle_it_once(flow):
    board, settled = Board(), []
    async with flow.client() as client, flow.worker(board.flows) as worker:
        handle = await worker.client.start(board.order, first=False)
        token = await board.token()

        async def settle(via, number):
            settled.append(await via.resolve(token, {"by": number}))

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(settle, client if number % 2 else worker.client, number)
        assert sorted(settled) == [False] * 11 + [True]
        assert set(await handle.result()) == {"by"}


async def test_what_cannot_be_settled_says_so(flow):
    board = Board()
    async with flow.worker(board.flows) as worker:
        client = worker.client
        handle = await client.start(board.order.options(id="o"))
        token = await board.token()
        with pytest.raises(ArgumentError, match="is no token of a promise"):
            await client.resolve(token[:-9], 1)
        await handle.terminate()
        with pytest.raises(InstanceFinished, match="'o'"):
            await client.resolve(token, 1)
        await client.start(board.order.options(id="o"))
        await board.token(2)
        with pytest.raises(InstanceFinished, match="'o'"):
            await client.resolve(token, 1)
        gone = await client.start(board.order.options(id="gone"))
        lost = await board.token(3)
        await gone.terminate()
        await gone.remove()
        with pytest.raises(InstanceNotFound, match="'gone'"):
            await client.resolve(lost, 1)


async def test_one_of_an_earlier_execution_does_no_harm(flow):
    board = Board()
    async with flow.client() as client:
        async with flow.worker(board.flows):
            handle = await client.start(board.again, 1)
            first = await board.token()
        await handle.signal(go, "")
        assert await client.resolve(first, 1) is True
        async with flow.worker(board.flows):
            second = await board.token(2)
            assert await client.resolve(first, 2) is False
            assert await client.resolve(second, 3) is True
            assert await handle.result() == 3
