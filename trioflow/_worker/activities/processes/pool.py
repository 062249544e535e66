"""A worker's pool of processes for activities. Knows nothing of leases, attempts and retries.

A process is a new interpreter, as multiprocessing's "spawn" makes it, started when there is a call
and none is idle, and kept for the next one. It makes one call at a time. What is cancelled is
killed, with its process group, so that programs that it has started end too; what dies by itself
fails its call and no other. Neither leaves anything for the next call, which gets a new process.

Not made with `anyio.to_process`, `concurrent.futures`, loky or pebble. None of them has a way for
heartbeats and logs beside the result. With the second and third a process that dies breaks the
whole pool; the first and the second leave processes that compute running when the worker is killed.
anyio starts, feeds and awaits the processes here, so that no thread of this worker waits for them.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.spawn
import os
import pickle  # noqa: TID251  # nothing of it is stored
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import PIPE
from typing import Any, Final

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

import trioflow
from trioflow._codec.foreign import said
from trioflow._codec.values import Codec
from trioflow._model.activities import Activity
from trioflow._model.info import ActivityInfo
from trioflow._worker.activities.processes import frames, running
from trioflow.errors import DefinitionError, WorkerLost

__all__ = ["ProcessPool", "check_outside", "place_of"]

_LONGEST_IDLE: Final = 300.0  # seconds after which a process that has nothing to do is ended
_BREATH: Final = 1.0  # seconds between two looks at those that are idle, at least
_STARTING: Final = 60.0  # seconds that a process has to import what it needs
_REAPING: Final = 5.0  # seconds that the kernel has to end what was killed
_START: Final = (
    "import sys; sys.path.insert(0, {path!r}); "
    "from trioflow._worker.activities.processes.child import main; main()"
)
_GONE: Final = (
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)


class ProcessPool:
    """The processes of one worker.

    Args:
        codec: The worker's; each process gets a copy.
        clock: The loop's clock.
    """

    def __init__(self, codec: Codec, clock: Callable[[], float]) -> None:
        self._codec = codec
        self._clock = clock
        self._setup: bytes = b""
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()
        self._closed = False
        self._kept = anyio.Event()
        self._watching = anyio.CancelScope()

    def prepare(self, activities: Iterable[Activity[..., Any]]) -> None:
        """Check that other processes can run some activities. Nothing is started.

        Raises:
            DefinitionError: They cannot: a function cannot be imported, or the codec cannot be
                sent to another process.
        """
        places = [place_of(each) for each in activities]
        if not places:
            return
        try:
            codec = pickle.dumps(self._codec)
        except Exception as exc:
            raise DefinitionError(
                f"activities with runtime='process' get a copy of the worker's codec, and that "
                f"cannot be pickled ({said(exc)}). Let it use functions that are defined at the "
                "top of a module, and no lambdas"
            ) from exc
        # The main script is run by each process that needs it, and by no other.
        in_main = b"__main__" in codec or any(module == "__main__" for module, _ in places)
        preparation: dict[str, Any] = multiprocessing.spawn.get_preparation_data("trioflow")
        del preparation["authkey"]
        if not in_main:
            preparation.pop("init_main_from_name", None)
            preparation.pop("init_main_from_path", None)
        modules = sorted({module for module, _ in places})
        self._setup = frames.packed(frames.Setup(preparation, codec, _levels(), modules))

    @property
    def prepared(self) -> bool:
        """Whether there is what a process needs."""
        return bool(self._setup)

    async def run(
        self, call: frames.Call, begin: Callable[[], None], beat: Callable[[bytes], None]
    ) -> frames.Answer:
        """Make a call in a process of its own; a cancel kills it.

        Args:
            call: What is called.
            begin: Called when the process is ready for it.
            beat: Called with what the function gives to ``heartbeat()``, encoded.

        Raises:
            WorkerLost: The process has died, or did not start.
        """
        process = await self._get(call.info)
        try:
            begin()
            await process.send(frames.packed(call))
            while True:
                frame = await process.receive()
                match frame:
                    case frames.Beat(details):
                        beat(details)
                    case frames.Log(record):
                        _log(record)
                    case frames.Ready():
                        pass
                    case _:
                        break
        except _GONE:
            code = await self._end(process)
            raise WorkerLost(
                f"activity {call.info.activity!r}: its process has {_how(code)} (attempt "
                f"{call.info.attempt}). See whether the function ends it, crashes in a library, or "
                "needs more memory than there is"
            ) from None
        except BaseException:
            await self._end(process)
            raise
        if self._closed:
            await self._end(process)
        else:
            self._keep(process)
        return frame

    async def watch(self) -> None:
        """End processes that have had nothing to do for long, until `stop`."""
        with self._watching:
            while True:
                self._kept = anyio.Event()
                if not self._idle:
                    await self._kept.wait()
                    continue
                at = self._idle[0].idle_since + _LONGEST_IDLE
                await anyio.sleep(max(at - self._clock(), _BREATH))
                await self._end_overdue()

    def stop(self) -> None:
        """End `watch`."""
        self._watching.cancel()

    async def aclose(self) -> None:
        """Kill all processes, and start no more."""
        self._closed = True
        for process in list(self._all):
            process.kill()
        for process in list(self._all):
            await self._end(process)

    async def _get(self, info: ActivityInfo) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                return process
            await self._end(process)
        process = await _Process.start()
        self._all.add(process)
        try:
            with anyio.move_on_after(_STARTING):
                await process.send(self._setup)
                while not isinstance(frame := await process.receive(), frames.Ready):
                    if isinstance(frame, frames.Log):
                        _log(frame.record)
                return process
            how = f"did not start within {_STARTING:g} s"
        except _GONE:
            how = "ended before it had started; its standard error says why"
        except BaseException:
            await self._end(process)
            raise
        await self._end(process)
        raise WorkerLost(
            f"activity {info.activity!r}: its process {how} (attempt {info.attempt}). See what "
            f"importing the modules of activities with runtime='process' does"
        )

    def _keep(self, process: _Process) -> None:
        process.idle_since = self._clock()
        self._idle.append(process)
        self._kept.set()

    async def _end_overdue(self) -> None:
        # Somebody may take one while others are ended, so they are taken out before.
        last = self._clock() - _LONGEST_IDLE
        overdue = [each for each in self._idle if each.idle_since <= last]
        self._idle = self._idle[len(overdue) :]
        for each in overdue:
            await self._end(each)

    async def _end(self, process: _Process) -> int | None:
        process.kill()
        self._all.discard(process)
        with anyio.move_on_after(_REAPING, shield=True):
            return await process.wait()
        return None


class _Process:
    """One process, seen from the worker."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._sink = process.stdin
        self._source = BufferedByteReceiveStream(process.stdout)
        self.idle_since = 0.0

    @classmethod
    async def start(cls) -> _Process:
        """Start one; a cancel comes later, or nobody would know of it."""
        code = _START.format(path=str(Path(trioflow.__file__).parent.parent))
        command = [os.fsdecode(multiprocessing.spawn.get_executable()), "-c", code]
        opened: anyio.abc.Process | None = None
        with anyio.CancelScope(shield=True):
            opened = await anyio.open_process(
                command, stdin=PIPE, stdout=PIPE, stderr=None, start_new_session=True
            )
        assert opened is not None
        return cls(opened)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def send(self, data: bytes) -> None:
        await self._sink.send(data)

    async def receive(self) -> frames.FromProcess:
        size = await self._source.receive_exactly(frames.HEADER)
        data = await self._source.receive_exactly(int.from_bytes(size, "big"))
        return frames.decode_from_process(data)

    def kill(self) -> None:
        """Kill it, and the programs that it has started."""
        if not self.alive:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; return its exit code."""
        code = await self._process.wait()
        for stream in (self._sink, self._source):
            await stream.aclose()
        return code


def place_of(activity: Activity[..., Any]) -> tuple[str, str]:
    """Return the module of an activity's function, and its name there.

    Raises:
        DefinitionError: It cannot be imported.
    """
    module = activity.fn.__module__
    path = getattr(activity.fn, "__qualname__", "")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    is_it = found is activity.fn or (isinstance(found, Activity) and found.name == activity.name)
    known_main = module != "__main__" or hasattr(sys.modules["__main__"], "__file__")
    if not (is_it and known_main):
        raise DefinitionError(
            f"activity {activity.name!r} ({activity.where}) has runtime='process', and another "
            f"process cannot import its function: {path!r} in module {module!r} is "
            f"{'not it' if known_main else 'in no file'}. Define it at the top of a module, under "
            "its own name"
        )
    return module, path


def check_outside() -> None:
    """Refuse to go on in a process of a pool, which has run a main script without its guard.

    Raises:
        DefinitionError: This is such a process.
    """
    if running.in_activity_process:
        raise DefinitionError(
            "a worker was started in a process that runs activities: that process has to import "
            "the main script. Begin what starts the worker with: if __name__ == '__main__':"
        )


def _levels() -> dict[str, int]:
    named = {
        name: logger.level
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and logger.level
    }
    return {"": logging.root.level, **named}


def _log(record: dict[str, Any]) -> None:
    made = logging.makeLogRecord(record)
    logger = logging.getLogger(made.name)
    if logger.isEnabledFor(made.levelno):
        logger.handle(made)


def _how(code: int | None) -> str:
    """Return how a process has ended, in words."""
    if code is None:
        return "closed its pipe, and does not end"
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"been killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"been killed by signal {-code}"
