"""The workers of a round, and what is done to them and to their connections."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import trio

from tests.races.plans import Plan
from tests.races.program import READY
from tests.races.proxy import Proxy

__all__ = ["Crew"]

_ROOT = Path(__file__).parents[2]
_PATIENCE = 30.0  # seconds for what takes much less on a quiet machine…
_START = 1.5  # in which workers begin on a quiet machine
_SLOWEST = 6.0
_NEVER_SAID = (
    "Exception in thread",
    "Exception ignored in",
    "Task exception was never retrieved",
    "was never awaited",
    "AssertionError",
)


class _Worker:
    """One process."""

    def __init__(
        self, number: int, process: subprocess.Popen[bytes], printed: Path, patience: float
    ) -> None:
        self.number = number
        self.process = process
        self.printed = printed
        self._patience = patience

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    async def end(self, number: signal.Signals) -> int | None:
        """Send a signal; return the exit code, ``None`` if it does not end."""
        with trio.move_on_after(self._patience):
            while number == signal.SIGTERM and not self.is_ready():
                await trio.sleep(0.02)
        self.send(number)
        with trio.move_on_after(self._patience):
            while self.process.poll() is None:
                await trio.sleep(0.02)
        return self.process.poll()

    def is_ready(self) -> bool:
        """Return whether it obeys SIGTERM: once it was ready, or has ended."""
        return self.process.poll() is not None or READY in self.printed.read_text(errors="replace")

    def tail(self) -> str:
        lines = self.printed.read_text(errors="replace").splitlines()
        return "\n".join(f"      {line}" for line in lines[-60:])


class Crew:
    """Three workers, replaced when they end.

    Attributes:
        slowness: How many times as long as on a quiet machine things take on this one.
        patience: Seconds for what takes much less.

    Args:
        folder: For what they print and for their log.
        url: Of the store, as they see it.
        plan: The round's.
        proxy: What is between them and the server, if anything.
    """

    def __init__(self, folder: Path, url: str, plan: Plan, proxy: Proxy | None) -> None:
        self.log = folder / "log"
        self.faults: list[str] = []
        self._folder = folder
        self._url = url
        self._plan = plan
        self._proxy = proxy
        self._chance = random.Random(f"{plan.seed} chaos")
        self._workers: list[_Worker] = []
        self._started = 0
        self.patience = _PATIENCE
        self.slowness = 1.0
        for number in range(len(plan.workers)):
            self._workers.append(self._start(number))

    def _start(self, number: int) -> _Worker:
        self._started += 1
        printed = self._folder / f"stderr-{self._started}"
        options = json.dumps(self._plan.workers[number])
        command = [sys.executable, "-m", "tests.races.program", self._url, str(self.log), options]
        with printed.open("wb") as stderr:
            process = subprocess.Popen(command, cwd=_ROOT, stdout=stderr, stderr=stderr)
        return _Worker(number, process, printed, self.patience)

    async def wait_ready(self) -> None:
        """Wait until all have begun, or ended."""
        began = trio.current_time()
        with trio.move_on_after(_PATIENCE):
            while not all(worker.is_ready() for worker in self._workers):
                await trio.sleep(0.02)
        took = trio.current_time() - began
        self.slowness = min(max(1.0, took / _START), _SLOWEST)
        self.patience = _PATIENCE * self.slowness

    async def chaos(self) -> None:
        """Do to workers or to their connections what the plan says, until cancelled."""
        await trio.sleep(self._chance.uniform(0.1, 0.6))
        while True:
            match self._plan.chaos:
                case "none":
                    await trio.sleep_forever()
                case "kill":
                    await self._replace(signal.SIGKILL, -signal.SIGKILL)
                case "term":
                    await self._replace(signal.SIGTERM, 0)
                case "stop":
                    await self._stop()
                case _:
                    await self._disturb()
            await trio.sleep(self._chance.uniform(0.3, 0.9))

    async def _replace(self, how: signal.Signals, expected: int) -> None:
        at = self._chance.randrange(len(self._workers))
        victim = self._workers[at]
        self.check()
        if victim is not self._workers[at]:
            return  # it has ended by itself
        # A second signal would end it at once.
        with trio.CancelScope(shield=True):
            code = await victim.end(how)
        if code != expected:
            self._says(victim, code, f"after {how.name}")
        self._look(victim)
        self._workers[at] = self._start(victim.number)

    async def _stop(self) -> None:
        victim = self._chance.choice(self._workers)
        victim.send(signal.SIGSTOP)
        try:
            await trio.sleep(self._plan.lease * self._chance.uniform(0.5, 1.8))
        finally:
            victim.send(signal.SIGCONT)

    async def _disturb(self) -> None:
        proxy = self._proxy
        assert proxy is not None
        match self._plan.chaos:
            case "stall":
                proxy.stall()
                try:
                    await trio.sleep(self._chance.uniform(0.1, 1.6 * self._plan.lease))
                finally:
                    proxy.go_on()
            case "drop":
                proxy.drop()
            case _:
                proxy.half_open()
                try:
                    await trio.sleep(self._chance.uniform(0.5, 2 * self._plan.lease))
                finally:
                    proxy.drop()

    def check(self) -> None:
        """Note who has ended by itself; replace it, so that the round can go on."""
        for at, worker in enumerate(self._workers):
            code = worker.process.poll()
            if code is not None:
                self._says(worker, code, "by itself")
                self._look(worker)
                self._workers[at] = self._start(worker.number)

    async def dismiss(self) -> None:
        """End all in order."""
        self.check()
        async with trio.open_nursery() as nursery:
            for worker in self._workers:
                nursery.start_soon(self._dismiss, worker)

    async def _dismiss(self, worker: _Worker) -> None:
        code = await worker.end(signal.SIGTERM)
        if code != 0:
            self._says(worker, code, "after SIGTERM")
        self._look(worker)

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        for worker in self._workers:
            with suppress(ProcessLookupError):
                worker.process.kill()
            worker.process.wait(_PATIENCE)

    async def tails(self) -> str:
        """Return what the last workers have printed, and what they do now."""
        for worker in self._workers:
            if worker.is_ready():
                worker.send(signal.SIGUSR1)
        await trio.sleep(1.0)
        return "\n".join(
            f"    worker {worker.number}, process {worker.process.pid}:\n{worker.tail()}"
            for worker in self._workers
        )

    def _says(self, worker: _Worker, code: int | None, when: str) -> None:
        ended = "did not end" if code is None else f"ended with {code}"
        self.faults.append(f"worker {worker.number} {ended} {when}:\n{worker.tail()}")

    def _look(self, worker: _Worker) -> None:
        text = worker.printed.read_text(errors="replace")
        for never in _NEVER_SAID:
            if never in text:
                self.faults.append(f"worker {worker.number} printed {never!r}:\n{worker.tail()}")
                return
