"""The example with a pool, as a user runs it; and what names it on the command line."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_pool_is_used_by_many_at_once(tmp_path: Path):
    found = subprocess.run(
        [sys.executable, ROOT / "examples" / "pool.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.stdout == "to has 105\n", found.stderr
    connection = sqlite3.connect(tmp_path / "accounts.db")
    assert connection.execute("SELECT count(*), sum(amount) FROM moves").fetchone() == (42, 0)
    connection.close()
