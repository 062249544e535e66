"""``trioflow check``: whether the code fits what is under way."""

from __future__ import annotations

from pathlib import Path

import click
import trio

from trioflow import Client, Codec, Compatibility, check_compatibility
from trioflow._cli.definitions import open_registry
from trioflow._cli.output import print_json, shown
from trioflow._cli.store import Store, StoreCommand, as_json_option, store_options
from trioflow.testing import check_bundle, load_bundle

__all__ = ["check"]


@click.command(cls=StoreCommand)
@click.argument("module")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Draw N of each workflow.")
@click.option("--suspended", is_flag=True, help="Look at suspended instances, too.")
@click.option(
    "--from",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Look at what `trioflow export` wrote there, and at no store. Repeatable.",
)
@store_options(instead="files")
@as_json_option("an object")
@click.pass_context
def check(
    context: click.Context,
    *,
    store: Store | Codec,
    module: str,
    sample: int | None,
    suspended: bool,
    files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Replay what is under way with the code of a module, before it is deployed.

    Nothing is changed, and no worker has to be stopped. MODULE may be `module:name`, as for
    `trioflow worker`.

    Exit codes: 0 if the code continues all that was looked at, 1 if not.
    """

    async def look(client: Client) -> Compatibility:
        async with open_registry(module) as registry:
            return await check_compatibility(client, registry, sample=sample, suspended=suspended)

    async def look_into_files(codec: Codec) -> Compatibility:
        histories = [history for file in files for history in load_bundle(file)]
        async with open_registry(module) as registry:
            return check_bundle(histories, registry, codec=codec)

    if isinstance(store, Store):
        found = store.run(look)
    elif sample is not None or suspended:
        raise click.UsageError("--sample and --suspended are for a store: see trioflow export")
    else:
        found = trio.run(look_into_files, store)
    if as_json:
        print_json(found)
    else:
        for line in str(found).splitlines():
            click.echo(shown(line))
    context.exit(0 if found.ok else 1)
