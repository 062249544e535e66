"""Who may look and act: settings, middleware, and the pages of signing in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.routing import BaseRoute

if TYPE_CHECKING:
    from trioflow.web._site import Site

__all__ = ["Settings", "middleware", "routes"]


@dataclass(frozen=True, slots=True)
class Settings:
    """Who may look and act."""


def middleware(site: Site) -> list[Middleware]:
    """Return what every request passes; it sets ``request.state.user`` and ``.csrf``."""
    return []


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of signing in and out."""
    return []
