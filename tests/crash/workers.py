"""Workers in processes of their own, for the tests with signals. No test lives here."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import trio

__all__ = ["PATIENCE", "log_of", "until", "workers"]

ROOT = Path(__file__).parents[2]
PATIENCE = 60  # seconds, for what takes much less


class Worker:
    """One process, and what it has printed."""

    def __init__(self, directory, url, *, host="trio", lease=20.0, drain=1.0):
        self.directory = directory
        self._stderr = directory / f"stderr-{time.time_ns()}"
        command = [sys.executable, "-X", "dev", "-m", "tests.crash.program", host]
        command += [url, str(directory / "log"), str(lease), str(drain)]
        with self._stderr.open("w") as stderr:
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=stderr)

    @property
    def pid(self):
        return self.process.pid

    def send(self, number):
        self.process.send_signal(number)

    def wait(self):
        return self.process.wait(PATIENCE)

    @property
    def printed(self):
        return self._stderr.read_text()


@contextmanager
def workers(directory, url, **options):
    """Give a function that starts a worker; whatever it started is gone afterwards.

    What they have printed is shown if the test fails.
    """
    started = []

    def start(**more):
        started.append(Worker(directory, url, **options, **more))
        return started[-1]

    try:
        yield start
    finally:
        for worker in started:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.wait()
            print(f"worker {worker.pid} ended with {worker.process.returncode}:", worker.printed)  # noqa: T201 - pytest shows it


def log_of(directory):
    path = directory / "log"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


async def until(found):
    """Wait until something is so in another process: there is no event to wait for."""
    with trio.fail_after(PATIENCE):
        while not (result := found()):
            await trio.sleep(0.01)
    return result
