"""Replaying histories in fresh processes: with other hash seeds, and other times of collection.

The order of a set of strings is the same for the life of a process, and so is much that depends on
where objects lie. A replay by another worker, after a restart, meets another one.
"""

from __future__ import annotations

import gc
import importlib
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec

from trioflow._model.workflows import Workflow
from trioflow.testing.history import History, ReplayError, check_replay, load_history

__all__ = ["replay_elsewhere"]

_SEEDS = (1, 2, 3)


async def replay_elsewhere(workflow: Workflow[..., Any], histories: Sequence[History]) -> None:
    """Replay histories in fresh processes; do nothing for a workflow that cannot be imported.

    Raises:
        ReplayElsewhere: One does not replay there.
    """
    place = _place(workflow)
    if place is None or not histories:
        return
    data = msgspec.json.encode(list(histories))
    for seed in _SEEDS:
        command = [sys.executable, "-m", "trioflow.testing.elsewhere", *place]
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        done = await anyio.run_process(
            command,
            input=data,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": paths},
        )
        if done.returncode == _DIFFERS:
            raise ReplayElsewhere(
                f"workflow {workflow.name!r} replays in this process, and not in another one: it "
                "depends on what differs between processes (the order of a set of strings, "
                "memory addresses, the garbage collector). "
                + done.stdout.decode(errors="replace").strip()
            )
        if done.returncode:
            raise RuntimeError(
                f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()}"
            )


class ReplayElsewhere(AssertionError):
    """Raised where a history replays in the process that made it, and not in another one."""


_DIFFERS = 3


def _place(workflow: Workflow[..., Any]) -> tuple[str, str] | None:
    """Return the module and the name by which another process finds the workflow."""
    module, name = workflow.fn.__module__, workflow.fn.__qualname__
    if module == "__main__" or "<locals>" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is workflow else None


def main(module: str, name: str) -> int:
    """Replay the histories on standard input."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    histories = msgspec.json.decode(sys.stdin.buffer.read(), type=list[msgspec.Raw])
    chance = random.Random(os.environ.get("PYTHONHASHSEED"))  # noqa: S311
    for history in histories:
        gc.set_threshold(chance.randint(1, 50))
        try:
            check_replay(load_history(bytes(history)), found)
        except ReplayError as exc:
            print(exc)  # noqa: T201  # for the process that asks
            return _DIFFERS
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
