"""``/api/v1``: what the pages show, as JSON."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from trioflow.web._site import ROOT, Site

__all__ = ["answer", "asked", "error", "routes"]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of the API."""
    return []


def asked(request: Request) -> bool:
    """Say whether a request is one of the API."""
    return request.url.path.removeprefix(request.scope.get(ROOT, "")).startswith("/api/")


def answer(value: Any, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def error(status: int, title: str, message: str) -> Response:
    """Return an error as JSON."""
    return answer({"error": {"status": status, "title": title, "message": message}}, status)
