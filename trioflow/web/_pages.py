"""The pages of many things: overview, instances, schedules, workers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from trioflow.web._site import Site, get, page

__all__ = ["routes"]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of these pages."""
    return [
        get(site, "/", _overview, "overview"),
        get(site, "/instances", _instances, "instances"),
        get(site, "/schedules", _schedules, "schedules"),
        get(site, "/workers", _workers, "workers"),
    ]


async def _overview(site: Site, request: Request) -> Response:
    return page(site, request, "overview.html", queues=await site.client.stats())


async def _instances(site: Site, request: Request) -> Response:
    return page(site, request, "instances.html", found=await site.client.list(limit=50))


async def _schedules(site: Site, request: Request) -> Response:
    return page(site, request, "schedules.html", found=await site.client.schedules())


async def _workers(site: Site, request: Request) -> Response:
    return page(site, request, "workers.html")
