"""The pages of one instance."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from trioflow.web._site import Site, get, page

__all__ = ["routes"]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of ``/instances/{id}`` and below."""
    return [get(site, "/instances/{id:trioflow_id}", _instance, "instance")]


async def _instance(site: Site, request: Request) -> Response:
    found = await site.client.handle(request.path_params["id"]).describe()
    return page(site, request, "instance/instance.html", one=found)
