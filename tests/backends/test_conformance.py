"""The store contract, on every store that is ours."""

from __future__ import annotations

import anyio
import pytest

pytest.register_assert_rewrite("trioflow.testing.conformance")

from trioflow.backends.memory import MemoryBackend  # noqa: E402 - after the rewriting is set up
from trioflow.backends.sqlite import SqliteBackend  # noqa: E402
from trioflow.testing.conformance import Stage, conformance_cases  # noqa: E402


class Clock:
    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now

    async def advance(self, seconds):
        self.now += seconds


def stores():
    return {
        "memory": lambda path, clock: MemoryBackend(clock=clock),
        "sqlite": lambda path, clock: SqliteBackend(path / "flow.db", clock=clock),
    }


@pytest.mark.parametrize("host", ["trio", "asyncio"])
@pytest.mark.parametrize("store", stores())
@pytest.mark.parametrize("case", conformance_cases(), ids=lambda case: case.__name__)
def test_contract(case, store, host, tmp_path):
    async def main():
        clock = Clock()
        backend = stores()[store](tmp_path, clock)
        await backend.open()
        try:
            await case(Stage(backend, clock.advance))
        finally:
            await backend.aclose()

    anyio.run(main, backend=host)


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
            and value.__annotations__ == {"stage": "Stage", "return": "None"}
        ]
        assert list(module.CASES) == written
