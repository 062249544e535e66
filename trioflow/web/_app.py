"""Putting the application together: routes, middleware, and what errors look like."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trioflow import ArgumentError, BackendUnavailable, Client, InstanceNotFound, Registry
from trioflow.web import _acting, _api, _instance, _pages
from trioflow.web._security import signing
from trioflow.web._security.guard import Guard
from trioflow.web._security.settings import Access
from trioflow.web._site import ROOT, Site, asset_routes, page

__all__ = ["app"]

logger = logging.getLogger("trioflow.web")

ErrorAnswer = Callable[[Request, int, str, str], Response]

_TITLES: Final = {
    400: "This cannot be asked",
    403: "Not allowed",
    404: "Not found",
    405: "Not allowed",
    410: "Gone",
    503: "The store cannot be reached",
}


def app(
    client: Client,
    *,
    registry: Registry | None = None,
    title: str = "trioflow",
    access: Access | None = None,
) -> ASGIApp:
    """Return web pages and a JSON API on a store, as an ASGI application.

    Args:
        client: Through which the store is read and changed. It has to be open while requests are
            served, on the loop that serves them.
        registry: The workflows whose code the pages may run, to replay a history where somebody
            who may act asks for it. It runs on the loop that serves the pages. Without it nothing
            but a worker answers where code is needed.
        title: What the pages are called, for those who look at more than one store.
        access: Who may look and act; by default those on this machine may look, and nobody acts.
    """
    site = Site(client, registry=registry, title=title, access=access or Access())
    modules = (_pages, _api, _acting, _instance, signing)
    routes = [route for module in modules for route in module.routes(site)]
    answer = _answering(site)
    return Starlette(
        routes=[*asset_routes(site), *routes],
        middleware=[
            Middleware(_Rooted),
            Middleware(Guard, site.access, answer),
            Middleware(_Caught, answer),
        ],
        exception_handlers=_handlers(answer),
    )


class _Rooted:
    """Keeps where the whole application is mounted; a `Mount` inside changes ``root_path``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROOT] = scope.get("root_path", "").rstrip("/")
        await self._app(scope, receive, send)


class _Caught:
    """Answers with a page when a page could not be made, inside of what sets headers."""

    def __init__(self, app: ASGIApp, answer: ErrorAnswer) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if begun or scope["type"] != "http":
                raise
            logger.exception("%s %s could not be answered", scope["method"], scope["path"])
            said = "This could not be done. The log of the program that serves the pages says why."
            await self._answer(Request(scope), 500, "Error", said)(scope, receive, send)


def _answering(site: Site) -> ErrorAnswer:
    """Return what answers with an error, as a page or as JSON."""

    def answer(request: Request, status: int, title: str, message: str) -> Response:
        if _api.asked(request):
            return _api.error(status, title, message)
        return page(
            site, request, "error.html", status=status, code=status, title=title, message=message
        )

    return answer


def _handlers(answer: ErrorAnswer) -> dict[Any, Any]:
    """Return what answers instead when something is raised that is nobody's fault here."""

    async def http(request: Request, exc: HTTPException) -> Response:
        found = answer(request, exc.status_code, _TITLES.get(exc.status_code, "Error"), exc.detail)
        found.headers.update(exc.headers or {})
        return found

    async def missing(request: Request, exc: InstanceNotFound) -> Response:
        return answer(request, 404, _TITLES[404], str(exc))

    async def unavailable(request: Request, exc: BackendUnavailable) -> Response:
        return answer(request, 503, _TITLES[503], str(exc))

    async def refused(request: Request, exc: ArgumentError) -> Response:
        return answer(request, 400, _TITLES[400], str(exc))

    return {
        HTTPException: http,
        ArgumentError: refused,
        InstanceNotFound: missing,
        BackendUnavailable: unavailable,
    }
