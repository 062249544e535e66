"""``trioflow worker``: a worker for the workflows and activities of modules."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, get_args

import click
import trio

from trioflow import Registry, TrioflowError, Worker, run_worker
from trioflow._cli.definitions import open_registry
from trioflow._cli.output import console
from trioflow._cli.store import Store, StoreCommand, store_options
from trioflow._worker.code_check import Check

__all__ = ["end_with_parent", "joined", "run_again_and_again", "worker"]

_BACKLOG = 15.0  # seconds between two looks at the queues, as Prometheus scrapes by default
_ENDING = 20  # seconds for a worker to drain before it is killed and begun again
_PARENT = "TRIOFLOW_RUN_BY"  # in the environment: the process that runs this one anew
_LOOK_EVERY = 1.0  # seconds


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
        run_again_and_again([each for each in sys.argv[1:] if each != "--reload"])
        return
    end_with_parent()
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
        trio.run(main)
    except KeyboardInterrupt:
        console(stderr=True).print("The worker has ended.")


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


def run_again_and_again(arguments: Sequence[str]) -> None:
    """Run this program with other arguments, and again whenever a source file has changed."""
    try:
        from watchfiles import PythonFilter, run_process  # noqa: PLC0415 - takes a while to load
    except ModuleNotFoundError:
        raise click.UsageError("--reload needs watchfiles: pip install 'trioflow[cli]'") from None
    command = shlex.join([sys.executable, "-m", "trioflow", *arguments])
    # A shell that starts this in the background has SIGINT ignored, which the worker would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[_PARENT] = str(os.getpid())
    run_process(
        ".",
        target=command,
        target_type="command",
        watch_filter=PythonFilter(),
        callback=lambda _: click.echo("A file has changed; the worker begins anew.", err=True),
        sigint_timeout=_ENDING,
    )


def end_with_parent() -> None:
    """See to it that this process drains and ends if the one that runs it anew is no more."""
    parent = os.environ.pop(_PARENT, None)
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(_LOOK_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="trioflow parent", daemon=True).start()
