"""What type checkers say of the web pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from starlette.applications import Starlette
from starlette.types import ASGIApp

import trioflow.web
from trioflow import Registry, open_client


async def pages() -> None:
    access = trioflow.web.Access(password="secret", hosts=["ops.example.com"])
    assert_type(access.hosts, Sequence[str])
    async with open_client("memory://") as client:
        app = trioflow.web.app(client, registry=Registry(), title="shop", access=access)
        assert_type(app, ASGIApp)
        Starlette().mount("/flows", app)
        trioflow.web.app("memory://")  # type: ignore[arg-type]
        trioflow.web.app(client, password="secret")  # type: ignore[call-arg]
