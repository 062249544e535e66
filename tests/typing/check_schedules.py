"""What type checkers know of schedules. It is never run; `nox -s types` reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, assert_type

from trioflow import (
    Client,
    Cron,
    Every,
    Handle,
    ScheduleDescription,
    ScheduledRun,
    ScheduleHandle,
    info,
    workflow,
)


@workflow
async def report(what: str, *, copies: int = 1) -> list[str]:
    assert_type(info().scheduled_at, float | None)
    return [what] * copies


async def schedules(client: Client, at: datetime) -> None:
    daily = Cron("0 9 * * *", tz="Europe/Madrid")
    made = await client.schedule("a", daily, report.bind("all", copies=2), overlap="buffer_one")
    assert_type(made, ScheduleHandle[list[str]])
    assert_type(await made.trigger(), Handle[list[str]])
    assert_type(client.schedule_handle("a"), ScheduleHandle[Any])
    assert_type(client.schedule_handle("a", report), ScheduleHandle[list[str]])
    await made.replace(Every(minutes=5, offset=30), report.bind("some"), jitter=5)
    await made.backfill(at, at.timestamp(), overlap="allow")
    assert_type(await client.schedules(), list[ScheduleDescription])
    described = await made.describe()
    assert_type(described.calendar, Cron | Every)
    assert_type(described.running, list[ScheduledRun])
    assert_type(described.next_at, float | None)
    assert_type(daily.next_after(0), float | None)
    assert_type(Every(hours=1).next_after(0), float)

    await client.schedule("a", "0 9 * * *", report.bind("all"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.schedule("a", daily, report)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.schedule("a", daily, report.bind(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.schedule("a", daily, report.bind("b"), overlap="jump")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
