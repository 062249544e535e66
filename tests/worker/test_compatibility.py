"""Whether the present code fits what is under way, and what a worker does if it does not."""

# mypy: ignore-errors

from __future__ import annotations

import itertools
import logging

import pytest
import trio

from tests.worker.flow import serving, until_parked, until_status
from trioflow import (
    DefinitionError,
    IncompatibleCode,
    JsonCodec,
    NoWorkerAnswered,
    QueryNotHandled,
    Registry,
    Signal,
    WrappedCodec,
    check_compatibility,
    continue_as_new,
    open_worker,
    workflow_by_name,
)

go = Signal("go", int)
changes, keeps, passes = map(workflow_by_name, ("changes", "keeps", "passes"))
gone = workflow_by_name("gone")


def versions():
    """The registries of the old code, and of the new one."""
    old, new = Registry(), Registry()
    for registry in (old, new):

        @registry.activity
        async def pay(amount: int = 1) -> str:
            return "paid"

        @registry.activity
        async def check() -> str:
            return "checked"

        @registry.workflow(name="changes")
        async def changing(rounds: int = 1, *, first=pay if registry is old else check) -> str:
            result = await first()
            await go.receive()
            if rounds > 1:
                continue_as_new(rounds - 1)
            return result

        @registry.workflow(name="keeps")
        async def keeping(*, pay=pay) -> str:
            await go.receive()
            return await pay()

        @registry.workflow(name="passes")
        async def passing(*, pay=pay, amount=1 if registry is old else 2) -> str:
            await pay(amount)
            await go.receive()
            return "passed"

    @old.workflow(name="gone")
    async def going() -> None:
        await go.receive()

    return old, new


async def begin(client, *definitions, turns=1):
    """Start an instance of each workflow, under its name; wait until they wait for a signal."""
    for definition in definitions:
        handle = await client.start(definition.options(id=definition.name))
        await until_parked(handle, turns=2 if definition in (changes, passes) else 1)


# --- the check ------------------------------------------------------------------------------


async def test_what_fits_and_what_does_not(flow):
    old, new = versions()
    async with flow.worker(old) as worker:
        await begin(worker.client, changes, keeps, passes, gone)
        assert (await check_compatibility(worker.client, old)).ok
    async with flow.client() as client:
        await client.start(keeps.options(id="not begun"))
        before = [await client.backend.get(id) for id in ("changes", "keeps", "passes", "gone")]
        found = await check_compatibility(client, new)
        after = [await client.backend.get(id) for id in ("changes", "keeps", "passes", "gone")]
    assert before == after
    assert not found.ok
    assert (found.checked, found.unknown) == (4, {"gone": 1})
    (misfit,) = found.diverging
    assert (misfit.instance, misfit.workflow, misfit.execution) == ("changes", "changes", 1)
    assert misfit.report.recorded == "activity 'pay' (0:0)"
    assert misfit.report.current == "activity 'check' (0:0)"
    assert misfit.report.patch == "check"
    (misfit,) = found.differing
    assert misfit.instance == "passes"
    assert '{"amount":1}' in misfit.report.message
    counted = "4 instances were checked: 1 does not fit the present code, 1 would only pass"
    for text in (counted, "'changes'", "'passes'", "'gone'", "if patched('check')"):
        assert text in str(found)


async def test_a_sample(backend):
    old, new = versions()
    async with serving(backend, old) as client:
        for n in range(30):
            await client.start(changes.options(id=f"{n}"))
            await client.start(keeps.options(id=f"keeps {n}"))
        await trio.sleep(1)
        found = await check_compatibility(client, new, sample=5)
        again = await check_compatibility(client, new, sample=5)
        everything = await check_compatibility(client, new)
        with pytest.raises(ValueError, match="sample"):
            await check_compatibility(client, new, sample=0)
    assert (found.checked, len(found.diverging)) == (10, 5)
    assert [m.instance for m in found.diverging] == [m.instance for m in again.diverging]
    assert {int(m.instance) for m in found.diverging} != set(range(25, 30))  # not the newest alone
    assert (everything.checked, len(everything.diverging)) == (60, 30)
    assert "and 10 more" in str(everything)


async def test_suspended_ones_if_they_are_asked_for(backend, caplog):
    caplog.set_level(logging.CRITICAL, "trioflow.worker")
    old, new = versions()
    async with serving(backend, old) as client:
        await begin(client, changes)
    async with serving(backend, new) as client:
        handle = client.handle("changes")
        await handle.signal(go, 1)
        await until_status(handle, "suspended")
        assert (await check_compatibility(client, new)).checked == 0
        assert not (await check_compatibility(client, new, suspended=True)).ok
        assert (await check_compatibility(client, old, suspended=True)).ok


