"""What changes something: every route that is posted to."""

from __future__ import annotations

from starlette.routing import BaseRoute

from trioflow.web._site import Site

__all__ = ["routes"]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes that are posted to."""
    return []
