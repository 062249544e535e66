"""The command line: which benchmarks, how large, and the table.

Each benchmark runs in a process of its own, so that none leaves anything behind for the next.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import trio

from benchmarks import crash, growth, large, moves, observing, pages, resident, sharing, speed
from benchmarks.measuring import Figure, Sizes
from benchmarks.stores import SERVERS, kind_of, missing, serving

__all__ = ["BENCHMARKS", "main", "measure", "table"]

Benchmark = Callable[[Sizes], Awaitable[list[Figure]]]

BENCHMARKS: dict[str, Benchmark] = {
    "tree": speed.tree,
    "one": speed.one,
    "two": speed.two_activities,
    "memory": speed.memory,
    "replay": growth.replay,
    "history": growth.history,
    "finished": growth.finished,
    "large": large.large,
    "sleeping": resident.sleeping,
    "idle": resident.idle,
    "sharing": sharing.sharing,
    "pages": pages.pages,
    "observing": observing.observing,
    "moves": moves.moves,
    "crash": crash.crash,
}
_BY_STORE = ("tree", "one", "two", "large", "idle", "sharing", "pages")
"""Those that run on every store, and so on the one that the command line names."""
_OF_SERVERS = ("tree", "two", "idle", "sharing")
"""What ``stores`` means, on each server."""


def measure(name: str, sizes: Sizes) -> list[Figure]:
    """Run one benchmark in this process."""
    if name not in _BY_STORE:
        return trio.run(BENCHMARKS[name], sizes)
    with serving(sizes.backend, sizes.directory) as backend:
        figures = trio.run(BENCHMARKS[name], dataclasses.replace(sizes, backend=backend))
    return [dataclasses.replace(figure, store=kind_of(backend)) for figure in figures]


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as text, a line each; ``!`` marks what does not reach its aim."""
    lines = [("", "", "", "", "", "reach", "")]
    last = ("", "")
    for figure in figures:
        new = (figure.benchmark, figure.store)
        missed = "!" if figure.reached is False else ""
        value = (_number(figure.value), figure.unit, figure.reach, missed)
        lines.append((*(new if new != last else ("", "")), figure.what, *value))
        last = new
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    shown: list[str] = []
    for line in lines:
        cells = [
            cell.rjust(width) if column == 3 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        shown.append("  ".join(cells).rstrip())
    return "\n".join(shown)


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _parser() -> argparse.ArgumentParser:
    usual = Sizes()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure trioflow and print one table. Ratios come from alternating rounds.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="BENCHMARK",
        help=f"which ones: {', '.join(BENCHMARKS)}; all but crash if none is named;"
        f" stores for {', '.join(_OF_SERVERS)} on each of {', '.join(SERVERS)}",
    )
    for option in ("runs", "depth", "fanout", "leaffanout", "activities", "resultsize"):
        default = getattr(usual, option)
        parser.add_argument(
            f"--{option}", type=int, default=default, help=f"of the tree (default {default})"
        )
    parser.add_argument(
        "--backend",
        default="sqlite",
        help=f"of {', '.join(_BY_STORE)}: sqlite (a fresh file), memory, {', '.join(SERVERS)} (a"
        " private server), or a URL (default sqlite)",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument(
        "--dir", type=Path, default=Path.cwd(), help="where files are made (default: here)"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


def _in_own_process(name: str, backend: str, arguments: argparse.Namespace) -> list[Figure] | None:
    """Return a benchmark's figures; ``None`` if it failed."""
    command = [sys.executable, "-m", "benchmarks", name, "--inside", "--backend", backend]
    for option in ("runs", "depth", "fanout", "leaffanout", "activities", "resultsize"):
        command += [f"--{option}", str(getattr(arguments, option))]
    command += ["--dir", str(arguments.dir), *(["--quick"] if arguments.quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return None
    return [Figure(**figure) for figure in json.loads(done.stdout)]


def _planned(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Yield which benchmark runs on which store; say what is left out."""
    for name in arguments.names or [name for name in BENCHMARKS if name != "crash"]:
        if name == "sharing" and kind_of(arguments.backend) == "memory":
            print("sharing is left out: memory is one process' own", file=sys.stderr)
        elif name != "stores":
            yield name, arguments.backend
        else:
            yield from _on_servers()


def _on_servers() -> Iterator[tuple[str, str]]:
    for server in SERVERS:
        lacking = missing(server)
        if lacking is None:
            yield from ((name, server) for name in _OF_SERVERS)
        else:
            print(f"{server} is left out: {lacking}", file=sys.stderr)


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "trio": trio.__version__,
        "machine": platform.machine(),
        "processors": os.cpu_count(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what the command line names, print the table, and write the JSON file."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in (*BENCHMARKS, "stores")]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)} and stores")
    lacking = missing(arguments.backend)
    if lacking is not None:
        parser.error(lacking)
    known = {option.name for option in dataclasses.fields(Sizes)} - {"directory"}
    sizes = Sizes(**{n: getattr(arguments, n) for n in known}, directory=arguments.dir.resolve())
    if arguments.quick:
        sizes = dataclasses.replace(sizes, runs=min(sizes.runs, 5))
    if arguments.inside:
        # Once for each store that is opened, it says that a Redis without persistence forgets.
        logging.getLogger("trioflow.backends.redis").setLevel(logging.ERROR)
        figures = measure(arguments.names[0], sizes)
        print(json.dumps([dataclasses.asdict(figure) for figure in figures]))
        return
    figures = []
    failed: list[str] = []
    for name, backend in _planned(arguments):
        where = f" on {kind_of(backend)}" if name in _BY_STORE else ""
        print(f"{name}{where} …", file=sys.stderr, flush=True)
        found = _in_own_process(name, backend, arguments)
        if found is None:  # the others' figures are worth their minutes all the same
            failed.append(f"{name}{where}")
        figures += found or []
    machine = _machine()
    print("  ".join(f"{what} {value}" for what, value in machine.items()))
    print(table(figures))
    if arguments.json is not None:
        lines = [dataclasses.asdict(f) | {"reached": f.reached} for f in figures]
        text = json.dumps({"machine": machine, "figures": lines}, indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", "utf-8")
    if failed:
        raise SystemExit(f"failed, as printed above: {', '.join(failed)}")


if __name__ == "__main__":
    main()