async def test_arguments_that_new_code_cannot_read(backend):
    old, new = Registry(), Registry()

    @old.workflow(name="takes")
    async def before(value: str) -> None: ...

    @new.workflow(name="takes")
    async def after(value: int) -> None: ...

    async with open_worker(backend, registry=old, queues=("other",)) as worker:
        await worker.client.start(before.options(id="t"), "x")
        found = await check_compatibility(worker.client, new)
    (misfit,) = found.diverging
    assert misfit.report.kind == "undecodable"


async def test_a_codec_that_encodes_otherwise_each_time(backend, caplog):
    nonces = itertools.count()
    codec = WrappedCodec(
        JsonCodec(), lambda data: b"%8d" % next(nonces) + data, lambda data: data[8:]
    )
    old, new = versions()
    async with open_worker(backend, registry=old, codec=codec, drain=0) as worker:
        await begin(worker.client, passes, keeps)
        found = await check_compatibility(worker.client, old)
        assert (found.differing, found.diverging) == ([], [])
        (misfit,) = (await check_compatibility(worker.client, new)).differing
    assert "amount" not in misfit.report.message
    assert "the codec hides which" in misfit.report.message


async def test_a_change_of_the_workflows_own_source_is_told(backend):
    old, new = Registry(), Registry()
    for registry in (old, new):

        @registry.activity
        async def pay() -> str:
            return "paid"

        @registry.activity
        async def check() -> str:
            return "checked"

    async def helper(registry):
        await registry.activities["pay" if registry is old else "check"]()
        await go.receive()

    async def same(*, registry=old) -> None:
        await helper(registry)

    async def same_again(*, registry=new) -> None:
        await helper(registry)

    old.workflow(name="w")(same)
    new.workflow(name="w")(same_again)
    async with serving(backend, old) as client:
        handle = await client.start(workflow_by_name("w").options(id="w"))
        await until_parked(handle, turns=2)
        (turn, *_) = (await handle.history())[0].turns
        assert turn.events[0].code == old.workflows["w"].fingerprint
        found = await check_compatibility(client, new)
        assert found.changed == 1
        assert "source has changed since the execution began" in str(found)
        new.workflows["w"].__dict__["fingerprint"] = old.workflows["w"].fingerprint
        found = await check_compatibility(client, new)
        assert found.changed == 0
        assert "a function that it calls has changed" in str(found)


# --- what a worker does ---------------------------------------------------------------------


async def test_warn_tells_at_once_and_changes_nothing(flow, caplog):
    old, new = versions()
    async with flow.worker(old) as worker:
        await begin(worker.client, changes, keeps, passes)
    caplog.clear()
    async with flow.worker(new, check="warn") as worker:
        ours = [r for r in caplog.records if r.name == "trioflow.worker"]
        told = [r.getMessage() for r in ours if r.levelno == logging.WARNING]
        assert ["'changes'" in text for text in told].count(True) == 1
        assert ["'passes'" in text for text in told].count(True) == 1
        assert len(told) == 2
        assert (await worker.client.handle("changes").describe()).status == "running"
        await worker.client.handle("keeps").signal(go, 1)
        assert await worker.client.handle("keeps").result() == "paid"
        await worker.client.handle("changes").signal(go, 1)
        await until_status(worker.client.handle("changes"), "suspended")


async def test_leave_leaves_them_to_the_old_code(flow):
    old, new = versions()
    async with flow.worker(old) as worker:
        await begin(worker.client, changes, keeps)
    async with flow.worker(new, check="leave", sticky=0.0) as worker:
        for name in ("changes", "keeps"):
            await worker.client.handle(name).signal(go, 1)
        assert await worker.client.handle("keeps").result() == "paid"
        described = await worker.client.handle("changes").describe()
        assert (described.status, described.unread) == ("running", 1)
        async with flow.worker(old):
            assert await worker.client.handle("changes").result() == "paid"
        # The same id once more, with the new code.
        handle = await worker.client.start(changes.options(id="changes"))
        await handle.signal(go, 1)
        assert await handle.result() == "checked"


async def test_what_is_left_is_asked_by_the_old_code(flow):
    old, new = versions()
    async with flow.worker(old) as worker:
        await begin(worker.client, changes)
    async with flow.worker(new, check="leave", sticky=0.0) as worker:
        handle = worker.client.handle("changes")
        with pytest.raises(NoWorkerAnswered):
            await handle.query("stage", timeout=0.1)
        async with flow.worker(old):
            for _ in range(5):
                with pytest.raises(QueryNotHandled):
                    await handle.query("stage")


