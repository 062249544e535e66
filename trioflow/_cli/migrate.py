"""``trioflow migrate``: bring a store's schema up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from trioflow._cli.output import print_json
from trioflow._cli.store import Store, StoreCommand, as_json_option, store_options
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.backends.urls import open_backend
from trioflow.errors import SchemaError

if TYPE_CHECKING:
    from typing import Protocol

    from trioflow.backends.records import SchemaState

    class _Migrating(Protocol):
        async def schema_state(self) -> SchemaState: ...
        async def migrate(self) -> None: ...


__all__ = ["migrate"]


@click.command(cls=StoreCommand)
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if there is something.")
@store_options
@as_json_option("an object with the schemas before and after")
def migrate(*, store: Store, check: bool, as_json: bool) -> None:
    """Bring the store's schema up to date, and make it if there is none.

    Workers and clients do so themselves when they open a store, unless its URL has `migrate=false`.
    """
    backend = _migrating(store.url)
    if check and isinstance(backend, SqliteBackend) and not _exists(backend.path):
        raise click.ClickException(
            f"there is no file {backend.path!r} yet; trioflow migrate makes it"
        )
    before = trio.run(backend.schema_state)
    latest = before.latest
    said = f"the schema is up to date: {latest}"
    if not before.is_latest and check:
        needed = "there is no schema yet" if before.stored is None else f"it has {before.stored}"
        raise click.ClickException(f"{needed}, and {latest} is needed: run trioflow migrate")
    if not before.is_latest:
        trio.run(backend.migrate)
        made = "made" if before.stored is None else f"migrated from {before.stored} to"
        said = f"{made} {latest}"
    if as_json:
        print_json({"before": before.stored, "after": latest})
    else:
        click.echo(said)


def _exists(path: str) -> bool:
    return path.startswith("file:") or Path(path).exists()


def _migrating(url: str) -> _Migrating:
    backend = open_backend(url)
    if not hasattr(backend, "schema_state"):
        raise SchemaError(f"{backend.name} has no schema that trioflow could migrate")
    found: _Migrating = backend  # type: ignore[assignment]  # as was asked
    return found
