"""``trioflow worker``: a worker for the workflows and activities of modules."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any, get_args

import click
import trio

from trioflow import BackendError, Registry, TrioflowError, Worker, run_worker
from trioflow._cli.definitions import open_registry
from trioflow._cli.output import console
from trioflow._cli.store import Store, StoreCommand, one_line, store_options
from trioflow._worker.code_check import Check

__all__ = ["PARENT", "end_with_parent", "joined", "reasons_told", "run_again_and_again", "worker"]

_BACKLOG = 15.0  # seconds between two looks at the queues, as Prometheus scrapes by default
_ENDING = 20  # seconds for a worker to drain before it is killed and begun again
PARENT = "TRIOFLOW_RUN_BY"  # in the environment: the process that runs this one anew
_LOOK_EVERY = 1.0  # seconds
_LOOK_FOR_END = 200  # milliseconds
_LASTING = 64  # added to the exit code of what is run anew, if no edit mends why it has ended
_ENDED = "The worker has ended."


@click.command(cls=StoreCommand)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.option(
    "--queue",
    "queues",
    multiple=True,
    default=("default",),
    metavar="NAME",
    help="A queue that it serves; may be given several times.  [default: default]",
)
@click.option("--name", help="What operators see.  [default: host:pid]")
@click.option(
    "--max-activities", type=click.IntRange(min=1), metavar="N", help="How many may run at once."
)
@click.option(
    "--max-threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many of them may be in threads.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="What activities get at the end.",
)
@click.option(
    "--check",
    type=click.Choice(get_args(Check)),
    help="What to do about histories that do not fit.",
)
@click.option(
    "--metrics",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Serve metrics for Prometheus there, on the loopback address.",
)
@click.option("--reload", is_flag=True, help="Begin anew when a Python file below here changes.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Log what it does, and not only what goes wrong."
)
@store_options
def worker(
    *,
    store: Store,
    modules: tuple[str, ...],
    reload: bool,
    metrics: int | None,
    verbose: bool,
    **options: Any,
) -> None:
    """Run the workflows and activities of modules, until SIGTERM or Ctrl-C.

    A MODULE is imported, also from the present folder. `module:name` is a registry in it, or a
    function without parameters that gives one; if that is an async context manager, what it opens
    stays open until the worker has ended.
    """
    if reload:
        run_again_and_again([each for each in sys.argv[1:] if each != "--reload"], _ENDED)
        return
    supervised = end_with_parent()
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    given = {name: value for name, value in options.items() if value is not None}

    async def main() -> None:
        async with AsyncExitStack() as stack:
            registry = joined(
                [await stack.enter_async_context(open_registry(each)) for each in modules]
            )
            run = partial(run_worker, store.url, registry=registry, codec=store.codec, **given)
            await (run() if metrics is None else _run_measured(run, metrics))

    try:
        with reasons_told(supervised):
            trio.run(main)
    except KeyboardInterrupt:
        if not supervised():
            console(stderr=True).print(_ENDED)


def joined(registries: Sequence[Registry]) -> Registry:
    """Return the definitions of all registries in one."""
    first = registries[0]
    if all(each is first for each in registries):
        return first
    joined = Registry()
    for each in registries:
        joined.add(*each.workflows.values(), *each.activities.values())
    return joined


async def _run_measured(run: Callable[..., Awaitable[None]], port: int) -> None:
    """Run a worker, and serve its metrics; the queues' backlogs are read every few seconds."""
    try:
        from prometheus_client import start_http_server  # noqa: PLC0415 - an extra

        from trioflow.prometheus import Prometheus  # noqa: PLC0415
    except ModuleNotFoundError:
        raise click.UsageError(
            "--metrics needs prometheus-client: pip install 'trioflow[prometheus]'"
        ) from None
    prometheus = Prometheus()
    try:
        server, _ = start_http_server(port, "127.0.0.1")
    except OSError as error:
        raise click.ClickException(f"--metrics {port}: {error.strerror}") from None
    click.echo(f"metrics: http://127.0.0.1:{server.server_port}/metrics", err=True)

    async def work(task_status: trio.TaskStatus[Worker]) -> None:
        await run(observers=[prometheus], task_status=task_status)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(work)
            while True:
                prometheus.set_backlog(await worker.client.stats())
                await trio.sleep(_BACKLOG)
    except* TrioflowError as group:
        raise _first(group) from None
    finally:
        server.shutdown()
        server.server_close()


def _first(group: BaseExceptionGroup[TrioflowError]) -> TrioflowError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def run_again_and_again(arguments: Sequence[str], ended: str) -> None:
    """Run this program with other arguments, and again whenever a source file has changed.

    Args:
        arguments: Those of the program.
        ended: What is said when SIGTERM or Ctrl-C has ended both.

    Raises:
        click.exceptions.Exit: It has ended by itself, before any change or for a reason that no
            change mends. The exit code is its own.
    """
    try:
        from watchfiles import PythonFilter, watch  # noqa: PLC0415 - takes a while to load
    except ModuleNotFoundError:
        raise click.UsageError("--reload needs watchfiles: pip install 'trioflow[cli]'") from None
    # A shell that starts this in the background has SIGINT ignored, which the worker would inherit.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)
    environment = {**os.environ, PARENT: str(os.getpid())}

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "trioflow", *arguments]
        return subprocess.Popen(command, env=environment)  # noqa: S603 - this program

    process = start()
    told = changed = False  # told: that it has ended
    try:
        for changes in watch(
            ".",
            watch_filter=PythonFilter(),
            rust_timeout=_LOOK_FOR_END,
            yield_on_timeout=True,
        ):
            code = process.poll()
            if code is not None and not told:
                if code >= _LASTING or not changed:
                    raise click.exceptions.Exit(_plain_code(code))
                click.echo(
                    f"The worker has ended (exit code {_plain_code(code)}); it begins anew when a "
                    "file changes. Ctrl-C ends.",
                    err=True,
                )
                told = True
            if changes:
                click.echo("A file has changed; the worker begins anew.", err=True)
                _stop(process)
                process, told, changed = start(), False, True
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the next Ctrl-C is for the worker's drain
        _stop(process)
        console(stderr=True).print(ended)
    finally:
        if process.poll() is None:
            process.kill()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Have a process drain and end, and kill it if that takes too long."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _plain_code(code: int) -> int:
    """Return an exit code as a shell has it, without what says that the reason lasts."""
    if code < 0:
        return 128 - code  # a signal has ended it
    return code - _LASTING if code >= _LASTING else code


@contextmanager
def reasons_told(supervised: Callable[[], bool]) -> Generator[None]:
    """Tell the process that runs this one anew by the exit code if no edit mends an error.

    That is so for the store's errors and an address that cannot be had, but not for wrong usage:
    what the arguments name was there at first, so an edit has taken it away.
    """
    try:
        yield
    except (BackendError, click.ClickException) as error:
        if not supervised() or isinstance(error, click.UsageError):
            raise
        told = one_line(error) if isinstance(error, BackendError) else error
        told.show()
        raise click.exceptions.Exit(_LASTING + told.exit_code) from error


def end_with_parent() -> Callable[[], bool]:
    """See to it that this process drains and ends if the one that runs it anew is no more.

    Returns:
        What says whether there is such a process, and it is still there.
    """
    parent = os.environ.pop(PARENT, None)
    if parent is None:
        return lambda: False

    def supervised() -> bool:
        return os.getppid() == int(parent)

    def watch() -> None:
        while supervised():
            time.sleep(_LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="trioflow parent", daemon=True).start()
    return supervised
