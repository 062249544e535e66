"""Fixtures of all tests: the private servers, and the stores."""

from __future__ import annotations

import pytest

from tests.servers import Servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """Private servers, started when the first test asks for one."""
    running = Servers(tmp_path_factory.mktemp("servers"))
    yield running
    running.close()
