"""Which context variables activities see."""

# mypy: ignore-errors

from __future__ import annotations

import asyncio
import sys
from contextvars import ContextVar

import anyio
import pytest

from tests.worker.flow import Flow
from trioflow import Registry, open_worker
from trioflow._worker.host import DetachedGroup
from trioflow._worker.real_host import running_host
from trioflow.backends.memory import MemoryBackend

tenant = ContextVar("tenant", default="nobody")


@pytest.fixture(params=["trio", "asyncio"])
def host(request, tmp_path, harness):
    return Flow("memory", request.param, 1000, tmp_path).of(harness)


def leaking():
    flows = Registry()
    seen = []

    @flows.activity
    async def act(n: int) -> None:
        seen.append(tenant.get())
        tenant.set(f"the one of {n}")
        await anyio.sleep(0)

    @flows.activity
    def in_thread(n: int) -> None:
        seen.append(tenant.get())
        tenant.set(f"the one of thread {n}")

    @flows.workflow
    async def work() -> None:
        await anyio.gather(*[act(n) for n in range(4)])
        await anyio.gather(*[in_thread(n) for n in range(3)])
        await act(5)

    return flows, work, seen


async def test_what_one_activity_sets_no_other_sees(host):
    flows, work, seen = leaking()

    tenant.set("the opener's")
    async with host.worker(flows, max_activities=1) as worker:
        tenant.set("the block's")
        await worker.client.run(work)
    assert seen == ["the opener's"] * 8


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks")
@pytest.mark.host("asyncio")
async def test_nor_where_tasks_begin_at_once():
    flows, work, seen = leaking()

    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    backend = MemoryBackend()
    await backend.open()
    tenant.set("the opener's")
    async with open_worker(backend, registry=flows, drain=0) as worker:
        await worker.client.run(work)
    await backend.aclose()
    assert seen == ["the opener's"] * 8


async def test_a_task_of_a_detached_group_has_its_starters_context(host):
    seen = []

    async def look():
        seen.append(tenant.get())

    group = DetachedGroup(running_host(), "test")
    for name in ("early", "late"):
        tenant.set(name)
        group.start_soon(look)
        tenant.set("other")
        await anyio.wait_all_tasks_blocked()
    group.close()
    await group.wait()
    assert seen == ["early", "late"]
