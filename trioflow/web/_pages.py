"""The pages of many things: overview, instances, schedules, workers."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from trioflow import InstanceNotFound
from trioflow.web import _reading
from trioflow.web._filtering import STATUSES, TROUBLES, Wanted, after_in, number_in
from trioflow.web._site import Site, get, page, url

__all__ = ["routes"]

_ROWS: Final = 50
_MOST_ROWS: Final = 500


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of these pages."""
    return [
        get(site, "/", _overview, "overview"),
        get(site, "/instances", _instances, "instances"),
        get(site, "/schedules", _schedules, "schedules"),
        get(site, "/schedules/{id:trioflow_id}", _schedule, "schedule"),
        get(site, "/workers", _workers, "workers"),
    ]


async def _overview(site: Site, request: Request) -> Response:
    seen = await site.overview.get()
    most = _reading.MOST_COUNTED
    return page(site, request, "overview.html", seen=seen, troubles=TROUBLES, most=most)


async def _instances(site: Site, request: Request) -> Response:
    wanted = Wanted.of(request.query_params)
    if request.query_params.get("go") and (there := await _exact(site, request, wanted.id)):
        return there
    limit = number_in(request.query_params, "limit", _ROWS, _MOST_ROWS)
    after = after_in(request.query_params)
    status, error, found = 200, None, None
    try:
        found = await _reading.instances(site.client, wanted, limit=limit, after=after)
    except HTTPException as exc:  # the form stays, to be mended
        status, error = exc.status_code, exc.detail
    return page(
        site,
        request,
        "instances.html",
        status=status,
        error=error,
        found=found,
        wanted=wanted,
        statuses=STATUSES,
        troubles=TROUBLES,
        queues=[one.queue for one in await site.client.stats()],
        workflows=sorted(site.registry.workflows) if site.registry else [],
        limit=limit if limit != _ROWS else None,
        after=after,
    )


async def _exact(site: Site, request: Request, id: str) -> Response | None:
    """Lead to the instance that has exactly this id."""
    try:
        await site.client.handle(id).describe()
    except (InstanceNotFound, TypeError, ValueError):
        return None
    return RedirectResponse(url(request, "instance", id=id), 303)


async def _schedules(site: Site, request: Request) -> Response:
    limit = number_in(request.query_params, "limit", _ROWS, _MOST_ROWS)
    after = after_in(request.query_params)
    found = await _reading.schedules(site.client, limit=limit, after=after)
    return page(site, request, "schedules.html", found=found, after=after)


async def _schedule(site: Site, request: Request) -> Response:
    one = await _reading.schedule(site.client, request.path_params["id"])
    return page(site, request, "schedule.html", one=one)


async def _workers(site: Site, request: Request) -> Response:
    return page(site, request, "workers.html", seen=await _reading.staff(site.client))
