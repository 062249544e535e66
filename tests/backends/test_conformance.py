"""The store contract, on every store that is ours, and on the model that lockstep has of them."""

from __future__ import annotations

from functools import partial

import pytest

from tests.stores import ALL, LOCAL, clock_of, connection_of, forget_worker, open_store
from trioflow.testing.conformance import Stage, conformance_cases


def _marks(store, host):
    # The host matters where there is a thread, and then SQLite stands for all; the campaign runs
    # the others on asyncio as well.
    if host == "asyncio" and store != "sqlite":
        return [pytest.mark.campaign]
    return [] if store in (*LOCAL, "model") else [pytest.mark.servers]


HOSTS = [
    pytest.param(store, host, id=f"{store}-{host}", marks=_marks(store, host))
    for store in ("model", *ALL)
    for host in ("trio", "asyncio")
]


@pytest.mark.parametrize(("store", "host"), HOSTS)
@pytest.mark.parametrize("case", conformance_cases(), ids=lambda case: case.__name__)
async def test_contract(case, store, host, tmp_path, servers):
    clock, pass_time = clock_of(store)
    backend = open_store(store, tmp_path, servers, clock=clock)()
    await backend.open()
    try:
        stage = Stage(
            backend,
            pass_time,
            forget_worker=partial(forget_worker, backend),
            connect=connection_of(backend),
            callers_overlap=store != "sqlite",
        )
        await case(stage)
    finally:
        await backend.aclose()


def test_every_case_of_a_module_is_listed():
    listed = conformance_cases()
    modules = {case.__module__ for case in listed}
    assert len(listed) == len({case.__name__ for case in listed})
    for name in modules:
        module = __import__(name, fromlist=["CASES"])
        written = [
            value
            for value in vars(module).values()
            if getattr(value, "__module__", None) == name
            and value.__class__.__name__ == "function"
            and not value.__name__.startswith("_")
            and value.__annotations__ == {"stage": "Stage", "return": "None"}
        ]
        assert list(module.CASES) == written
