"""An order from approval to parcel. Kill it with `kill -9` and run it again: it continues.

python examples/quickstart.py [FILE]      FILE is the SQLite database, quickstart.db by default
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from urllib.parse import quote

import trio

from trioflow import RetryPolicy, Signal, activity, open_worker, workflow


@dataclass
class Order:
    id: str
    amount: int


class OrderRejected(Exception):
    pass


approved = Signal("approved", bool)


@activity(retry=RetryPolicy(max_attempts=5), timeout=30)
async def charge(order: Order) -> str:  # ordinary code with side effects
    print(f"  {order.id}: charging {order.amount} euros", flush=True)
    await trio.sleep(0.5)
    return f"receipt {order.id}/{order.amount}"


@activity
def render_invoice(order: Order) -> str:  # a plain function runs in a thread
    print(f"  {order.id}: writing the invoice", flush=True)
    return f"{order.id}: {order.amount} euros, to be paid within 30 days"


@workflow
async def ship(order: Order) -> str:
    await pack(order)
    return f"parcel {order.id}"


@activity
async def pack(order: Order) -> None:
    print(f"  {order.id}: packing the parcel", flush=True)


@activity
async def thank(order: Order) -> None:
    print(f"  {order.id}: saying thank you", flush=True)


@workflow
async def checkout(order: Order) -> str:
    with trio.fail_after(3 * 24 * 3600):  # a deadline that survives restarts
        if not await approved.receive():
            raise OrderRejected(order.id)
    receipt = await charge(order)  # recorded once, not repeated on replay
    async with trio.open_nursery() as nursery:
        nursery.start_soon(render_invoice, order)
        nursery.start_soon(ship, order)
    await trio.sleep(5)  # survives a restart, too: kill the process here
    await thank(order)
    return receipt


async def main(file: str) -> None:
    order = Order("order-7", 120)
    # A killed worker's lease expires after so many seconds; then another one continues its work.
    async with open_worker(f"sqlite:///{quote(file)}", lease=3) as worker:
        client = worker.client
        if await client.count(id_prefix=order.id, status=("running", "suspended")):
            handle = client.handle(order.id, checkout)
            print(f"{order.id} goes on where it was, in process {os.getpid()}", flush=True)
        else:  # start and approve it, both or nothing
            call = checkout.options(id=order.id).bind(order)
            handle = await client.signal_with_start(call, approved, True)
            print(f"{order.id} has begun; process {os.getpid()} works on it", flush=True)
        print("The result:", await handle.result())


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "quickstart.db")
    except KeyboardInterrupt:
        sys.exit("Stopped. Run it again and it goes on.")
