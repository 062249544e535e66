"""Mistakes with schedules: each is refused with what to do, and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from tests.stores import opened
from trioflow import (
    ArgumentError,
    Cron,
    DefinitionError,
    Every,
    Registry,
    UndecodableValue,
    WrappedCodec,
    open_client,
)
from trioflow._codec.values import JsonCodec
from trioflow.backends.memory import MemoryBackend
from trioflow.testing import open_tester

flows = Registry()


@flows.workflow
async def report(what: str) -> str:
    return what


HOURLY = Every(hours=1)
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001  # on purpose
MISTAKES = {
    "a naive time": (lambda s: s.backfill(NAIVE, 0), "no time zone.*tzinfo=UTC"),
    "a past without end": (
        lambda s: s.backfill(0, 1e12),
        "to come; those runs begin by themselves",
    ),
    "an end before": (lambda s: s.backfill(20, 10), "before start"),
    "a time that is none": (lambda s: s.backfill("yesterday", 10), "a datetime with a time zone"),
    "a policy that is none": (lambda s: s.backfill(0, 10, overlap="skipp"), "did you mean 'skip'"),
    "another policy": (lambda s: s.replace(overlap="kill"), "overlap is 'skip', "),
    "a text": (lambda s: s.replace("0 9 * * *"), r"write Cron\('0 9 \* \* \* *'\)"),
    "a timedelta": (
        lambda s: s.replace(timedelta(hours=1)),
        r"write Every\(datetime.timedelta\(seconds=3600\)\)",
    ),
    "a call that is made": (lambda s: s.replace(call=report), r"write report\.bind\(argument, …\)"),
    "a function": (lambda s: s.replace(call=print), "a call of a workflow that is not made"),
    "wrong arguments": (lambda s: s.replace(call=report.bind(1)), "'what': Expected str, got int"),
    "no arguments": (lambda s: s.replace(call=report.bind()), "what"),
    "an id": (lambda s: s.replace(call=report.options(id="x").bind("a")), "has the option id="),
    "a delay": (
        lambda s: s.replace(call=report.options(delay=1).bind("a")),
        "has the option delay=",
    ),
    "if_exists": (
        lambda s: s.replace(call=report.options(if_exists="return").bind("a")),
        "a schedule begins each run once",
    ),
    "seconds that are none": (lambda s: s.replace(catch_up=timedelta(1)), r"\.total_seconds\(\)"),
    "a negative jitter": (lambda s: s.replace(jitter=-1), "jitter is a number of seconds"),
    "jitter without end": (lambda s: s.replace(jitter=float("inf")), "^jitter is .*, not inf"),
    "a long reason": (lambda s: s.pause("x" * 100_000), "a reason"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_changes_nothing(mistake):
    call, why = MISTAKES[mistake]
    async with opened(MemoryBackend()) as backend, open_client(backend) as client:
        made = await client.schedule("s", HOURLY, report.bind("a"))
        with pytest.raises((ArgumentError, DefinitionError, TypeError, ValueError), match=why):
            await call(made)
        assert (await client.handle("s").describe()).unread == 0


async def test_a_mistake_makes_no_schedule():
    async with opened(MemoryBackend()) as backend, open_client(backend) as client:
        for arguments in (
            ("s", "0 9 * * *", report.bind("a")),
            ("s", HOURLY, report),
            ("s", HOURLY, report.bind(1)),
            ("", HOURLY, report.bind("a")),
        ):
            with pytest.raises(ArgumentError):
                await client.schedule(*arguments)
        with pytest.raises(ArgumentError, match="has 460 characters, at most 459, so that"):
            await client.schedule("x" * 460, HOURLY, report.bind("a"))
        for wrong in ({"overlap": "no"}, {"catch_up": "1h"}, {"jitter": -1}):
            with pytest.raises((DefinitionError, TypeError, ValueError)):
                await client.schedule("s", HOURLY, report.bind("a"), **wrong)
        assert await client.schedules() == []
        assert await client.count(workflow="trioflow.schedule") == 0


def mirrored(data):
    return bytes(255 - byte for byte in data)


async def test_a_codec_hides_what_is_passed_on():
    codec = WrappedCodec(JsonCodec(), mirrored, mirrored)
    async with open_tester(registry=flows, codec=codec) as tester:
        client = tester.client
        made = await client.schedule("s", HOURLY, report.bind("secret"), overlap="buffer_one")
        await made.pause("secret")
        await anyio.sleep(1)
        record = await client.backend.get("s")
        assert b"secret" not in record.input + record.custom_status
        run = await made.trigger()
        assert await run.result() == "secret"
        await made.resume()
        await anyio.sleep(2 * 3600)
        found = await made.describe()
        assert (found.begun, found.running) == (3, [])  # it was told of the ends
        history = await client.backend.history("s")
        assert b"secret" not in b"".join(turn for one in history for turn in one.turns)
        async with open_client(client.backend) as other:
            with pytest.raises(UndecodableValue, match="what is stored of schedule 's'"):
                await other.schedule_handle("s").describe()


def test_they_say_what_they_are():
    assert repr(Cron("0 9 * * *", tz="Europe/Madrid")) == "Cron('0 9 * * *', tz='Europe/Madrid')"
    assert datetime.fromtimestamp(Cron("0 9 * * *").next_after(0), UTC).hour == 9
