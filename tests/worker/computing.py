"""Activities that run in processes of their own, which import this module."""

# mypy: ignore-errors

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from trioflow import Registry, Retry, RetryPolicy, WrappedCodec, activity_info, heartbeat
from trioflow._codec.values import JsonCodec

flows = Registry()
quick = RetryPolicy(max_attempts=2, initial_interval=0.001)
once = RetryPolicy(max_attempts=1)
logger = logging.getLogger("tests.computing")


class Declined(Exception):
    pass


@dataclass
class Order:
    id: str
    amounts: list[int]


@flows.activity(runtime="process")
def total(order: Order, *, factor: int = 1) -> tuple[str, int, int]:
    info = activity_info()
    return f"{info.instance} {info.attempt} {order.id}", sum(order.amounts) * factor, os.getpid()


@flows.activity(runtime="process", retry=once)
def declines(text: str) -> None:
    raise Declined(text)


@flows.activity(runtime="process", retry=quick)
def dies(how: str) -> str:
    if activity_info().attempt == 2:
        return "survived"
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), signal.SIGSEGV)


@flows.activity(runtime="process", retry=once)
def dies_always() -> None:
    os._exit(0)


@flows.activity(runtime="process", retry=RetryPolicy(max_attempts=2, initial_interval=50))
def asks_for_a_delay() -> int:
    if activity_info().attempt == 1:
        raise Retry("later", after=0.001)
    return activity_info().attempt


@flows.activity(runtime="process", retry=quick)
def talks(path: str) -> list:
    said = activity_info().heartbeat
    if said is not None:
        return [said, activity_info().attempt]
    for number in range(1000):
        heartbeat({"done": number})
    Path(path).touch()
    while Path(path).exists():
        time.sleep(0.005)
    heartbeat({"done": "last"})
    raise OSError("broken")


@flows.activity(runtime="process", retry=once, heartbeat_timeout=2)
def is_silent(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


@flows.activity(runtime="process", retry=once, heartbeat_timeout=3)
def is_not_silent() -> str:
    until = time.monotonic() + 4
    while time.monotonic() < until:
        heartbeat()
    return "done"


@flows.activity(runtime="process", retry=once)
def computes(path: str) -> str:
    """Keep the interpreter's lock for ever, and have a program running."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(f"{os.getpid()} {program.pid}")
    return str(sum(range(10**12)))


@flows.activity(runtime="process", retry=once)
def logs() -> None:
    logger.debug("nobody wants this")
    logger.warning("%s of %s", 3, "five", extra={"order": "o-7"})
    try:
        raise ValueError("inside")
    except ValueError:
        logger.exception("it went wrong")


@flows.activity(runtime="process")
def prints() -> str:
    print("printed", flush=True)  # noqa: T201  # that is what it is for
    return sys.stdin.read()


def turned(data):
    return data[::-1]


turning = WrappedCodec(JsonCodec(), turned, turned)
