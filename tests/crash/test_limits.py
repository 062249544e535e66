"""Limits across worker processes: two are killed and one is stopped, and they hold all the same."""

from __future__ import annotations

import pytest
import trio

from benchmarks.limits import Load, hold

STORES = [
    pytest.param("sqlite", marks=pytest.mark.campaign),
    *(pytest.param(kind, marks=pytest.mark.servers) for kind in ("postgres", "mariadb", "redis")),
]


@pytest.mark.parametrize("kind", STORES)
def test_a_limit_holds_though_workers_are_killed_and_stopped(kind, tmp_path, servers):
    url = f"sqlite:///{tmp_path / 'flow.db'}" if kind == "sqlite" else servers.url(kind)
    load = Load(activities=800, concurrency=20, rate=200, stops=True)
    seen = trio.run(hold, url, tmp_path, load)
    assert seen.wrong == []
    assert seen.done == 800
    assert seen.looks > 100
    assert seen.most_leased <= 20
    assert seen.most_leased > 10, "too few at once to show anything"
    assert seen.seconds > 800 / 200 - 1
