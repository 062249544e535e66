"""What every request passes before a page sees it: host, who it is, and whether a form is ours.

It is around the whole application, so that what it adds is on the answers to errors, too.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trioflow.web._security.attempts import Attempts
from trioflow.web._security.forms import Refused, again, is_ours, parse, read
from trioflow.web._security.peers import (
    address_of,
    forwarded_by_others,
    host_name,
    is_local,
    known_host,
    within,
)
from trioflow.web._security.sessions import Session, Sessions, find_user
from trioflow.web._security.settings import Access, is_name
from trioflow.web._site import ROOT

__all__ = ["GUARD", "HERE", "POLICY", "Guard", "form_of", "path_of", "root_of"]

_log = logging.getLogger("trioflow.web")

GUARD: Final = "trioflow.guard"
"""In a request's scope: the guard that it has passed."""

HERE: Final = "trioflow.here"
"""In a request's scope: the address of the page, to come back to after signing in."""

_FORM: Final = "trioflow.form"
_SESSION: Final = "trioflow.session"

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""What a page may load: only what is ours, and nothing that is written into the page."""

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # With no-referrer a browser would say `Origin: null` of our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_SAFE: Final = ("GET", "HEAD")
_OPEN: Final = re.compile(r"/sign-in|/sign-out|/static/[^/]+")
"""What one reaches without being known: how to become known, and how that looks."""

Refuse = Callable[[Request, int, str, str], Response]


class _Who(NamedTuple):
    """Somebody who is known."""

    user: str
    token: str
    session: Session | None = None


class Guard:
    """Lets through what may be asked, and says to the pages who asks.

    It sets ``user``, a name or ``None``, and ``csrf``, the token for forms, in ``request.state``.

    Args:
        app: What is guarded.
        access: Who may look and act.
        refuse: Makes the answer to what may not be asked, of a status, a title and a message.
        clock: Epoch seconds, for sessions.
        monotonic: Seconds that only go forward, for the attempts to sign in.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        refuse: Refuse,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.access = access
        self.sessions = Sessions(access.signing_key, clock)
        self.attempts = Attempts(monotonic)
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        scope[GUARD] = self
        request = Request(scope, receive)
        try:
            name = self._host(scope)
        except Refused as refused:  # nothing that is ours is shown under a name that is not
            answer: Response = PlainTextResponse(f"{refused.message}\n", refused.status)
            await answer(scope, receive, with_headers)
            return
        try:
            passed = await self._pass(request, name)
        except Refused as refused:
            answer = self._refuse(request, refused.status, refused.title, refused.message)
            if refused.status == 401 and not path_of(scope).startswith("/api/"):  # noqa: PLR2004
                answer = self._to_sign_in(request) or answer
            await answer(scope, receive, with_headers)
            return
        await self._app(scope, passed, with_headers)

    # --- the rules ----------------------------------------------------------------------

    def _host(self, scope: Scope) -> str:
        """Return the name of this host that is asked for."""
        given = [value for name, value in scope["headers"] if name.lower() == b"host"]
        host = given[0].decode("latin-1") if len(given) == 1 else ""
        name = host_name(host)
        if name is None:
            raise Refused(400, "", "The request names no host, or several.")
        if not known_host(name, self.access.hosts):
            raise Refused(
                421,
                "",
                "This page does not answer under this host's name. If it is meant to, its name has "
                "to be given to the server: trioflow web --host NAME, or Access(hosts=[...]).",
            )
        return name

    async def _pass(self, request: Request, host: str) -> Receive:
        """Find out who asks, and return where the body of the request is read from."""
        scope = request.scope
        self._check_embedding(request.headers)
        who = self._who(request)
        scope.setdefault("state", {})
        request.state.user = None if who is None else who.user
        request.state.csrf = "" if who is None else who.token
        scope[HERE] = _here(request)
        scope[_SESSION] = None if who is None else who.session
        is_open = _OPEN.fullmatch(path_of(scope)) is not None
        if request.method not in _SAFE:
            return await self._pass_form(request, who, is_open=is_open)
        if who is None and not is_open and not self._may_look(scope, host):
            raise Refused(
                401,
                "Sign in",
                "Without signing in this page is shown on the machine itself only.",
            )
        return request.receive

    def _may_look(self, scope: Scope, host: str) -> bool:
        """Return whether somebody may look who is not known: who is on this machine."""
        peer = address_of(scope.get("client"))
        return (
            self.access.local_reads
            and is_local(peer, host)
            and not within(peer, self.access.networks)
            and not forwarded_by_others(scope["headers"])
            and scope.get("http_version") != "1.0"  # proxies speak it, but no browser
        )

    def _who(self, request: Request) -> _Who | None:
        return self._by_proxy(request) or self._by_session(request) or self._by_basic(request)

    def _by_proxy(self, request: Request) -> _Who | None:
        header = self.access.proxy_header
        if not header:
            return None
        if not within(address_of(request.scope.get("client")), self.access.networks):
            return None
        given = request.headers.getlist(header)
        if not given or given == [""]:
            return None
        name = _utf8(given[0])
        if len(given) > 1 or not is_name(name):
            raise Refused(400, "Who is this?", f"The proxy's {header} is no name of one person.")
        return _Who(name, self.sessions.token("proxy", name))

    def _by_session(self, request: Request) -> _Who | None:
        if not self.access.signs_in:
            return None
        cookies = [
            found
            for each in request.headers.getlist("cookie")
            if (found := cookie_parser(each).get(self.sessions.cookie)) is not None
        ]
        session = self.sessions.read(cookies[0]) if len(cookies) == 1 else None
        if session is None:
            return None
        return _Who(session.user, self.sessions.token("session", session.id), session)

    def _by_basic(self, request: Request) -> _Who | None:
        """Return whose name and password a program has sent; it may look only."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic" or request.method not in _SAFE or not self.access.signs_in:
            return None
        if not path_of(request.scope).startswith("/api/"):
            return None
        try:
            name, colon, password = base64.b64decode(given, validate=True).decode().partition(":")
        except ValueError:
            return None
        if not colon or self.sign_in(request, name, password) > 0:
            raise Refused(401, "Sign in", "This is not the password of that name.")
        return _Who(name, "")

    def sign_in(self, request: Request, name: str, password: str) -> float:
        """Try a password.

        Returns:
            0 if it is right; otherwise in how many seconds one may try again, at least a moment.
        """
        peer = self._peer(request.scope)
        wait = self.attempts.wait(peer)
        if wait > 0:
            _log.warning("sign-in refused: too many failures, the last ones from %s", peer)
            return wait
        if is_name(name) and find_user(password, name, self.access.password):
            _log.info("%r signed in, from %s", name, peer)
            return 0.0
        self.attempts.failed(peer)  # what was typed is not logged: it may be a password, too
        _log.warning("sign-in failed, from %s", peer)
        return self.attempts.wait(peer) or 0.001

    def _peer(self, scope: Scope) -> str:
        """Return what counts as one who tries to sign in."""
        peer = address_of(scope.get("client"))
        if within(peer, self.access.networks):
            # The last one is what the proxy has seen; those before it can be anybody's words.
            said = Headers(scope=scope).getlist("x-forwarded-for")
            last = said[-1].rpartition(",")[2].strip() if said else ""
            peer = address_of((last,)) or peer
        if peer is None:
            return "a socket"
        if peer.version == 6:  # noqa: PLR2004 - one network is one household
            return f"{peer.exploded[:19]}::/64"
        return str(peer)

    def _check_embedding(self, headers: Headers) -> None:
        """Refuse what a foreign page loads into itself; a link to a page is followed."""
        site = headers.get("sec-fetch-site", "none")
        if site in ("same-origin", "none"):
            return
        followed = headers.get("sec-fetch-mode") == "navigate"
        if not followed or headers.get("sec-fetch-dest") != "document":
            raise Refused(403, "Not allowed", "Another site has asked for this.")

    async def _pass_form(self, request: Request, who: _Who | None, *, is_open: bool) -> Receive:
        headers = request.headers
        if not is_ours(headers):
            raise Refused(403, "Not allowed", "Another site has sent this.")
        if who is None and not is_open:
            raise Refused(403, "Not allowed", self._how_to_act())
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise Refused(415, "This cannot be read", "A form of this page is expected.")
        body = await read(request.receive)
        form = parse(body)
        request.scope[_FORM] = form
        if who is not None and not self._is_token(who, form.get("csrf", [""])[0]):
            raise Refused(
                403,
                "The form is too old",
                "It was not made for this session, so nothing was done. Load the page with the "
                "form again.",
            )
        return again(body)

    def _is_token(self, who: _Who, given: str) -> bool:
        whose = ("session", who.session.id) if who.session is not None else ("proxy", who.user)
        return self.sessions.is_token(given, *whose)

    def _how_to_act(self) -> str:
        if self.access.signs_in:
            return "Sign in to act."
        return (
            "Nobody may act here: the server was given neither a password nor the header of a "
            "proxy."
        )

    def _to_sign_in(self, request: Request) -> Response | None:
        if not self.access.signs_in or request.method not in _SAFE:
            return None
        address = f"{root_of(request.scope)}/sign-in?{urlencode({'next': _here(request)})}"
        return Response(status_code=303, headers={"Location": address})

    # --- sessions -----------------------------------------------------------------------

    def session_cookie(self, request: Request, value: str, seconds: float) -> Mapping[str, str]:
        """Return the header that gives a browser a session, or takes it away."""
        parts = [
            f"{self.sessions.cookie}={value}",
            f"Path={root_of(request.scope) or '/'}",
            f"Max-Age={seconds:.0f}",
            "HttpOnly",
            "SameSite=Strict",
        ]
        if self.access.https or request.url.scheme == "https":
            parts.append("Secure")
        return {"Set-Cookie": "; ".join(parts)}

    def session_of(self, request: Request) -> Session | None:
        """Return the session of a request, if it has one."""
        found: Session | None = request.scope.get(_SESSION)
        return found


def form_of(request: Request) -> Mapping[str, list[str]]:
    """Return what the fields of a form hold."""
    found: Mapping[str, list[str]] = request.scope.get(_FORM, {})
    return found


def root_of(scope: Scope) -> str:
    """Return below which path the whole application is mounted."""
    root: str = scope.get(ROOT, scope.get("root_path", ""))
    return root.rstrip("/")


def path_of(scope: Scope) -> str:
    """Return the path of a request below that."""
    path: str = scope["path"]
    root = root_of(scope)
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _here(request: Request) -> str:
    """Return the address of a page below where the application is mounted."""
    query = request.url.query
    return path_of(request.scope) + (f"?{query}" if query else "")


def _utf8(value: str) -> str:
    """Return the text of a header, which Starlette reads as Latin-1."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return ""
