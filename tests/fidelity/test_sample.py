"""Some of trio's own tests, made as workflows; `nox -s fidelity` makes all of them."""

# mypy: ignore-errors

from __future__ import annotations

import subprocess

from tests.fidelity.suites import pytest_command


def test_some_of_trios_own_tests_pass_in_workflows():
    command = pytest_command("trio", "--sample=4", "-q", "--tb=short", "--timeout=20")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    made = next(line for line in done.stdout.splitlines() if line.startswith("fidelity: "))
    assert int(made.split()[1]) > 40
