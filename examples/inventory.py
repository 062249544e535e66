"""A durable checksum inventory of a directory tree: a manifest for `sha256sum -c`.

    python examples/inventory.py DIR [--output SHA256SUMS] [--database inventory.db] [--batch 50]
    cd DIR && sha256sum -c --quiet /path/to/SHA256SUMS

Every folder is a sub-workflow; activities read its files in batches. Kill it at any moment with
`kill -9` and run it again: it continues. Symbolic links and other files that are not regular are
left out. Files that cannot be read are reported; then the exit code is 1.

File names need not be valid text, so they are bytes everywhere; bytes are stored as base64.
"""

# ruff: noqa: PTH118, PTH123 - pathlib does not support bytes

from __future__ import annotations

import argparse
import hashlib
import math
import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_from_bytes

import anyio
import msgspec
import trio

from trioflow import Client, InstanceNotFound, RetryPolicy, activity, open_worker, workflow

PAGE = 2000  # files in one instance: its result stays far below the limit of 2 MiB
patient = RetryPolicy(max_attempts=5, initial_interval=0.5)


@dataclass
class Job:
    root: bytes
    batch: int
    without: list[bytes] = field(default_factory=list)  # files that this program writes meanwhile


@dataclass
class Entry:
    name: bytes
    sha256: str = ""
    problem: str = ""  # why there is no checksum


@dataclass
class Listing:
    files: list[bytes] = field(default_factory=list)
    folders: list[bytes] = field(default_factory=list)
    problem: str = ""


# --- activities: reading the disk --------------------------------------------------------------


@activity(retry=patient)
def list_folder(job: Job, folder: bytes) -> Listing:
    listing = Listing()
    try:
        with os.scandir(os.path.join(job.root, folder)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    listing.folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False) and entry.path not in job.without:
                    listing.files.append(entry.name)
    except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
        return Listing(problem=str(error.strerror))  # retries do not help; other errors are raised
    listing.files.sort()
    listing.folders.sort()
    return listing


@activity(retry=patient)
def checksum(job: Job, folder: bytes, names: list[bytes]) -> list[Entry]:
    entries: list[Entry] = []
    for name in names:
        try:
            digest = sha256(os.path.join(job.root, folder, name))
        except (PermissionError, FileNotFoundError, NotADirectoryError) as error:
            entries.append(Entry(name, problem=str(error.strerror)))
        else:
            entries.append(Entry(name, digest))
    meter.files += len(names)
    return entries


def sha256(path: bytes) -> str:
    # What was a file when it was listed may be a link or a pipe by now.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    digest = hashlib.sha256()
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(0, "no longer a regular file")
        while block := file.read(1 << 20):
            digest.update(block)
            meter.bytes += len(block)
            anyio.from_thread.check_cancelled()  # a thread has to ask whether it is cancelled
    return digest.hexdigest()


# --- workflows ---------------------------------------------------------------------------------


@workflow
async def inventory(job: Job, folder: bytes) -> list[Entry]:
    """Return the entries of one folder; those of the folders in it are the results of their own."""
    try:
        listing = await list_folder(job, folder)
    except OSError as error:  # after all its retries
        return [Entry(b"", problem=str(error))]
    if listing.problem:
        return [Entry(b"", problem=listing.problem)]
    first, *more = pages(listing.files, PAGE)
    async with trio.open_nursery() as nursery:
        for name in listing.folders:
            nursery.start_soon(inventory, job, os.path.join(folder, name))
        for page in more:
            nursery.start_soon(read_files, job, folder, page)
        return await read_all(job, folder, first)


@workflow
async def read_files(job: Job, folder: bytes, names: list[bytes]) -> list[Entry]:
    """Read some files of a folder that has more than one instance should hold."""
    return await read_all(job, folder, names)


async def read_all(job: Job, folder: bytes, names: list[bytes]) -> list[Entry]:
    async def read(batch: list[bytes]) -> list[Entry]:
        try:
            return await checksum(job, folder, batch)
        except OSError as error:
            return [Entry(name, problem=str(error)) for name in batch]

    results = await anyio.gather(*(read(batch) for batch in pages(names, job.batch)))
    return [entry for entries in results for entry in entries]


def pages(names: list[bytes], size: int) -> list[list[bytes]]:
    return [names[at : at + size] for at in range(0, len(names), size)] or [[]]


# --- the manifest ------------------------------------------------------------------------------


async def results(client: Client, id: str) -> AsyncIterator[tuple[bytes, list[Entry]]]:
    after: str | None = None
    while found := await client.list(id_prefix=id, status="completed", limit=100, after=after):
        for one in found:
            folder = msgspec.convert(one.input["folder"], bytes)
            yield folder, msgspec.convert(one.result, list[Entry])
        after = found[-1].id


