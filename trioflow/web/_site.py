"""What all pages share: the client, the templates, the assets, and how a page is made of them.

A module that has pages gives their routes as ``routes(site) -> list[BaseRoute]``; `_app` puts them
together. A handler calls `page`, which renders a template with what every page has:

- ``url(name, query={}, **parameters)``: the address of a route by its name, below the place where
  the application is mounted; an id in it is escaped,
- ``asset(name)``: the address of a file of ``static/``,
- ``user``, who is known by name, or ``None``; ``csrf``, the token for forms, or ``""``. The guard
  of `_security` sets both in ``request.state``,
- ``closed``, what a store says that is closed, or ``None``,
- ``site`` and ``request``; ``now``, epoch seconds by the store's clock,
- the filters of `trioflow.web._words`.

Names of routes: ``overview``, ``instances``, ``instance`` (``id``), ``schedules``, ``schedule``
(``id``), ``workers``, ``asset`` (``name``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from trioflow import Client, Registry
from trioflow._client.fences import closed_by
from trioflow.web import _addresses, _reading, _words
from trioflow.web._keeping import Kept
from trioflow.web._reading import Overview
from trioflow.web._security.settings import Access

__all__ = ["ROOT", "Asset", "Handler", "Site", "answered", "get", "page", "url"]

ROOT: Final = "trioflow.root_path"
"""In a request's scope: below which path the whole application is mounted."""

_HERE = Path(__file__).parent
_TYPES: Final = {  # not what the machine thinks of them
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_CLOSED_SINCE: Final = 2.0  # seconds after which a page says so

Handler = Callable[["Site", Request], Awaitable[Response]]


class Asset(NamedTuple):
    """A file that the pages need, and what names its content."""

    content: bytes
    type: str
    version: str


def _assets(folder: Path) -> dict[str, Asset]:
    found: dict[str, Asset] = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        found[path.name] = Asset(
            content, _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12]
        )
    return found


def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(_words.FILTERS)
    return made


@dataclass(frozen=True, slots=True)
class Site:
    """What an application is made with.

    Attributes:
        client: Through which the store is read and changed.
        registry: The workflows whose code the pages may run, to replay a history for those who may
            act and ask for it; or ``None``.
        title: What the pages are called, so that two stores are not mistaken for one another.
        access: Who may look and act.
        assets: The files of ``static/`` by name.
        templates: The templates of ``templates/``.
        overview: What there is to know at a glance, shared by all who look.
        closed: What a store says that is closed, since what it holds is moved; or ``None``.
    """

    client: Client
    registry: Registry | None = None
    title: str = "trioflow"
    access: Access = field(default_factory=Access)
    assets: Mapping[str, Asset] = field(default_factory=lambda: _assets(_HERE / "static"))
    templates: jinja2.Environment = field(default_factory=_templates)
    overview: Kept[Overview] = field(init=False)
    closed: Kept[str | None] = field(init=False)

    def __post_init__(self) -> None:
        read = partial(_reading.overview, self.client)
        object.__setattr__(self, "overview", Kept(read))
        is_closed = partial(closed_by, self.client.backend)
        object.__setattr__(self, "closed", Kept(is_closed, least=_CLOSED_SINCE))


def get(site: Site, path: str, handler: Handler, name: str, *, form: bool = False) -> Route:
    """Return the route of a page that is looked at, and with ``form`` can be posted to."""

    async def endpoint(request: Request) -> Response:
        return await answered(site, request, handler)

    return Route(path, endpoint, methods=["GET", "POST"] if form else ["GET"], name=name)


async def answered(site: Site, request: Request, handler: Handler) -> Response:
    """Return what a handler answers; what all pages tell of the store is looked up before."""
    request.state.closed = await site.closed.get()
    return await handler(site, request)


def page(
    site: Site, request: Request, template: str, *, status: int = 200, **context: Any
) -> Response:
    """Render a template.

    Args:
        site: What all pages share.
        request: What is answered.
        template: Its file in ``templates/``.
        status: The status of the answer.
        **context: What the template is told, beside what every page has.
    """

    def address(name: str, query: Mapping[str, Any] | None = None, /, **parameters: str) -> str:
        return url(request, name, query, **parameters)

    def asset(name: str) -> str:
        return url(request, "asset", {"v": site.assets[name].version}, name=name)

    common = {
        "site": site,
        "request": request,
        "url": address,
        "asset": asset,
        "user": getattr(request.state, "user", None),
        "csrf": getattr(request.state, "csrf", ""),
        "closed": getattr(request.state, "closed", None),
        "now": site.client.backend.now(),
    }
    text = site.templates.get_template(template).render({**common, **context})
    return HTMLResponse(text, status)


def url(
    request: Request,
    name: str,
    query: Mapping[str, str | Sequence[str] | None] | None = None,
    /,
    **parameters: str,
) -> str:
    """Return the address of a route of ours, without scheme and host."""
    path: str = request.app.url_path_for(name, **parameters)
    root = request.scope.get(ROOT, "")
    return f"{root}{path}{_addresses.query_string(query or {})}"


def asset_routes(site: Site) -> list[BaseRoute]:
    """Return the route of the files that the pages need."""

    async def asset(request: Request) -> Response:
        found = site.assets.get(request.path_params["name"])
        if found is None:
            return Response(status_code=404)
        kept = request.query_params.get("v") == found.version
        age = "public, max-age=31536000, immutable" if kept else "no-cache"
        return Response(found.content, media_type=found.type, headers={"Cache-Control": age})

    return [Route("/static/{name}", asset, name="asset")]
