"""Finding the user's workflows: modules are imported as a program would do it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, cast

import click

from trioflow import Registry, Workflow, default_registry

__all__ = ["find_workflow", "import_modules", "modules_option", "open_registry"]

F = TypeVar("F", bound=Callable[..., Any])

_MODULES = "TRIOFLOW_MODULES"


def modules_option(
    said: str, *, required: bool = False, from_environment: bool = True
) -> Callable[[F], F]:
    """Give a command the option ``-m``: modules that are imported, several perhaps."""
    return click.option(
        "-m",
        "--module",
        "modules",
        multiple=True,
        required=required,
        envvar=_MODULES if from_environment else None,
        metavar="MODULE",
        help=f"{said}  [env: {_MODULES}]" if from_environment else said,
    )


def import_modules(names: Iterable[str]) -> list[Registry]:
    """Import modules, also from the current folder, and return the registries that they have.

    Raises:
        click.UsageError: There is no such module.
    """
    if os.getcwd() not in sys.path:  # noqa: PTH109 - as Python writes it there
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    registries = [default_registry]
    for name in names:
        if name.endswith(".py") or os.sep in name:
            raise click.UsageError(f"{name!r} is a file; give the name of the module, as in import")
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name + ".").startswith(error.name + "."):
                raise
            raise click.UsageError(
                f"there is no module {name!r} here, nor where Python looks"
            ) from None
        registries += [each for each in vars(module).values() if isinstance(each, Registry)]
    return registries


@asynccontextmanager
async def open_registry(target: str) -> AsyncGenerator[Registry]:
    """Give the definitions that are meant by a text, for as long as the block lasts.

    Args:
        target: ``"module"`` for all that is decorated when that is imported; ``"module:name"`` for
            a registry, or for a function without parameters that gives one, perhaps as an async
            context manager: then what the definitions need can be opened before, and closed
            after the block.

    Raises:
        click.UsageError: There is no such module or name, or it is something else.
    """
    module, colon, name = target.partition(":")
    import_modules([module])
    if not colon:
        yield default_registry
        return
    made: Any = sys.modules[module]
    for part in name.split("."):
        made = getattr(made, part, None)
    if made is None:
        raise click.UsageError(f"there is no {name!r} in module {module!r}")
    if not isinstance(made, Registry) and callable(made):
        made = made()
    async with AsyncExitStack() as stack:
        if isinstance(made, AbstractAsyncContextManager):
            manager = cast("AbstractAsyncContextManager[Any]", made)
            made = await stack.enter_async_context(manager)
        if not isinstance(made, Registry):
            raise click.UsageError(
                f"{target!r} is no registry, nor a function that gives one, nor one that is "
                f"decorated with contextlib.asynccontextmanager and yields one: it gives {made!r}"
            )
        yield made


def find_workflow(name: str, registries: Iterable[Registry]) -> Workflow[..., Any]:
    """Return the workflow of that name.

    Raises:
        click.UsageError: There is none.
    """
    registries = list(registries)
    for registry in registries:
        if name in registry.workflows:
            return registry.workflows[name]
    known = sorted({each for registry in registries for each in registry.workflows})
    raise click.UsageError(
        f"there is no workflow {name!r} in these modules; there are {', '.join(known) or 'none'}"
    )
