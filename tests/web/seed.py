"""Fills a store with instances of every kind, and serves its pages; for looking at them.

    python -m tests.web.seed shop.db --many 100000 --serve 8400

No test lives here; tests take `fill`. What is made is a shop on an ordinary bad day: orders with
parcels, imports that are tried again and again, a workflow whose code was changed, queues that
nobody serves, ids and texts that try to break out of the page.
"""

# mypy: ignore-errors

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
import trio

from tests.stores import opened
from tests.worker.flow import until_turns
from trioflow import (
    Cron,
    Every,
    Query,
    Registry,
    RetryPolicy,
    Signal,
    Update,
    heartbeat,
    open_worker,
    set_attributes,
    set_status,
)
from trioflow.backends import SqliteBackend

HOSTILE = (
    "<script>alert(1)</script>",
    "a/b c\"d'é?x=1&y#z%2F~7E",
    "..",
    "x" * 190,
    "مرحبا \u202etxt.exe",
    "--json'; DROP TABLE instances",
)

shop = Registry()
approved = Signal("approved", bool)
contents = Query("contents")
add = Update("add", argument=str)


@dataclass
class Order:
    id: str
    amount: int
    customer: str = "c7"


class CardDeclined(Exception):
    pass


@shop.activity(retry=RetryPolicy(max_attempts=3, initial_interval=0.01), timeout=30)
async def charge(order: Order) -> str:
    if order.amount > 900:
        raise CardDeclined(f"the bank has declined {order.amount} euros <b>of {order.customer}</b>")
    return f"receipt {order.id}/{order.amount}"


@shop.activity
async def pack(order: Order) -> None:
    await trio.sleep(0)


@shop.workflow
async def ship(order: Order) -> str:
    await pack(order)
    return f"parcel {order.id}"


@shop.workflow
async def order(order: Order) -> dict:
    """Take the money and send a parcel; large orders wait for somebody's word."""
    set_attributes(customer=order.customer, amount=order.amount, stage="new")
    if order.amount > 500:
        set_status({"step": "waits for approval"})
        if not await approved.receive():
            raise PermissionError(f"order {order.id} was not approved")
    receipt = await charge(order)
    set_attributes(stage="paid", paid_at=datetime(2026, 11, 26, 9, 30, tzinfo=UTC))
    parcel = await ship.options(id=f"{order.id}/parcel")(order)
    set_attributes(stage="sent", tags=["books", "gift"])
    return {"receipt": receipt, "parcel": parcel}


@shop.activity(retry=RetryPolicy(max_attempts=500, initial_interval=5, max_interval=900))
async def fetch_feed(url: str) -> int:
    heartbeat({"rows": 4_200, "of": 10_000})
    raise ConnectionError(f"{url}: connection refused")


@shop.workflow
async def import_feed(url: str) -> int:
    set_status("fetching")
    return await fetch_feed(url)


@shop.workflow
async def several(names: list[str]) -> None:
    """Fail with a group of failures."""
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(_one_of, name)


async def _one_of(name: str) -> None:
    raise ValueError(f"{name} cannot be read")


@shop.workflow
async def nap(seconds: float) -> None:
    await trio.sleep(seconds)


@shop.workflow
async def cart(user: str) -> list[str]:
    items: list[str] = []
    contents.handler(lambda: items)

    @add.handler
    async def _(item: str) -> int:
        items.append(item)
        return len(items)

    while await approved.receive():
        pass
    return items


@shop.workflow(name="billing")
async def billing_of_last_week(customer: str) -> None:
    await pack(Order("b", 1, customer))
    await approved.receive()


@shop.workflow
async def report(what: str) -> str:
    return f"<h1>{what}</h1>"


later = Registry()


@later.activity(name="pack")
async def pack_again(order: Order) -> None:
    await trio.sleep(0)


@later.workflow(name="billing")
async def billing(customer: str) -> None:
    await approved.receive()


class Clock:
    """Real time, but a while ago."""

    def __init__(self, ago: float = 0.0) -> None:
        self.ago = ago

    def __call__(self) -> float:
        return time.time() - self.ago


