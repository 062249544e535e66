"""The command line: which benchmarks, how large, and the table.

Each benchmark runs in a process of its own, so that none leaves anything behind for the next.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from benchmarks import crash, growth, resident, sharing, speed
from benchmarks.measuring import Figure, Sizes
from benchmarks.stores import serving

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
    "sleeping": resident.sleeping,
    "idle": resident.idle,
    "sharing": sharing.sharing,
    "crash": crash.crash,
}


def measure(name: str, sizes: Sizes) -> list[Figure]:
    """Run one benchmark in this process."""
    with serving(sizes.backend, sizes.directory) as backend:
        return trio.run(BENCHMARKS[name], dataclasses.replace(sizes, backend=backend))


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as text, a line each; ``!`` marks what does not reach its aim."""
    lines = [("", "", "", "", "reach", "")]
    last = ""
    for figure in figures:
        name = figure.benchmark if figure.benchmark != last else ""
        last = figure.benchmark
        missed = "!" if figure.reached is False else ""
        lines.append((name, figure.what, _number(figure.value), figure.unit, figure.reach, missed))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    shown: list[str] = []
    for line in lines:
        cells = [
            cell.rjust(width) if column == 2 else cell.ljust(width)
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
        help=f"which ones: {', '.join(BENCHMARKS)}; all but crash if none is named",
    )
    for option in ("runs", "depth", "fanout", "leaffanout", "activities", "resultsize"):
        default = getattr(usual, option)
        parser.add_argument(
            f"--{option}", type=int, default=default, help=f"of the tree (default {default})"
        )
    parser.add_argument(
        "--backend", default="sqlite", help="of the tree: sqlite (a fresh file), memory, or a URL"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument(
        "--dir", type=Path, default=Path.cwd(), help="where files are made (default: here)"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


def _in_own_process(name: str, arguments: argparse.Namespace) -> list[Figure]:
    command = [sys.executable, "-m", "benchmarks", name, "--inside"]
    for option in ("runs", "depth", "fanout", "leaffanout", "activities", "resultsize", "backend"):
        command += [f"--{option}", str(getattr(arguments, option))]
    command += ["--dir", str(arguments.dir), *(["--quick"] if arguments.quick else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmark {name!r} failed; what it printed is above")
    return [Figure(**figure) for figure in json.loads(done.stdout)]


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
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    known = {option.name for option in dataclasses.fields(Sizes)} - {"directory"}
    sizes = Sizes(**{n: getattr(arguments, n) for n in known}, directory=arguments.dir.resolve())
    if arguments.quick:
        sizes = dataclasses.replace(sizes, runs=min(sizes.runs, 5))
    if arguments.inside:
        figures = measure(arguments.names[0], sizes)
        print(json.dumps([dataclasses.asdict(figure) for figure in figures]))
        return
    figures = []
    for name in arguments.names or [name for name in BENCHMARKS if name != "crash"]:
        print(f"{name} …", file=sys.stderr, flush=True)
        figures += _in_own_process(name, arguments)
    machine = _machine()
    print("  ".join(f"{what} {value}" for what, value in machine.items()))
    print(table(figures))
    if arguments.json is not None:
        lines = [dataclasses.asdict(f) | {"reached": f.reached} for f in figures]
        text = json.dumps({"machine": machine, "figures": lines}, indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
