"""``trioflow web`` and ``trioflow dev``: the web pages, alone or beside a worker."""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click
import trio

from trioflow import Client, Registry, open_client, open_worker
from trioflow._cli.definitions import modules_option, open_registry
from trioflow._cli.output import console
from trioflow._cli.store import Store, StoreCommand, store_options
from trioflow._cli.worker import PARENT, end_with_parent, joined, reasons_told, run_again_and_again
from trioflow.backends._common.url_text import shown as without_password

if TYPE_CHECKING:
    from trioflow.web import Access

__all__ = ["dev", "web"]

F = TypeVar("F", bound=Callable[..., Any])

_NEEDED: Final = ("starlette", "jinja2", "hypercorn")
_PASSWORD: Final = "TRIOFLOW_WEB_PASSWORD"  # noqa: S105 - a name
_KEY: Final = "TRIOFLOW_WEB_KEY"
_LAST_PORT: Final = 65_535
_ADDRESS: Final = "127.0.0.1:8700"
_ENDED: Final = "Worker and page have ended."


def _bind(default: str) -> Callable[[F], F]:
    return click.option(
        "--bind",
        default=default,
        metavar="ADDRESS:PORT",
        help=f"Where it is served; port 0 takes a free one.  [default: {default}]",
    )


@click.command(cls=StoreCommand)
@modules_option("The workflows: to start them, and to replay histories.")
@_bind(_ADDRESS)
@click.option(
    "--password",
    envvar=_PASSWORD,
    metavar="TEXT",
    help="What people sign in with to act. Others on the machine can see it here, but not in "
    f"the environment.  [env: {_PASSWORD}]",
)
@click.option(
    "--users",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A password for each person instead: lines of NAME:PASSWORD.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name by which browsers reach it; may be given several times.",
)
@click.option(
    "--proxy-header", metavar="NAME", help="The header in which a proxy says whom it let in."
)
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    help="The address of a proxy, from where that and X-Forwarded-For are believed: 10.0.0.7, "
    "10.0.0.0/24; may be given several times.",
)
@click.option("--https", is_flag=True, help="Browsers reach it by HTTPS, through a proxy.")
@click.option(
    "--tls",
    nargs=2,
    type=click.Path(exists=True, dir_okay=False),
    metavar="CERT KEY",
    help="Serve HTTPS with this certificate and its key.",
)
@click.option(
    "--local-reads/--no-local-reads",
    default=True,
    help="Whether those on this machine may look without signing in.  [default: they may]",
)
@click.option("--root-path", default="", metavar="PATH", help="Where a proxy has it: /ops.")
@click.option("--title", default="trioflow", metavar="TEXT", help="What the pages are called.")
@store_options
def web(
    *,
    store: Store,
    modules: tuple[str, ...],
    bind: str,
    password: str | None,
    users: Path | None,
    tls: tuple[str, str] | None,
    root_path: str,
    title: str,
    **settings: Any,
) -> None:
    """Serve web pages that show the store, and act on it, until SIGTERM or Ctrl-C.

    Whoever is on this machine may look. To act one signs in: with a password that is given, or one
    that is made up and printed where this runs on a terminal. An address that others reach needs a
    password, or a proxy that lets people in.
    """
    _check_installed()
    store.check_there()
    given = password if users is None else _read_users(users, password)
    if not given and not settings["proxy_header"]:
        if not _is_loopback(bind):
            raise click.UsageError(
                f"--bind {bind} is reached by others: give a password ({_PASSWORD}, --users), or "
                "--proxy-header with --proxy"
            )
        given = _made_up() if sys.stderr.isatty() else None
    access = _access(password=given, **settings)
    _log()

    async def main() -> None:
        async with AsyncExitStack() as stack:
            registry = None
            if modules:
                found = [await stack.enter_async_context(open_registry(each)) for each in modules]
                registry = joined(found)
            client = await stack.enter_async_context(
                open_client(store.url, codec=store.codec, registry=registry)
            )
            page = _page(client, registry, title, access)
            await _serve(page, bind, root_path=root_path, tls=tls)

    _run(main, "The page has ended.")


