"""A row that the store gave before it knew of the open batch must not undo what that batch says."""

# mypy: ignore-errors

from __future__ import annotations

import trio

from trioflow import JsonCodec, Registry
from trioflow._client.waiting import ResultWaiter
from trioflow._worker.activities.runner import ActivityRunner
from trioflow._worker.instances.pump import Pump
from trioflow._worker.polling import PollTimer
from trioflow._worker.real_host import running_host
from trioflow._worker.registration import Registration
from trioflow.backends.commits import NewInstance
from trioflow.backends.memory import MemoryBackend
from trioflow.backends.records import TakenInstance

registry = Registry()


@registry.workflow
async def nap() -> None:
    await trio.sleep(60)


def make_pump(backend):
    host = running_host()
    return Pump(
        backend=backend,
        host=host,
        registry=registry,
        codec=JsonCodec(),
        queues=["default"],
        limit=10,
        cache_size=10,
        max_steps=1000,
        make_runner=lambda listener: ActivityRunner(
            host=host,
            registry=registry,
            codec=JsonCodec(),
            now=backend.now,
            queues=[],
            limit=1,
            threads=1,
            processes=1,
            listener=listener,
            on_room=lambda _: None,
            on_interrupt=lambda _: None,
            begin_transaction=lambda *_: None,
        ),
        registration=Registration(),
        timer=PollTimer(backend),
        waiter=lambda: ResultWaiter(backend, lambda _: None),
    )


async def test_a_stale_row_does_not_undo_the_deadline_of_a_turn_in_the_open_batch():
    pump = make_pump(MemoryBackend(clock=lambda: 1000.0))
    pump.intake.start(NewInstance("n", "nap", "default", b"{}"))
    instance = pump.holdings.held["n"]
    instance.new = None  # as if it had been stored before this turn
    pump._step_some()
    assert instance.commit.wake_at == 1060.0
    before_that_turn = TakenInstance(
        *("n", 1, "nap", "default", b"{}", None, b"", b""),
        *(0, 0, 999.0, None, []),
    )
    pump.intake.receive(before_that_turn)
    pump._step_some()
    assert instance.commit.wake_at == 1060.0
    pump.drop_everything()
