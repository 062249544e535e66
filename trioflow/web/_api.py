"""``/api/v1``: what the pages show, as JSON, and its description as OpenAPI.

An answer only gets more fields within a version. What is removed, or means something else, is a
new version beside this one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from trioflow import Registry
from trioflow.web import _reading
from trioflow.web._filtering import TROUBLES, Wanted, after_in, number_in
from trioflow.web._instance import reading
from trioflow.web._instance.divergence import Divergence
from trioflow.web._instance.facts import KINDS
from trioflow.web._instance.facts import Wanted as WantedFacts
from trioflow.web._instance.history import HistoryPage
from trioflow.web._instance.timeline import Timeline
from trioflow.web._instance.trees import Family
from trioflow.web._site import ROOT, Site, get, url

__all__ = ["API", "Index", "answer", "asked", "error", "routes"]

API: Final = "/api/v1"

_MOST: Final = 500


class Index(msgspec.Struct, frozen=True):
    """What there is: the version of the API, that of trioflow, and where everything else is."""

    version: int
    trioflow: str
    paths: dict[str, str]


class _Endpoint(NamedTuple):
    path: str
    name: str
    type: Any
    read: Callable[[Site, Request], Awaitable[Any]]
    parameters: Mapping[str, str] = MappingProxyType({})


# --- what is answered ------------------------------------------------------------------------


async def _index(_site: Site, request: Request) -> Index:
    """Say what there is."""
    base = url(request, "api")
    paths = {each.name: base + each.path.replace(_ID, "/{id}") for each in _ENDPOINTS if each.path}
    return Index(1, _version(), {**paths, "openapi": url(request, "api_openapi")})


async def _stats(site: Site, _request: Request) -> _reading.Overview:
    """What there is to know at a glance: the page `/`."""
    return await site.overview.get()


async def _instances(site: Site, request: Request) -> _reading.InstancePage:
    """A page of instances, newest first: the page `/instances`."""
    given = request.query_params
    limit = number_in(given, "limit", 50, _MOST)
    after = after_in(given)
    return await _reading.instances(site.client, Wanted.of(given), limit=limit, after=after)


async def _instance(site: Site, request: Request) -> reading.InstanceView:
    """All that is known of an instance but its history."""
    return await reading.instance_of(site.client, request.path_params["id"])


async def _history(site: Site, request: Request) -> HistoryPage:
    """What happened to an execution, and what it asked for, line by line."""
    given = request.query_params
    kind = given.get("kind", "")
    if kind and kind not in KINDS:
        raise HTTPException(400, f"kind: one of {', '.join(KINDS)} is needed, not {kind[:40]!r}")
    wanted = WantedFacts(kind=kind, name=given.get("name", ""), failed=bool(given.get("failed")))
    return await reading.history_of(
        site.client,
        await _instance(site, request),
        _execution(request),
        wanted,
        number_in(given, "first", 0, 10_000_000, least=0),
        number_in(given, "limit", 100, _MOST),
        backwards=bool(given.get("backwards")),
    )


async def _timeline(site: Site, request: Request) -> Timeline:
    """What an execution did over time, as bars and marks."""
    return await reading.timeline_of_instance(
        site.client,
        await _instance(site, request),
        _execution(request),
        number_in(request.query_params, "first", 0, 10_000_000, least=0),
        number_in(request.query_params, "limit", 500, _MOST),
    )


async def _tasks(site: Site, request: Request) -> reading.TasksView:
    """Where the tasks of an instance wait: asked of a worker, or replayed by the page's code."""
    code = _code(site, request)
    return await reading.tasks_of(site.client, await _instance(site, request), code)


async def _family(site: Site, request: Request) -> Family:
    """The parents of an instance, and its sub-workflows."""
    after = after_in(request.query_params)
    limit = number_in(request.query_params, "limit", 50, _MOST)
    return await reading.family_of(site.client, request.path_params["id"], after=after, limit=limit)


async def _suspension(site: Site, request: Request) -> Divergence:
    """Why an instance is suspended, and where its code leaves its history."""
    code = _code(site, request)
    return await reading.suspension_of(site.client, await _instance(site, request), code)


def _code(site: Site, request: Request) -> Registry | None:
    """Return the workflows whose code may be run: for those who may act, and only if asked for."""
    if request.query_params.get("replay") != "yes":
        return None
    if getattr(request.state, "user", None) is None:
        raise HTTPException(403, "replay=yes runs code of workflows here: sign in to ask for it.")
    return site.registry


async def _workers(site: Site, _request: Request) -> _reading.Staff:
    """Who works, and on what: the page `/workers`."""
    return await _reading.staff(site.client)


async def _schedules(site: Site, request: Request) -> _reading.SchedulePage:
    """A page of schedules, newest first: the page `/schedules`."""
    limit = number_in(request.query_params, "limit", 50, _MOST)
    after = after_in(request.query_params)
    return await _reading.schedules(site.client, limit=limit, after=after)


async def _schedule(site: Site, request: Request) -> _reading.Schedule:
    """A schedule."""
    return await _reading.schedule(site.client, request.path_params["id"])


def _execution(request: Request) -> int | None:
    return number_in(request.query_params, "execution", 0, 10_000_000, least=0) or None