async def write_manifest(client: Client, id: str, output: Path) -> int:
    """Write the manifest and report the problems; return how many there are."""
    lines: list[tuple[bytes, str]] = []
    problems: list[tuple[bytes, str]] = []
    async for folder, entries in results(client, id):
        for entry in entries:
            path = os.path.join(folder, entry.name) if entry.name else folder or b"."
            if entry.problem:
                problems.append((path, entry.problem))
            else:
                lines.append((path, entry.sha256))
    # Whole or not at all: a manifest that is cut short would look like one of a smaller tree.
    unfinished = output.with_name(f"{output.name}.unfinished")
    with unfinished.open("wb") as file:
        file.writelines(manifest_line(path, digest) for path, digest in sorted(lines))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(output)
    for path, problem in sorted(problems):
        print(f"not read: {os.fsdecode(path)!r}: {problem}", file=sys.stderr)
    print(f"{output}: {len(lines)} files", file=sys.stderr)
    return len(problems)


def manifest_line(path: bytes, digest: str) -> bytes:
    name = path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if name != path else b""  # tells sha256sum that the name is escaped
    return mark + digest.encode() + b"  " + name + b"\n"


# --- progress ----------------------------------------------------------------------------------


@dataclass
class Meter:
    """What this process has read. The folders are counted in the store, so they survive it."""

    files: int = 0
    bytes: int = 0


meter = Meter()
Show = Callable[[int, int, str], object]


async def show_progress(client: Client, id: str) -> None:
    started = time.monotonic()
    with bar() if sys.stderr.isatty() else lines() as show:
        while True:
            folders = await client.count(id_prefix=id)
            done = await client.count(id_prefix=id, status="completed")
            seconds = time.monotonic() - started
            show(
                done,
                folders,
                f"{meter.files} files, {meter.bytes / 1e6:.0f} MB, {seconds:.0f} s",
            )
            await trio.sleep(0.5)


@contextmanager
def lines() -> Iterator[Show]:
    shown = -math.inf

    def show(done: int, folders: int, text: str) -> None:
        nonlocal shown
        if time.monotonic() - shown >= 2:
            shown = time.monotonic()
            print(f"{done} of {folders} folders; {text}", file=sys.stderr, flush=True)

    yield show


@contextmanager
def bar() -> Iterator[Show]:
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:  # it is optional
        with lines() as show:
            yield show
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("folders; {task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("")
        yield lambda done, folders, text: progress.update(
            task, completed=done, total=folders, description=text
        )


# --- the program -------------------------------------------------------------------------------


async def take_inventory(root: Path, output: Path, database: Path, batch: int) -> int:
    job = Job(os.fsencode(root), batch, without=own_files(output, database))
    id = f"inventory:{quote_from_bytes(job.root)}:"  # also the beginning of the sub-workflows' ids
    url = f"sqlite:///{quote_from_bytes(os.fsencode(database))}"
    # The lease of a worker that was killed expires after so many seconds.
    async with open_worker(url, lease=3) as worker:
        client = worker.client
        handle = client.handle(id, inventory)
        try:
            status = (await handle.describe()).status
        except InstanceNotFound:
            status = None
        if status in {"running", "suspended", "completed"}:
            print(f"{root}: going on where it was", file=sys.stderr)
        else:
            await clear(client, id)
            await client.start(inventory.options(id=id), job, b"")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_progress, client, id)
            await handle.result(wait_suspended=False)
            nursery.cancel_scope.cancel()
        # Results stay in the store until the manifest is written; the next run starts from scratch.
        problems = await write_manifest(client, id, output)
        await clear(client, id)
        return problems


async def clear(client: Client, id: str) -> None:
    while await client.remove(finished_before=time.time() + 1, id_prefix=id):
        pass


def own_files(output: Path, database: Path) -> list[bytes]:
    names = [output, output.with_name(f"{output.name}.unfinished"), database]
    names += [database.with_name(database.name + end) for end in ("-wal", "-shm", "-journal")]
    return [os.fsencode(name) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--output", type=Path, default=Path("SHA256SUMS"), help="the manifest")
    parser.add_argument("--database", type=Path, default=Path("inventory.db"))
    parser.add_argument("--batch", type=int, default=50, help="files in one activity")
    args = parser.parse_args()
    if not args.directory.is_dir():
        parser.error(f"{args.directory} is no directory")
    if args.batch < 1:
        parser.error("--batch is 1 or more")
    root, output, database = (
        path.resolve() for path in (args.directory, args.output, args.database)
    )
    problems: int | None = None
    try:
        problems = trio.run(take_inventory, root, output, database, args.batch)
    except* KeyboardInterrupt:  # alone, or in the group of a nursery
        print("Stopped. Run it again and it goes on.", file=sys.stderr)
    sys.exit(0 if problems == 0 else 1)


if __name__ == "__main__":
    main()
