"""The pages of signing in and out."""

from __future__ import annotations

import math
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from trioflow.web._security.guard import GUARD, Guard, form_of, root_of
from trioflow.web._security.sessions import SESSION_SECONDS
from trioflow.web._security.settings import NAME_LENGTH
from trioflow.web._site import Site, get, page, url

__all__ = ["routes"]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of signing in and out."""

    async def sign_in(request: Request) -> Response:
        return _sign_in(site, request)

    async def sign_out(request: Request) -> Response:
        return _sign_out(request)

    return [
        get(site, "/sign-in", _form, "sign-in"),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"], name="sign-out"),
    ]


async def _form(site: Site, request: Request) -> Response:
    return _page(site, request, next_=request.query_params.get("next", ""))


def _page(
    site: Site, request: Request, *, next_: str, name: str = "", said: str = "", status: int = 200
) -> Response:
    return page(
        site,
        request,
        "sign-in.html",
        status=status,
        next=next_,
        name=name,
        said=said,
        longest=NAME_LENGTH,
        shared=isinstance(site.access.password, str),
        possible=site.access.signs_in,
    )


def _sign_in(site: Site, request: Request) -> Response:
    guard: Guard = request.scope[GUARD]
    form = form_of(request)
    name = form.get("name", [""])[0].strip()
    password = form.get("password", [""])[0]
    next_ = form.get("next", [""])[0]
    wait = guard.sign_in(request, name, password)
    if wait >= 1:
        said = f"There were too many failures. Try again in {math.ceil(wait)} seconds."
        answer = _page(site, request, next_=next_, name=name, said=said, status=429)
        answer.headers["Retry-After"] = str(math.ceil(wait))
        return answer
    if wait > 0:
        said = "This is not the password of that name."
        return _page(site, request, next_=next_, name=name, said=said, status=403)
    before = guard.session_of(request)
    if before is not None:
        guard.sessions.end(before)
    cookie = guard.session_cookie(request, guard.sessions.begin(name), SESSION_SECONDS)
    return Response(status_code=303, headers={"Location": _there(request, next_), **cookie})


def _sign_out(request: Request) -> Response:
    guard: Guard = request.scope[GUARD]
    session = guard.session_of(request)
    if session is not None:
        guard.sessions.end(session)
    cookie = guard.session_cookie(request, "", 0)
    return Response(status_code=303, headers={"Location": url(request, "sign-in"), **cookie})


def _there(request: Request, next_: str) -> str:
    """Return the address of a page of ours that was asked for, or of the first one."""
    try:
        wanted = urlsplit(next_)
    except ValueError:
        return url(request, "overview")
    plain = next_.isascii() and next_.isprintable() and "\\" not in next_
    if wanted.scheme or wanted.netloc or not plain or not next_.startswith("/"):
        return url(request, "overview")
    if next_.startswith("//") or wanted.path in ("/sign-in", "/sign-out"):
        return url(request, "overview")
    return f"{root_of(request.scope)}{next_}"
