"""What a text like "module:make_registry" stands for."""

# mypy: ignore-errors

from __future__ import annotations

import sys
import types
from contextlib import asynccontextmanager

import click
import pytest

from trioflow import Registry, default_registry
from trioflow._cli.definitions import open_registry


@pytest.fixture
def module(monkeypatch):
    made = types.ModuleType("a_module_of_a_user")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


async def opened(target):
    async with open_registry(target) as registry:
        return registry


async def test_a_module_stands_for_all_that_is_decorated(module):
    assert await opened("a_module_of_a_user") is default_registry


async def test_a_definition_is_refused_with_what_to_write(module):
    flows = Registry()

    @flows.workflow
    async def checkout() -> None: ...

    module.checkout = checkout
    with pytest.raises(click.UsageError, match="give the module alone, 'a_module_of_a_user'"):
        await opened("a_module_of_a_user:checkout")


async def test_a_name_may_be_a_registry_or_a_function_that_gives_one(module):
    module.flows = Registry()
    module.make = lambda: module.flows
    module.inside = types.SimpleNamespace(flows=module.flows)
    for name in ("flows", "make", "inside.flows"):
        assert await opened(f"a_module_of_a_user:{name}") is module.flows


async def test_what_a_context_manager_opens_is_open_in_the_block_and_closed_after_it(module):
    happened = []

    @asynccontextmanager
    async def make_registry():
        happened.append("opened")
        try:
            yield Registry()
        finally:
            happened.append("closed")

    module.make_registry = make_registry
    async with open_registry("a_module_of_a_user:make_registry") as registry:
        assert isinstance(registry, Registry)
        assert happened == ["opened"]
    assert happened == ["opened", "closed"]
    with pytest.raises(OSError, match="in the block"):
        async with open_registry("a_module_of_a_user:make_registry"):
            raise OSError("in the block")
    assert happened == ["opened", "closed"] * 2


async def test_anything_else_is_an_error_that_says_what_to_give(module):
    module.number = 7
    module.gives_nothing = lambda: None
    for name, says in (
        ("number", "gives 7"),
        ("gives_nothing", "gives None"),
        ("missing", "no 'missing' in module 'a_module_of_a_user'"),
    ):
        with pytest.raises(click.UsageError, match=says):
            await opened(f"a_module_of_a_user:{name}")
    with pytest.raises(click.UsageError, match="there is no module 'no_such_module'"):
        await opened("no_such_module:flows")
