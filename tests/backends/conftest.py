"""Fixtures of the stores' own tests."""

from __future__ import annotations

import contextlib

import pytest

from tests.backends.mysql_stage import Database


@pytest.fixture
def mysql(servers):
    """An empty database of a private MariaDB server."""
    with contextlib.closing(Database(servers.url("mariadb"))) as database:
        yield database
