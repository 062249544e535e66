"""The quickstart, as a user runs it: alone, killed in its sleep, and run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(180)  # processes that begin take their time where all are busy

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart.py"


def start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, QUICKSTART, "shop.db"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_quickstart_goes_on_after_a_kill(tmp_path: Path):
    first = start(tmp_path)
    assert first.stdout is not None
    said = ""
    while not ("invoice" in said and "parcel" in said):  # then it sleeps
        line = first.stdout.readline()
        assert line, first.communicate()[1]
        said += line
    assert "has begun" in said
    assert "charging" in said
    first.send_signal(signal.SIGKILL)
    first.communicate()

    out, err = start(tmp_path).communicate(timeout=50)
    assert "Traceback" not in err
    assert "signal" not in err  # which was sent once
    assert "goes on where it was" in out
    assert "charging" not in out.split("goes on")[1]
    assert out.endswith("saying thank you\nThe result: receipt order-7/120\n")
