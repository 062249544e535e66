"""Schedules in simulated clusters: each time is run once, whatever dies or is cut off meanwhile."""

from __future__ import annotations

import pytest
import trio

from trioflow import Every, Registry, activity_info, info
from trioflow.testing.cluster import Cluster

flows = Registry()


@flows.activity
async def note(at: float | None) -> str:
    return f"{at} {activity_info().attempt}"


@flows.workflow
async def run() -> float | None:
    await note(info().scheduled_at)
    return info().scheduled_at


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL", "trioflow")


@pytest.mark.parametrize("overlap", ["allow", "buffer_all", "terminate_other"])
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(1, 10))]
)
def test_each_time_is_run_once(seed, overlap):
    async def scenario(client):
        began = client.backend.now()
        made = await client.schedule("s", Every(seconds=10), run.bind(), overlap=overlap)
        await trio.sleep(200)
        until = client.backend.now()
        await made.pause()
        while (await made.describe()).paused is None or (await made.describe()).running:
            await trio.sleep(1)
        found = await client.list(id_prefix="s/", limit=1000)
        shown = await made.describe()
        assert shown.missed == 0
        assert shown.begun == len(found)
        # What is replaced before it has begun is skipped; all else is run, and nothing twice.
        due = until // 10 - began // 10
        assert shown.begun + shown.skipped + len(shown.waiting) == due
        assert overlap == "terminate_other" or not shown.skipped
        done = {one.id for one in found if one.status == "completed"}
        assert overlap == "terminate_other" or len(done) == len(found)
        await made.remove()

    Cluster(seed, registry=flows).run(scenario)