async def fill(backend, clock: Clock | None = None, *, waves: int = 6) -> None:
    """Leave about ten instances of each kind in an empty store.

    Args:
        backend: The store. It is left open.
        clock: Its clock, if it can be set back: then the instances are spread over its hours.
        waves: In how many steps.
    """
    hours = 0.0 if clock is None else clock.ago / 3600
    random.seed(7)
    async with open_worker(backend, registry=shop, name="seed", lease=600, sticky=0) as worker:
        client = worker.client
        held = []
        for wave in range(waves):
            if clock is not None:
                clock.ago = hours * 3600 * (1 - wave / waves)
            held += await _wave(client, wave)
        if clock is not None:
            clock.ago = 240
        await client.schedule("nightly-report", Cron("0 3 * * *"), report.bind("all"))
        await client.schedule("every-5-min", Every(minutes=5), report.bind("<u>some</u>"))
        paused = await client.schedule("monthly/close", Cron("0 0 1 * *"), report.bind("month"))
        await paused.pause("until the books are closed")
        await paused.trigger()
        await client.set_limit(queue="emails", concurrency=10, rate=5)
        await client.set_limit(activity="charge", concurrency=3, key="order")
        for number in range(3):
            await client.start(
                import_feed.options(id=f"feed-{number}"), f"https://feed{number}.example/<x>"
            )
        for id in HOSTILE:
            await client.start(cart.options(id=id), id)
        await client.start(nap.options(id="unserved-1", queue="nobody's queue"), 5)
        await client.start(nap.options(id="not-before-tomorrow", delay=86_400), 5)
        diverged = await client.start(billing_of_last_week.options(id="billing-7"), "c7")
        await until_turns(diverged, 2)
        stopped = await client.start(nap.options(id="paused-1"), 86_400)
        await stopped.pause("somebody looks into it\nby <b>ann</b>")
        with anyio.move_on_after(20):
            for handle in held:
                await handle.wait()
    async with open_worker(backend, registry=later, name="seed 2", lease=600, sticky=0) as worker:
        await worker.client.handle("billing-7").signal(approved, True)
        with anyio.move_on_after(20):
            await worker.client.handle("billing-7").wait(status="suspended")


async def _wave(client, wave: int) -> list:
    """Start some of each kind that ends by itself; return what is to be waited for."""
    found = []
    for number in range(8):
        amount = random.choice([12, 80, 450, 700, 950])
        one = Order(f"order-{wave}{number}", amount, random.choice(["c7", "c8", "ann & bob"]))
        handle = await client.start(order.options(id=one.id, priority=number % 3), one)
        if amount <= 500:
            found.append(handle)
        elif number % 2:
            await handle.signal(approved, amount > 900)
            found.append(handle)
    for handle in found:
        await handle.wait()
    await (await client.start(several.options(id=f"several-{wave}"), ["a", "<b>", "c"])).wait()
    gone = await client.start(nap.options(id=f"nap-{wave}"), 86_400)
    await (gone.cancel("no longer needed") if wave % 2 else gone.terminate("it was a test"))
    return [*found, gone]


def multiply(path: Path, many: int) -> None:
    """Store copies of instances that have ended, and of some that have not, in a SQLite file."""
    import sqlite3  # noqa: PLC0415

    db = sqlite3.connect(path)
    columns = [row[1] for row in db.execute("PRAGMA table_info(instances)")]
    own = {"seq", "id", "life", "created_at", "finished_at", "ready_at", "wake_at"}
    copied = ", ".join(name for name in columns if name not in own)
    found = db.execute(
        "SELECT seq, id FROM instances WHERE parent IS NULL AND worker IS NULL"
        " AND workflow NOT LIKE 'trioflow%' AND id NOT LIKE '%<%'"
    ).fetchall()
    random.seed(11)
    now = time.time()
    ages = sorted((random.expovariate(1 / 400_000) for _ in range(many)), reverse=True)
    db.execute("BEGIN")
    for number, age in enumerate(ages):
        seq, id = random.choice(found)
        new = f"{id.rstrip('0123456789')}{random.getrandbits(40):010x}"
        made = db.execute(
            f"INSERT INTO instances (id, life, created_at, finished_at, {copied})"
            f" SELECT ?, ?, ?, CASE WHEN finished_at IS NULL THEN NULL ELSE ? END, {copied}"
            " FROM instances WHERE seq = ?",
            (new, f"{number:032x}", now - age, now - age + 3, seq),
        )
        db.execute(
            "INSERT INTO attributes (seq, name, word, quantity)"
            " SELECT ?, name, word, quantity FROM attributes WHERE seq = ?",
            (made.lastrowid, seq),
        )
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


async def serve(path: str, port: int, *, title: str) -> None:
    """Serve the pages, with workers beside them, until Ctrl-C."""
    from hypercorn.config import Config  # noqa: PLC0415
    from hypercorn.trio import serve  # noqa: PLC0415

    import trioflow.web  # noqa: PLC0415

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = None
    async with (
        open_worker(path, registry=shop, name="shop-1", queues=("default", "emails")) as worker,
        open_worker(path, registry=shop, name="shop-2:4711", workflows=False),
    ):
        access = trioflow.web.Access(password="shop")
        pages = trioflow.web.app(worker.client, registry=shop, title=title, access=access)
        await serve(pages, config)


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--serve", type=int, default=0, metavar="PORT")
    given = parser.parse_args()
    if not given.file.exists():
        clock = Clock(30 * 3600)

        async def fill_it() -> None:
            async with opened(SqliteBackend(given.file, clock=clock)) as store:
                await fill(store, clock)

        trio.run(fill_it)
        if given.many:
            multiply(given.file, given.many)
    if given.serve:
        trio.run(lambda: serve(f"sqlite:///{given.file.absolute()}", given.serve, title="shop"))


if __name__ == "__main__":
    main()
