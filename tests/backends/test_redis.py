"""What is Redis's own: the contract on a real server, and trouble with it."""

from __future__ import annotations

import itertools
import os

import anyio
import pytest

pytest.importorskip("redis")
pytest.register_assert_rewrite("trioflow.testing.conformance")

from tests.servers import redis as servers  # noqa: E402
from trioflow.backends.redis.backend import RedisBackend  # noqa: E402
from trioflow.testing.conformance import Stage, conformance_cases  # noqa: E402

_missing = servers.available()
if _missing and os.environ.get("CI") != "true":
    pytest.skip(_missing, allow_module_level=True)

_prefixes = (f"test{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with servers.start(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.mark.parametrize("host", ["trio", "asyncio"])
@pytest.mark.parametrize("case", conformance_cases(), ids=lambda case: case.__name__)
def test_contract(case, host, server):
    async def main():
        backend = RedisBackend(server, prefix=next(_prefixes))
        await backend.open()
        try:
            await case(Stage(backend, anyio.sleep))
        finally:
            await backend.aclose()

    anyio.run(main, backend=host)