async def test_one_that_comes_from_an_old_worker_is_left(backend, caplog):
    """The check at the start has not seen it."""
    old, new = versions()
    async with serving(backend, new, check="leave", sticky=0.0) as client:
        async with serving(backend, old, sticky=0.0) as older:
            for n in range(20):
                await older.start(changes.options(id=f"{n}"))
            await trio.sleep(1)
            assert not await client.list(status="suspended")
        caplog.clear()
        for n in range(20):
            await client.handle(f"{n}").signal(go, n)
        await trio.sleep(5)
        assert caplog.text.count("is left to workers with other code") == 20
        assert (await client.stats())[0].pending_instances == 20
        async with serving(backend, old):
            for n in range(20):
                assert await client.handle(f"{n}").result() == "paid"


async def test_what_goes_on_in_another_execution_is_not_left_any_more(backend):
    old, new = versions()
    for registry, name in ((old, "pay"), (new, "check")):
        activity = registry.activities[name]

        @registry.workflow(name="goes on")
        async def work(*, last: bool = False, activity=activity) -> str:
            if not last:
                await activity()
            await go.receive()
            if not last:
                continue_as_new(last=True)
            return "done"

    async with serving(backend, old) as client:
        handle = await client.start(workflow_by_name("goes on").options(id="g"))
        await until_parked(handle, turns=2)
    async with serving(backend, new, check="leave", sticky=0.0) as client:
        handle = client.handle("g")
        async with serving(backend, old):
            await handle.signal(go, 1)
            await trio.sleep(5)
        described = await handle.describe()
        assert (described.status, described.execution) == ("running", 2)
        await handle.signal(go, 2)
        assert await handle.result() == "done"


async def test_refuse(flow):
    old, new = versions()
    async with flow.worker(old) as worker:
        await begin(worker.client, changes, keeps)
    with pytest.raises(IncompatibleCode, match=r"(?s)does not start: 2 instances.*'changes'"):
        async with flow.worker(new, check="refuse"):
            pytest.fail("it started")
    async with flow.worker(old, check="refuse") as worker:
        assert [each.workers for each in await worker.client.stats()] == [1]
        await worker.client.handle("changes").signal(go, 1)
        assert await worker.client.handle("changes").result() == "paid"
    async with flow.worker(new, check="refuse"):
        pass


async def test_only_the_workers_own_queues_count(backend):
    old, new = versions()
    async with serving(backend, old, queues=("other",)) as client:
        handle = await client.start(changes.options(id="changes", queue="other"))
        await until_parked(handle, turns=2)
    async with serving(backend, new, check="refuse"):
        pass
    async with open_worker(
        backend, registry=new, workflows=False, queues=("other",), check="refuse"
    ):
        pass
    with pytest.raises(IncompatibleCode):
        async with serving(backend, new, check="refuse", queues=("default", "other")):
            pass


async def test_a_workflow_of_which_too_many_do_not_fit(backend, monkeypatch):
    monkeypatch.setattr("trioflow._worker.instances.holdings._MOST_LEFT", 2)
    old, new = versions()
    async with serving(backend, old) as client:
        for n in range(3):
            await client.start(changes.options(id=f"{n}"))
        await begin(client, keeps)
        await trio.sleep(1)
    async with serving(backend, new, check="leave") as client:
        for id in ("0", "1", "2", "keeps"):
            await client.handle(id).signal(go, 1)
        assert await client.handle("keeps").result() == "paid"
        fresh = await client.start(changes.options(id="fresh"))  # by whoever takes the workflow
        await trio.sleep(5)
        assert (await fresh.describe()).status == "running"
        assert (await client.stats())[0].pending_instances == 4
        with pytest.raises(NoWorkerAnswered):
            await client.handle("0").query("stage", timeout=0.1)
        async with serving(backend, old):
            await fresh.signal(go, 1)
            assert await fresh.result() == "paid"


async def test_a_workflow_of_which_too_many_come_from_an_old_worker(backend, monkeypatch, caplog):
    monkeypatch.setattr("trioflow._worker.instances.holdings._MOST_LEFT", 2)
    old, new = versions()
    async with serving(backend, new, check="leave", sticky=0.0) as client:
        async with serving(backend, old, sticky=0.0) as older:
            for n in range(6):
                await older.start(changes.options(id=f"{n}"))
            await trio.sleep(1)
        for n in range(6):
            await client.handle(f"{n}").signal(go, n)
            await trio.sleep(1)
        assert caplog.text.count("is left to workers with other code") == 3
        assert "3 running instances of workflow 'changes' do not fit the code: none" in caplog.text
        async with serving(backend, old):
            for n in range(6):
                assert await client.handle(f"{n}").result() == "paid"


@pytest.mark.parametrize("check", ["of", None, True])
def test_there_is_no_such_check(check):
    with pytest.raises(DefinitionError, match="check is 'off', 'warn', 'leave' or 'refuse'"):
        open_worker("memory://", check=check)
