"""Commands that speak to a store: the options that they share, and how their errors end."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import click
import trio
from click.shell_completion import CompletionItem

from trioflow import (
    BackendError,
    BackendUnavailable,
    Client,
    Codec,
    InstanceNotFound,
    JsonCodec,
    Registry,
    TrioflowError,
    open_client,
)
from trioflow._cli.output import shown
from trioflow._cli.wording import in_shell
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.backends.urls import open_backend

__all__ = [
    "InstanceId",
    "Store",
    "StoreCommand",
    "as_json_option",
    "json_anyway",
    "one_line",
    "store_options",
]

if TYPE_CHECKING:
    _TextType = click.ParamType[str]
else:
    _TextType = click.ParamType  # which older versions of click do not let be indexed

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_COMPLETIONS = 100


class StoreCommand(click.Command):
    """A command whose errors are one line each."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except TrioflowError as error:
            raise one_line(error) from error


class _Unavailable(click.ClickException):
    exit_code = 3


class _NotFound(click.ClickException):
    exit_code = 4


def one_line(error: TrioflowError) -> click.ClickException:
    """Return what tells of an error in a line, and ends with the exit code for it."""
    said = shown(in_shell(str(error), getattr(error, "instance", None)))
    if isinstance(error, BackendUnavailable):
        return _Unavailable(said)
    if isinstance(error, InstanceNotFound):
        return _NotFound(said)
    return click.ClickException(said)


@dataclass(frozen=True, slots=True)
class Store:
    """The store that a command was told of, and how values are stored in it."""

    url: str
    codec: Codec

    @classmethod
    def of(cls, url: str | None, codec: str | None) -> Store:
        """Take over what the options say.

        Raises:
            click.UsageError: They say nothing, or what cannot be used.
        """
        if not url:
            raise click.UsageError(
                "which store? Give its URL: --store sqlite:///shop.db, or set TRIOFLOW_STORE"
            )
        try:
            open_backend(url)
        except BackendError as error:
            raise click.UsageError(str(error)) from None
        if url.startswith("memory:"):
            raise click.UsageError(
                "a store in memory belongs to one process, and this is another one; give the URL "
                "of a file or a server"
            )
        return cls(url, find_codec(codec))

    def check_there(self) -> str:
        """Check that the file of a SQLite store is there, for who would not make it.

        Returns:
            The URL of the store.

        Raises:
            BackendUnavailable: It is not.
        """
        backend = open_backend(self.url)
        if isinstance(backend, SqliteBackend):
            path = backend.path
            if not path.startswith("file:") and not Path(path).exists():
                raise BackendUnavailable(f"there is no file {path!r}; {self.url} is not a store")
        return self.url

    def run(
        self,
        work: Callable[[Client], Awaitable[T]],
        *,
        registry: Registry | None = None,
        create: bool = False,
    ) -> T:
        """Open a client, and do something with it.

        Args:
            work: What.
            registry: Where workflows that are started by name are looked up.
            create: Whether a SQLite file that is not there is made. Where nobody wants to write, a
                misspelt name must not look like a store that is empty.
        """
        if not create:
            self.check_there()

        async def main() -> T:
            async with open_client(self.url, codec=self.codec, registry=registry) as client:
                return await work(client)

        return trio.run(main)


def find_codec(target: str | None) -> Codec:
    """Return the codec that `codec_option` names; without a name, how values are stored else.

    Raises:
        click.UsageError: There is no such codec.
    """
    if not target:
        return JsonCodec()
    module, colon, name = target.partition(":")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - as Python writes it there
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"--codec {target}: {error}") from None
    made = found() if callable(found) else found
    if not all(callable(getattr(made, each, None)) for each in ("encode", "decode")):
        raise click.UsageError(
            f"--codec {target} is no codec, nor a function without parameters that gives one; "
            "write module:name"
        )
    return made  # type: ignore[no-any-return]


@overload
def store_options(command: F) -> F: ...


@overload
def store_options(*, default: str) -> Callable[[F], F]: ...


@overload
def store_options(*, instead: str) -> Callable[[F], F]: ...


def store_options(
    command: Any = None, *, default: str | None = None, instead: str | None = None
) -> Any:
    """Give a command the options that say which store is meant; it gets a `Store`.

    Args:
        command: The command.
        default: The store's URL if nobody says which.
        instead: The name of a parameter: if that is given no store is needed, and the command gets
            the codec in its place.
    """
    if command is None:
        return partial(_with_store, default=default, instead=instead)
    return _with_store(command, default=None)


def codec_option(command: F) -> F:
    """Give a command the option ``--codec`` as ``codec_name``, for `find_codec`."""
    return click.option(
        "--codec",
        "codec_name",
        envvar="TRIOFLOW_CODEC",
        metavar="MODULE:NAME",
        help="The workers' codec, or a function that gives it.  [env: TRIOFLOW_CODEC]",
    )(command)


def _with_store(command: F, *, default: str | None, instead: str | None = None) -> F:
    otherwise = "" if default is None else f"  [default: {default}]"

    @codec_option
    @click.option(
        "--store",
        "store_url",
        envvar="TRIOFLOW_STORE",
        metavar="URL",
        help="The store: sqlite:///shop.db, postgresql://…  [env: TRIOFLOW_STORE]" + otherwise,
    )
    @wraps(command)
    def with_store(*args: Any, store_url: str | None, codec_name: str | None, **kwargs: Any) -> Any:
        store: Store | Codec
        if instead is not None and kwargs[instead]:
            store = find_codec(codec_name)
        else:
            store = Store.of(store_url or default, codec_name)
        return command(*args, store=store, **kwargs)

    return with_store  # type: ignore[return-value]  # click has taken two arguments away


def as_json_option(what: str) -> Callable[[F], F]:
    """Give a command the option ``--json``; ``what`` is printed then."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print {what} as JSON instead.")


json_anyway = click.option(
    "--json", is_flag=True, expose_value=False, help="Nothing else: it is JSON anyway."
)
"""The same option, for commands that print nothing but JSON."""


class InstanceId(_TextType):
    """The id of an instance; shells complete it from the store, if that is known by then."""

    name = "id"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse the empty id."""
        if not value:
            self.fail("an instance's id is not empty", param, ctx)
        return value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the newest instances whose ids begin so."""
        url = ctx.params.get("store_url") or os.environ.get("TRIOFLOW_STORE")

        async def find(client: Client) -> list[CompletionItem]:
            found = await client.list(id_prefix=incomplete or None, limit=_COMPLETIONS)
            return [CompletionItem(one.id, help=f"{one.workflow} {one.status}") for one in found]

        try:
            return Store.of(url, None).run(find)
        except (TrioflowError, click.UsageError):
            return []
