"""What runs in a process for activities: it makes one call after the other until its worker goes.

Standard input and output are the pipes to the worker, so functions get an empty input, and what
they print goes to standard error. SIGTERM and Ctrl-C are the worker's business, which lets a call
go on or kills this process. If the worker dies, this process dies too, whatever it does: its input
ends, which a thread of its own waits for. On Linux the kernel kills it, also while native code
keeps the interpreter's lock, and the thread with it, from running.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing.spawn
import os
import pickle  # noqa: TID251  # nothing of it is stored
import queue
import select
import signal
import sys
import threading
import time
from contextvars import Context
from typing import Any, cast

import msgspec

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, encode_checked, encode_plain
from trioflow._model.activities import Activity
from trioflow._model.info import current_activity, current_heartbeat
from trioflow._worker.activities.processes import running
from trioflow._worker.activities.processes.frames import (
    HEADER,
    Answer,
    Beat,
    Call,
    Failed,
    FromProcess,
    Log,
    Ready,
    Returned,
    Setup,
    Unreadable,
    decode_to_process,
    packed,
)
from trioflow._worker.activities.pulse import Pulse
from trioflow.errors import DefinitionError

if sys.platform != "win32":
    import fcntl

__all__ = ["Process", "main"]

_encode_failure = msgspec.json.Encoder().encode


def main() -> None:
    """Run calls until the worker closes the pipe."""
    running.in_activity_process = True
    source, sink = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123  # no file
        os.dup2(nothing.fileno(), 0)
    try:
        os.dup2(2, 1)
    except OSError:  # there is no standard error
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _ignore)  # not SIG_IGN, which programs started from here would inherit
    Process(source, sink).run()


def _ignore(*_: object) -> None:
    pass


class Process:
    """The process, seen from inside.

    Args:
        source: The file descriptor of what comes from the worker.
        sink: That of what goes to it.
    """

    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._sending, self._beating = threading.Lock(), threading.RLock()
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._pulse: Pulse | None = None
        self._talking = threading.Event()
        self._interval = 1.0

    def run(self) -> None:
        """Make one call after the other."""
        setup = self._read()
        if not isinstance(setup, Setup):
            return
        logging.root.handlers[:] = [_ToWorker(self)]
        for name, level in setup.levels.items():
            logging.getLogger(name or None).setLevel(level)
        multiprocessing.spawn.prepare(setup.preparation)
        codec: Codec = pickle.loads(setup.codec)  # noqa: S301  # of the worker, through its pipe
        for module in setup.modules:
            with contextlib.suppress(Exception):  # the call that needs it raises it again
                importlib.import_module(module)
        self.send(Ready())
        threading.Thread(target=self._listen, name="trioflow calls", daemon=True).start()
        while True:
            call = self._calls.get()
            if call is None:
                return
            _die_with_worker(self._source, always=True)
            answer = Context().run(self._make, codec, call)
            _die_with_worker(self._source, always=False)
            self.send(answer)

    def send(self, frame: FromProcess) -> None:
        """Send a frame to the worker."""
        data = memoryview(packed(frame))
        with self._sending:
            try:
                while data:
                    data = data[os.write(self._sink, data) :]
            except OSError:  # the worker is gone
                os._exit(1)

    # --- what comes ---------------------------------------------------------------------

    def _read(self) -> Setup | Call | None:
        header = self._read_exactly(HEADER)
        data = header and self._read_exactly(int.from_bytes(header, "big"))
        return decode_to_process(data) if data else None

    def _read_exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            try:
                part = os.read(self._source, size - len(data))
            except OSError:
                part = b""
            if not part:
                return None
            data += part
        return bytes(data)

    def _listen(self) -> None:
        while True:
            frame = self._read()
            if not isinstance(frame, Call):
                os._exit(0)  # the worker is gone; nobody needs the rest of a call
            self._calls.put(frame)

    # --- a call -------------------------------------------------------------------------

    def _make(self, codec: Codec, call: Call) -> Answer:
        try:
            return self._make_unsafe(codec, call)
        except BaseException as exc:  # noqa: BLE001  # whatever the function raises is its failure
            return Failed(_encode_failure(Failure.of(exc, codec)))
        finally:
            self._send_beat(last=True)

    def _make_unsafe(self, codec: Codec, call: Call) -> Answer:
        activity = find_activity(call.module, call.path, call.info.activity)
        try:
            args, kwargs = activity.signature.decode(codec, call.input, activity.name)
        except BaseException as exc:  # noqa: BLE001  # of the codec and of any class's validation
            return Unreadable(_encode_failure(Failure.of(exc, codec)))
        current_activity.set(call.info)
        what = f"{activity.name}() heartbeat"
        pulse = Pulse(
            time.monotonic, lambda details: encode_plain(codec, details, what), _at_once, self._say
        )
        self._pulse, self._interval = pulse, call.interval
        current_heartbeat.set(pulse.beat)
        result = activity.call_plain(args, kwargs)
        what = f"{activity.name}() result"
        return Returned(encode_checked(codec, result, activity.signature.result_type, what))

    # --- heartbeats ---------------------------------------------------------------------

    def _say(self) -> None:
        self._send_beat()
        if not self._talking.is_set():
            self._talking.set()
            threading.Thread(target=self._keep_talking, name="trioflow pulse", daemon=True).start()

    def _keep_talking(self) -> None:
        while True:
            time.sleep(self._interval)
            self._send_beat()

    def _send_beat(self, *, last: bool = False) -> None:
        with self._beating:  # none comes after the last
            pulse = self._pulse
            details = pulse.take() if pulse is not None else None
            if details is not None:
                self.send(Beat(details))
            if last:
                self._pulse = None


def find_activity(module: str, path: str, name: str) -> Activity[..., Any]:
    """Return the activity that can be imported as that name, or make one of a plain function.

    Raises:
        DefinitionError: There is no such name.
    """
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Activity):
        return cast("Activity[..., Any]", found)
    if not callable(found):
        raise DefinitionError(
            f"activity {name!r} has runtime='process', and another process cannot import it: there "
            f"is no {path!r} in module {module!r}. Define it at the top of the module, under its "
            "own name"
        )
    return Activity(found, name=name, runtime="process")


def _at_once(fn: Any) -> bool:
    fn()
    return True


class _ToWorker(logging.Handler):
    """Sends records to the worker, whose handlers have them."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def emit(self, record: logging.LogRecord) -> None:
        record.message = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        values = {**vars(record), "msg": record.message, "args": None, "exc_info": None}
        try:
            self._process.send(Log(values))
        except Exception:  # noqa: BLE001  # as handlers do; of a value that cannot be sent
            self.handleError(record)


def _die_with_worker(source: int, *, always: bool) -> None:
    """Have the kernel kill this process when the pipe from the worker ends, or no longer.

    While a call is made nothing comes through the pipe but its end.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(source, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(source, fcntl.F_SETSIG, signal.SIGKILL)
            flags = fcntl.fcntl(source, fcntl.F_GETFL) & ~os.O_ASYNC
            fcntl.fcntl(source, fcntl.F_SETFL, flags | (os.O_ASYNC if always else 0))
            if always and select.select([source], [], [], 0)[0]:
                os._exit(0)  # it has ended already