_PAGED: Final = {
    "limit": f"How many at most, up to {_MOST}.",
    "after": "What the page before gave as `next`.",
}
_FILTERS: Final = {
    "status": "Of this status; may be given several times.",
    "trouble": f"In this trouble: {', '.join(TROUBLES)}.",
    "workflow": "Of this workflow.",
    "queue": "Of this queue.",
    "parent": "Sub-workflows of this instance.",
    "root": "`yes`: only those that have no parent.",
    "id": "Whose id begins so.",
    "where": "With such an attribute: `customer=c7`, `amount>=10`; all must hold.",
    "since": "Started after: `2h`, `2026-11-26T09:30`.",
    "until": "Started before.",
    "ended": "Ended after.",
}
_EXECUTION: Final = {"execution": "Which execution; by default the present one."}
_REPLAY: Final = {
    "replay": "`yes`: replay the history with the page's code; only for those who are signed in."
}
_LINES: Final = {
    "first": "How many to leave out.",
    "limit": f"How many to give at most, up to {_MOST}.",
}

_ID: Final = "/{id:trioflow_id}"
_ENDPOINTS: Final = (
    _Endpoint("", "index", Index, _index),
    _Endpoint("/stats", "stats", _reading.Overview, _stats),
    _Endpoint("/instances", "instances", _reading.InstancePage, _instances, {**_FILTERS, **_PAGED}),
    _Endpoint(f"/instances{_ID}", "instance", reading.InstanceView, _instance),
    _Endpoint(
        f"/instances{_ID}/history",
        "history",
        HistoryPage,
        _history,
        {
            **_EXECUTION,
            "kind": f"Only lines of this kind: {', '.join(KINDS)}.",
            "name": "Only those with this in a name or an id.",
            "failed": "`yes`: only what failed.",
            "backwards": "`yes`: the last line comes first.",
            **_LINES,
        },
    ),
    _Endpoint(
        f"/instances{_ID}/timeline", "timeline", Timeline, _timeline, {**_EXECUTION, **_LINES}
    ),
    _Endpoint(f"/instances{_ID}/tasks", "tasks", reading.TasksView, _tasks, _REPLAY),
    _Endpoint(f"/instances{_ID}/family", "family", Family, _family, _PAGED),
    _Endpoint(f"/instances{_ID}/suspension", "suspension", Divergence, _suspension, _REPLAY),
    _Endpoint("/workers", "workers", _reading.Staff, _workers),
    _Endpoint("/schedules", "schedules", _reading.SchedulePage, _schedules, _PAGED),
    _Endpoint(f"/schedules{_ID}", "schedule", _reading.Schedule, _schedule),
)


# --- how -------------------------------------------------------------------------------------


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of the API."""

    def reads(endpoint: _Endpoint) -> BaseRoute:
        async def handler(site: Site, request: Request) -> Response:
            return answer(await endpoint.read(site, request))

        name = "api" if not endpoint.path else f"api_{endpoint.name}"
        return get(site, API + endpoint.path, handler, name)

    async def openapi(site: Site, request: Request) -> Response:
        return answer(description(site.title, url(request, "api")))

    return [
        *map(reads, _ENDPOINTS),
        get(site, f"{API}/openapi.json", openapi, "api_openapi"),
    ]


def asked(request: Request) -> bool:
    """Say whether a request is one of the API."""
    return request.url.path.removeprefix(request.scope.get(ROOT, "")).startswith("/api/")


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def error(status: int, title: str, message: str) -> Response:
    """Return an error as JSON."""
    return answer({"error": {"status": status, "title": title, "message": message}}, status)


def description(title: str, server: str) -> dict[str, Any]:
    """Return what the API is, as OpenAPI has it.

    Args:
        title: What the pages are called.
        server: The address below which the paths are.
    """
    found, schemas = msgspec.json.schema_components(
        [each.type for each in _ENDPOINTS], ref_template="#/components/schemas/{name}"
    )
    paths: dict[str, Any] = {}
    for each, schema in zip(_ENDPOINTS, found, strict=True):
        inside = [_parameter("id", "path", _ID_IN_PATHS)] if _ID in each.path else []
        asked_for = [_parameter(name, "query", what) for name, what in each.parameters.items()]
        done = {
            "description": "It is this.",
            "content": {"application/json": {"schema": schema}},
        }
        paths[each.path.replace(_ID, "/{id}") or "/"] = {
            "get": {
                "operationId": each.name,
                "summary": (each.read.__doc__ or "").rstrip("."),
                "parameters": [*inside, *asked_for],
                "responses": {"200": done, "default": {"$ref": "#/components/responses/error"}},
            }
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{title}: trioflow", "version": "1"},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {"schemas": schemas, "responses": {"error": _ERROR}},
    }


_ID_IN_PATHS: Final = (
    "An id. What is not a letter, a digit or one of `-_.:@=+,` is escaped as in percent-encoding, "
    "with `~` in place of `%`: `orders/7` is `orders~2F7`."
)
_ERROR: Final = {
    "description": "It cannot be answered; `message` says why.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "error": {
                        "type": "object",
                        "properties": {
                            "status": {"type": "integer"},
                            "title": {"type": "string"},
                            "message": {"type": "string"},
                        },
                    }
                },
            }
        }
    },
}


def _parameter(name: str, where: str, what: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name in {"status", "where"}:
        schema = {"type": "array", "items": schema}
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": what,
        "schema": schema,
    }


def _version() -> str:
    try:
        return version("trioflow")
    except PackageNotFoundError:  # imported from a checkout
        return ""
