"""Some of trio's own tests, made as workflows; `nox -s fidelity` makes all of them."""

# mypy: ignore-errors

from __future__ import annotations

import subprocess

import pytest

from tests.fidelity.suites import pytest_command


@pytest.mark.timeout(300)  # some seconds on an idle machine: another pytest, and its imports
def test_some_of_trios_own_tests_pass_in_workflows():
    command = pytest_command("trio", "--sample=6", "-q", "--tb=short", "--timeout=120")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    made = next(line for line in done.stdout.splitlines() if line.startswith("fidelity: "))
    assert int(made.split()[1]) > 25