@click.command(cls=StoreCommand)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME",
    help="A queue that the worker serves; may be given several times.  [default: all that the "
    "definitions name, and default]",
)
@_bind(_ADDRESS)
@click.option(
    "--reload/--no-reload",
    default=True,
    help="Whether to begin anew when a Python file below here changes.  [default: it does]",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Log what the worker does, and not only what goes wrong."
)
@store_options(default="sqlite:///trioflow.db")
def dev(
    *,
    store: Store,
    modules: tuple[str, ...],
    queues: tuple[str, ...],
    bind: str,
    reload: bool,
    verbose: bool,
) -> None:
    """Run a worker and the web pages together, while you write workflows.

    The store is a SQLite file in the present folder, unless another one is named; it is made if it
    is not there. A MODULE is as for `trioflow worker`. Sign in with the password that is printed,
    or with that of the environment (TRIOFLOW_WEB_PASSWORD).
    """
    _check_installed()
    if not _is_loopback(bind):
        raise click.UsageError(
            f"--bind {bind} is reached by others; `trioflow worker` and `trioflow web` are for that"
        )
    if PARENT not in os.environ:  # once, and not whenever it begins anew
        named = without_password(store.url).strip("'\"")
        others = f" (for other commands: export TRIOFLOW_STORE={named})"
        click.echo(f"store: {named}{others if named == store.url else ''}", err=True)
    if not os.environ.get(_PASSWORD):
        os.environ[_PASSWORD] = _made_up()
    if reload:
        # Sessions outlive the processes that are begun anew.
        os.environ.setdefault(_KEY, secrets.token_urlsafe(32))
        run_again_and_again([*sys.argv[1:], "--no-reload"], _ENDED)
        return
    supervised = end_with_parent()
    access = _access(password=os.environ[_PASSWORD])
    _log(verbose=verbose)

    async def main() -> None:
        async with AsyncExitStack() as stack:
            found = [await stack.enter_async_context(open_registry(each)) for each in modules]
            registry = joined(found)
            worker = await stack.enter_async_context(
                open_worker(
                    store.url,
                    registry=registry,
                    codec=store.codec,
                    queues=queues or _queues_of(registry),
                )
            )
            await _serve(_page(worker.client, registry, "trioflow dev", access), bind)

    with reasons_told(supervised):
        _run(main, _ENDED, supervised)


def _queues_of(registry: Registry) -> list[str]:
    """Return the queues that definitions name, and the one of those that name none."""
    named = {each.queue for each in registry.workflows.values()}
    named |= {each.queue for each in registry.activities.values()}
    return sorted({"default", *(each for each in named if each is not None)})


# --- what the two share ----------------------------------------------------------------------


def _check_installed() -> None:
    for name in _NEEDED:
        try:
            __import__(name)
        except ModuleNotFoundError:
            raise click.UsageError(
                f"the web pages need {name}: pip install 'trioflow[cli,web]'"
            ) from None


def _access(**settings: Any) -> Access:
    from trioflow.web import Access  # noqa: PLC0415 - an extra

    if key := os.environ.get(_KEY):
        settings["key"] = key.encode()
    try:
        return Access(**settings)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def _page(client: Client, registry: Registry | None, title: str, access: Access) -> Any:
    from trioflow.web import app  # noqa: PLC0415 - an extra

    return app(client, registry=registry, title=title, access=access)


def _read_users(path: Path, password: str | None) -> Mapping[str, str]:
    if password:
        raise click.UsageError(f"--users and --password ({_PASSWORD}): one of them is enough")
    users: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, theirs = line.partition(":")
        if not colon:
            raise click.UsageError(f"--users {path}: line {number} is not NAME:PASSWORD")
        users[name] = theirs
    if not users:
        raise click.UsageError(f"--users {path}: there is nobody in it")
    return users


def _made_up() -> str:
    """Return a password that was made up, and say so."""
    made = "-".join(secrets.token_hex(2) for _ in range(4))
    console(stderr=True).print(f"Sign in with the password {made}")
    return made


def _is_loopback(bind: str) -> bool:
    host = bind.rpartition(":")[0].strip("[]") or bind
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _log(*, verbose: bool = False) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("trioflow.web").setLevel(logging.INFO)  # who does what


async def _serve(
    page: Any, bind: str, *, root_path: str = "", tls: tuple[str, str] | None = None
) -> None:
    """Serve an application until SIGTERM or Ctrl-C comes."""
    import hypercorn.trio as server  # noqa: PLC0415 - an extra
    from hypercorn.config import Config  # noqa: PLC0415

    config = Config()
    config.bind = [_listening(bind)]
    config.root_path = root_path.rstrip("/")
    config.loglevel = "WARNING"
    config.include_server_header = False
    config.graceful_timeout = 1.0
    if tls is not None:
        config.certfile, config.keyfile = tls

    async def until_told() -> None:
        # A second Ctrl-C finds it closed, and ends the worker's drain as it does elsewhere.
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as told:
            async for _ in told:
                return

    serve: Callable[..., Any] = cast("Any", server).serve
    async with trio.open_nursery() as nursery:

        async def served(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(page, config, shutdown_trigger=until_told, task_status=task_status)
            nursery.cancel_scope.cancel()

        (address, *_) = await nursery.start(served)
        click.echo(f"trioflow: {address}{config.root_path}/", err=True)


def _listening(bind: str) -> str:
    """Return what the server is to listen on: a socket that is bound already.

    Raises:
        click.ClickException: The address cannot be had.
    """
    if bind.startswith("unix:"):
        return bind
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal() or int(port) > _LAST_PORT:
        raise click.UsageError(f"--bind {bind}: write ADDRESS:PORT, with a port up to {_LAST_PORT}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return f"fd://{socket.create_server((host, int(port)), family=family).detach()}"
    except OSError as error:
        raise click.ClickException(f"--bind {bind}: {error}") from None


def _run(
    main: Callable[[], Any], ended: str, supervised: Callable[[], bool] = lambda: False
) -> None:
    try:
        trio.run(main)
    except* KeyboardInterrupt:
        pass
    if not supervised():
        console(stderr=True).print(ended)
