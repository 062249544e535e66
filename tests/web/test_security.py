"""Who may look and act: each rule of the guard, and what gets past none of them."""

from __future__ import annotations

import base64
import logging

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse

from trioflow.web._security.guard import POLICY, Guard, form_of
from trioflow.web._security.peers import address_of, host_name
from trioflow.web._security.sessions import SESSION_SECONDS, Sessions, find_user, same
from trioflow.web._security.settings import Access

KEY = b"k" * 32
HERE = ("127.0.0.1", 50_000)
THERE = ("203.0.113.9", 50_000)
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Clock:
    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


class Site:
    """A guard around a page that says what it was told."""

    def __init__(self, *, root="", **settings):
        self.clock = Clock()
        self.root = root
        self.guard = Guard(
            self.page,
            Access(key=KEY, **settings),
            lambda request, status, title, message: PlainTextResponse(message, status),
            clock=self.clock,
            monotonic=self.clock,
        )

    async def page(self, scope, receive, send):
        request = Request(scope, receive)
        state = request.state
        body = (await request.body()).decode()
        said = {
            "user": state.user,
            "csrf": state.csrf,
            "body": body,
            "form": dict(form_of(request)),
        }
        await JSONResponse(said)(scope, receive, send)

    async def ask(self, method="GET", path="/", *, peer=HERE, host="localhost", **more):
        """Ask for a page; ``more`` is what httpx takes."""
        transport = httpx.ASGITransport(self.guard, client=peer, root_path=self.root)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **more)

    def signed_in(self, name="ann"):
        """Return the headers and the token of a browser with a session."""
        cookie = self.guard.sessions.begin(name)
        session = self.guard.sessions.read(cookie)
        token = self.guard.sessions.token("session", session.id)
        return {"cookie": f"{self.guard.sessions.cookie}={cookie}"}, token


def basic(name, password):
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


# --- hosts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [
        "localhost",
        "LOCALHOST:8700",
        "127.0.0.1",
        "127.0.0.1:8700",
        "[::1]",
        "[::1]:8700",
        "127.9.9.9",
    ],
)
async def test_this_machine_may_look_without_signing_in(named):
    answer = await Site().ask(headers={"host": named})
    assert answer.status_code == 200
    assert answer.json()["user"] is None
    assert answer.json()["csrf"] == ""


@pytest.mark.parametrize(
    "named",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "evil.example:8700",
        "xn--localhost-.example",
        "ops.example.com.evil.example",
        "notops.example.com",
    ],
)
async def test_no_other_name_is_answered_so_that_none_can_be_rebound(named):
    site = Site(hosts=["ops.example.com"], password="p")
    headers, _ = site.signed_in()
    answer = await site.ask(headers={"host": named, **headers})
    assert answer.status_code == 421
    assert named not in answer.text
    assert answer.headers["content-security-policy"] == POLICY


@pytest.mark.parametrize(
    "named",
    ["", "localhost@evil", "localhost/evil", "localhost:99999", "localhost:", "a b", "[::1", "[zz]",
     "localhost\\evil", "<script>", "localhost,evil", "127.0.0.1:80:80", "[::1]evil",
     "\N{FULLWIDTH LATIN SMALL LETTER L}ocalhost"],
)  # fmt: skip
async def test_what_is_no_host_is_refused(named):
    answer = await Site().ask(headers={"host": named.encode()})
    assert answer.status_code == 400


async def test_a_request_with_two_hosts_or_none_is_refused():
    for headers in ([(b"host", b"localhost"), (b"host", b"localhost")], []):
        assert (await asked(Site().guard, headers)) == 400


async def asked(guard, headers, *, kind="http", peer=HERE, path="/", body=None, version="1.1"):
    """Ask as no client library does, of one that does not normalise; return the status."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": kind, "method": "GET" if body is None else "POST", "path": path, "raw_path": b"/",
        "query_string": b"", "root_path": "", "scheme": "http", "http_version": version,
        "server": ("localhost", 80), "client": peer, "headers": headers,
    }  # fmt: skip
    await guard(scope, receive, send)
    return sent[0].get("status", sent[0].get("code"))


async def test_names_that_are_given_are_answered():
    site = Site(hosts=["Ops.Example.com"], password="p")
    headers, _ = site.signed_in()
    for named in ("ops.example.com", "OPS.EXAMPLE.COM.", "ops.example.com:8443"):
        assert (await site.ask(headers={"host": named, **headers})).status_code == 200


async def test_a_given_name_is_not_this_machine():
    site = Site(hosts=["ops.example.com"])
    assert (await site.ask(host="ops.example.com")).status_code == 401


def test_the_name_in_a_host_header():
    assert host_name("Ops.Example.COM.:8700") == "ops.example.com"
    assert host_name("[::1]:80") == "[::1]"
    assert host_name("a" * 300) == "a" * 300
    assert host_name("localhost\n") is None
    assert host_name("localhost:٣") is None  # no ASCII digit


# --- looking -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "peer",
    [THERE, ("10.0.0.1", 1), ("::ffff:203.0.113.9", 1), ("169.254.0.1", 1), ("localhost", 1),
     ("", 1), ("fe80::1%lo", 1)],
)  # fmt: skip
async def test_others_may_not_look_whatever_host_they_name(peer):
    for named in ("localhost", "127.0.0.1", "[::1]"):
        answer = await Site().ask(peer=peer, headers={"host": named})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    "peer", [("127.0.0.1", 1), ("127.8.8.8", 1), ("::1", 1), ("::ffff:127.0.0.1", 1)]
)
async def test_each_loopback_address_is_this_machine(peer):
    assert (await Site().ask(peer=peer)).status_code == 200


async def test_a_socket_without_an_address_is_not_this_machine():
    assert await asked(Site().guard, [(b"host", b"localhost")], peer=None) == 401


async def test_asked_for_by_an_address_of_the_network_this_machine_has_to_sign_in():
    assert (await Site().ask(host="192.168.1.5:8700")).status_code == 401


@pytest.mark.parametrize(
    "name",
    ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via", "x-forwarded-proto"],
)
async def test_what_a_proxy_on_this_machine_passes_on_is_not_from_this_machine(name):
    assert (await Site().ask(headers={name: "127.0.0.1"})).status_code == 401


async def test_what_comes_in_the_language_of_proxies_is_not_from_this_machine():
    assert await asked(Site().guard, [(b"host", b"localhost")], version="1.0") == 401
    assert await asked(Site().guard, [(b"host", b"localhost")], version="1.1") == 200


async def test_looking_without_signing_in_can_be_switched_off():
    assert (await Site(local_reads=False, password="p").ask("HEAD")).status_code == 303


async def test_a_program_is_told_and_a_browser_is_sent_to_sign_in():
    site = Site(password="p", root="/ops")
    answer = await site.ask(path="/ops/api/v1/stats", peer=THERE)
    assert answer.status_code == 401
    answer = await site.ask(path="/ops/instances?status=failed&id=%2F%2Fevil", peer=THERE)
    assert answer.status_code == 303
    where = answer.headers["location"]
    assert where == "/ops/sign-in?next=%2Finstances%3Fstatus%3Dfailed%26id%3D%252F%252Fevil"


@pytest.mark.parametrize(
    "path",
    ["/sign-in/", "/sign-in/../instances", "/static/../instances", "/x/static/a", "/SIGN-IN",
     "/sign-inx", "//static/x", "/static", "/static/", "/sign-in\n"],
)  # fmt: skip
async def test_only_the_way_in_is_open(path):
    guard = Site(password="p").guard
    headers = [(b"host", b"localhost")]
    assert await asked(guard, headers, peer=THERE, path="/sign-in") == 200
    assert await asked(guard, headers, peer=THERE, path="/static/site.css") == 200
    assert await asked(guard, headers, peer=THERE, path=path) == 303


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("cross-site", "no-cors", "image", 403),
        ("cross-site", "cors", "empty", 403),
        ("same-site", "no-cors", "script", 403),
        ("cross-site", "navigate", "iframe", 403),
        ("cross-site", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
    ],
)
async def test_a_foreign_page_cannot_embed_anything(site, mode, dest, status):
    said = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    assert (await Site().ask(headers=said)).status_code == status


async def test_every_answer_has_the_headers():
    site = Site(password="p")
    for more in ({}, {"peer": THERE}, {"headers": {"host": "evil.example"}}, {"method": "POST"}):
        answer = await site.ask(**more)
        assert answer.headers["content-security-policy"] == POLICY, more
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


async def test_there_are_no_websockets():
    assert await asked(Site().guard, [(b"host", b"localhost")], kind="websocket") == 1008


# --- acting --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_nobody_acts_who_is_not_known_not_even_on_this_machine(method):
    for settings in ({}, {"password": "p"}):
        answer = await Site(**settings).ask(method, headers=FORM)
        assert answer.status_code == 403


async def test_one_with_a_session_and_its_token_acts():
    site = Site(password="p")
    headers, token = site.signed_in()
    answer = await site.ask(
        "POST", headers=headers, data={"csrf": token, "reason": "ä &", "x": ["1", "2"]}
    )
    assert answer.status_code == 200
    assert answer.json()["user"] == "ann"
    assert answer.json()["form"] == {"csrf": [token], "reason": ["ä &"], "x": ["1", "2"]}
    assert answer.json()["body"].startswith("csrf=")  # the page can read it again


async def test_a_page_is_told_the_token_of_its_session():
    site = Site(password="p")
    headers, token = site.signed_in()
    told = (await site.ask(headers=headers)).json()
    assert (told["user"], told["csrf"]) == ("ann", token)


async def test_without_the_token_of_the_session_nobody_acts():
    site = Site(password="p")
    headers, token = site.signed_in()
    _, of_another = site.signed_in("bob")
    wrong = ("", token[:-1], token + "x", of_another, token.swapcase(), "ä" * 43, ["", token])
    for given in wrong:
        answer = await site.ask("POST", headers=headers, data={"csrf": given})
        assert answer.status_code == 403, given
    assert (await site.ask("POST", headers={**headers, **FORM})).status_code == 403


@pytest.mark.parametrize(
    "said",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:8701"},
        {"origin": "http://localhost.evil.example:8700"},
        {"origin": "file://localhost:8700"},
        {"origin": "http://localhost:99999"},
        {"origin": "http://[::1"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "http://localhost:8700"},
    ],
)
async def test_what_another_site_sends_is_refused_even_with_the_token(said):
    site = Site(password="p")
    headers, token = site.signed_in()
    answer = await site.ask(
        "POST", host="localhost:8700", headers={**headers, **said}, data={"csrf": token}
    )
    assert answer.status_code == 403
    said = {"sec-fetch-site": "same-origin", "origin": "http://localhost:8700"}
    answer = await site.ask(
        "POST", host="localhost:8700", headers={**headers, **said}, data={"csrf": token}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("named", "origin", "status"),
    [
        ("ops.example.com", "https://ops.example.com", 200),
        ("ops.example.com:443", "https://ops.example.com", 200),
        ("ops.example.com", "https://ops.example.com:8443", 403),
        ("ops.example.com:8443", "https://ops.example.com:8443", 200),
        ("ops.example.com:80", "https://ops.example.com", 403),
        ("[::1]:8700", "http://[::1]:8700", 200),
    ],
)
async def test_a_form_comes_from_the_host_that_it_is_sent_to(named, origin, status):
    site = Site(password="p", hosts=["ops.example.com"])
    headers, token = site.signed_in()
    headers |= {"host": named, "origin": origin}
    assert (await site.ask("POST", headers=headers, data={"csrf": token})).status_code == status


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "multipart/form-data; boundary=x", ""]
)
async def test_only_forms_are_read(kind):
    site = Site(password="p")
    headers, token = site.signed_in()
    body = f"csrf={token}".encode()
    answer = await site.ask("POST", headers={**headers, "content-type": kind}, content=body)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"csrf=%TOKEN%&a=" + b"x" * 5 * 1024 * 1024, 413),
        (b"csrf=%TOKEN%" + b"&a=1" * 200, 400),
        (b"csrf=%TOKEN%&a=\xff", 400),
        (b"csrf=%TOKEN%&a=%FF", 400),
        (b"csrf=%TOKEN%&a=%00&b=%F0%9F%92%A9&c=;d", 200),
    ],
)
async def test_what_is_no_form_or_too_large_is_refused(body, status):
    site = Site(password="p")
    headers, token = site.signed_in()
    sent = {"host": "localhost", **headers, **FORM}
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    body = body.replace(b"%TOKEN%", token.encode())
    assert await asked(site.guard, raw, body=body) == status


# --- sessions ------------------------------------------------------------------------------


async def test_a_session_ends_by_itself_and_when_it_is_signed_out():
    site = Site(password="p")
    headers, _ = site.signed_in()
    site.clock.now += SESSION_SECONDS - 1
    assert (await site.ask(headers=headers)).json()["user"] == "ann"
    site.clock.now += 1
    assert (await site.ask(headers=headers)).json()["user"] is None
    headers, _ = site.signed_in()
    (cookie,) = headers["cookie"].split("=", 1)[1:]
    site.guard.sessions.end(site.guard.sessions.read(cookie))
    assert (await site.ask(headers=headers)).json()["user"] is None


def cookies_of_others():
    ours = Sessions(b"another key, 32 bytes or so, yes", Clock()).begin("ann")
    good = Site(password="p").guard.sessions.begin("ann")
    data, signature = good.split(".")
    forged = (
        base64.urlsafe_b64encode(b'{"user":"root","id":"1","ends_at":9e99}').decode().rstrip("=")
    )
    return [
        ours,
        f"{forged}.{signature}",
        f"{forged}.",
        f"{data}.{signature[:-2]}",
        f"{data}.{signature}.{signature}",
        f".{signature}",
        ".",
        data,
        "",
        "a" * 10_000,
        f"{data}.{'x' * 10_000}",
        "ä.ö",
        '"',
        f"{data}=.{signature}",
    ]


@pytest.mark.parametrize("cookie", cookies_of_others())
async def test_a_cookie_that_is_not_ours_is_nobody(cookie):
    site = Site(password="p")
    header = f"{site.guard.sessions.cookie}={cookie}".encode()
    answer = await site.ask(peer=THERE, headers={"cookie": header})
    assert answer.status_code == 303


async def test_a_session_is_worth_nothing_elsewhere():
    headers, _ = Site(password="p").signed_in()
    name, cookie = headers["cookie"].split("=", 1)
    for other in (Site(password="other"), Site(password={"ann": "p"}), Site()):
        sent = {"cookie": f"{other.guard.sessions.cookie}={cookie}; {name}={cookie}"}
        assert (await other.ask(headers=sent)).json()["user"] is None
    same = Site(password="p")
    assert (await same.ask(headers=headers)).json()["user"] == "ann"


def test_each_process_signs_with_a_key_of_its_own():
    assert Access().key != Access().key
    assert len(Access().key) == 32
    assert "secret" not in repr(Access(password="secret", key=b"secret" * 8))


async def test_two_cookies_of_that_name_are_none():
    site = Site(password="p")
    headers, _ = site.signed_in()
    sent = [("cookie", headers["cookie"]), ("cookie", headers["cookie"])]
    assert (await site.ask(headers=sent)).json()["user"] is None


def test_a_token_is_for_one_purpose():
    sessions = Sessions(KEY, Clock())
    assert sessions.is_token(sessions.token("session", "x"), "session", "x")
    assert not sessions.is_token(sessions.token("session", "x"), "proxy", "x")
    assert not sessions.is_token(sessions.token("a", "bc"), "ab", "c")


def test_texts_are_compared_by_digests_of_one_length(monkeypatch):
    seen = []

    def compared(one, other):
        seen.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compared)
    assert same("", "")
    assert not same("a", "b" * 1000)
    assert same("ä\ud800", "ä\ud800")
    assert seen == [(32, 32)] * 3
    seen.clear()
    assert find_user("b", "bob", {"ann": "a", "bob": "b", "cat": "c"})
    assert not find_user("a", "bob", {"ann": "a", "bob": "b", "cat": "c"})
    assert not find_user("a", "nobody", {"ann": "a", "bob": "b", "cat": "c"})
    assert len(seen) == 18  # as many, whoever it is
    assert not find_user("", "ann", "")
    assert not find_user("", "ann", None)


# --- proxies -------------------------------------------------------------------------------

PROXY = {"proxy_header": "X-Forwarded-User", "proxies": ["10.0.0.7", "10.1.0.0/16"]}


async def test_whom_the_proxy_let_in_looks_and_acts():
    site = Site(**PROXY, hosts=["ops.example.com"])
    said = {"x-forwarded-user": "ann@example.com", "host": "ops.example.com"}
    for peer in (("10.0.0.7", 1), ("10.1.2.3", 1), ("::ffff:10.0.0.7", 1)):
        told = (await site.ask(peer=peer, headers=said)).json()
        assert told["user"] == "ann@example.com"
        answer = await site.ask("POST", peer=peer, headers=said, data={"csrf": told["csrf"]})
        assert answer.status_code == 200
        answer = await site.ask("POST", peer=peer, headers=said, data={"csrf": ""})
        assert answer.status_code == 403


async def test_the_header_is_believed_of_the_proxy_only_and_only_if_asked_for():
    said = {"x-forwarded-user": "ann"}
    assert (await Site(**PROXY).ask(peer=("10.0.0.8", 1), headers=said)).status_code == 401
    assert (await Site(**PROXY).ask(peer=HERE, headers=said)).status_code == 401
    assert (await Site().ask(peer=("10.0.0.7", 1), headers=said)).status_code == 401
    assert (await Site().ask(headers=said)).status_code == 401
    assert (await Site(**PROXY).ask(peer=("10.0.0.7", 1))).status_code == 401


async def test_a_token_of_one_is_none_of_another():
    site = Site(**PROXY)
    ask = lambda user, **more: site.ask(
        peer=("10.0.0.7", 1), headers={"x-forwarded-user": user}, **more
    )
    token = (await ask("mallory")).json()["csrf"]
    assert (await ask("ann", method="POST", data={"csrf": token})).status_code == 403


@pytest.mark.parametrize(
    "names",
    [
        ["ann", "bob"],
        ["ann", "ann"],
        ["a" * 101],
        ["ann\x1b[31m"],
        [" "],
        [b"\xff"],
        ["a\u202eb"],
        ["", ""],
    ],
)
async def test_a_header_that_names_no_one_person_is_refused(names):
    encoded = [name if isinstance(name, bytes) else name.encode() for name in names]
    headers = [(b"host", b"localhost"), *((b"x-forwarded-user", name) for name in encoded)]
    assert await asked(Site(**PROXY).guard, headers, peer=("10.0.0.7", 1)) == 400


async def test_names_of_other_alphabets_are_read():
    headers = {"x-forwarded-user": "Zoë 山田".encode()}
    told = (await Site(**PROXY).ask(peer=("10.0.0.7", 1), headers=headers)).json()
    assert told["user"] == "Zoë 山田"


async def test_a_proxy_on_this_machine_does_not_make_its_visitors_local():
    site = Site(proxy_header="X-User", proxies=["127.0.0.1"])
    assert (await site.ask()).status_code == 401
    assert (await site.ask(headers={"x-user": "ann"})).status_code == 200
    assert (await site.ask(headers={"x-user": ""})).status_code == 401


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"proxy_header": "X-User"}, "needs proxies"),
        ({"proxy_header": "X User", "proxies": ["10.0.0.1"]}, "no name of a header"),
        ({"proxy_header": "X-User", "proxies": ["proxy.local"]}, "no address"),
        ({"proxy_header": "X-User", "proxies": ["10.0.0.1/8"]}, "has host bits set"),
        ({"proxy_header": "X-User", "proxies": "10.0.0.1"}, "lists of texts"),
        ({"hosts": ["https://ops.example.com"]}, "without a scheme"),
        ({"hosts": ["*"]}, "no name of a host"),
        ({"hosts": "ops"}, "lists of texts"),
        ({"key": b"short"}, "too few"),
        ({"password": {" ann": "p"}}, "no name"),
        ({"password": {"ann": ""}}, "is empty"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, said):
    with pytest.raises((ValueError, TypeError), match=said):
        Access(**settings)


def test_the_address_of_a_peer():
    assert address_of(None) is None
    assert address_of(("/run/web.sock", None)) is None
    assert str(address_of(("fe80::1%eth0", 1))) == "fe80::1"


async def test_without_its_header_a_proxy_lets_nobody_in():
    site = Site(proxies=["127.0.0.1", "10.0.0.7"], password="right")
    named = {"x-forwarded-user": "ann", "x-user": "ann", "x-forwarded-for": "127.0.0.1"}
    for peer in (("127.0.0.1", 1), ("10.0.0.7", 1)):
        assert (await site.ask(peer=peer)).status_code == 303
        assert (await site.ask(peer=peer, headers=named)).status_code == 303


# --- passwords -----------------------------------------------------------------------------


async def test_a_program_may_look_at_the_api_with_a_password():
    site = Site(password={"ann": "pä:ss"})
    answer = await site.ask(path="/api/v1/stats", peer=THERE, headers=basic("ann", "pä:ss"))
    assert answer.json()["user"] == "ann"
    assert answer.json()["csrf"] == ""
    answer = await site.ask(path="/instances", peer=THERE, headers=basic("ann", "pä:ss"))
    assert answer.status_code == 303
    answer = await site.ask(
        "POST", "/api/v1/x", peer=THERE, headers={**basic("ann", "pä:ss"), **FORM}
    )
    assert answer.status_code == 403
    said = ("Basic ?", "Basic", "Bearer x", basic("ann", "pass")["authorization"])
    for wrong in (*said, basic("bob", "pä:ss")["authorization"], basic("", "")["authorization"]):
        headers = {"authorization": wrong}
        answer = await site.ask(path="/api/v1/stats", peer=THERE, headers=headers)
        assert answer.status_code == 401
        assert "www-authenticate" not in answer.headers  # or browsers would send it with anything


async def test_after_five_failures_a_peer_has_to_wait(caplog):
    site = Site(password="right")
    caplog.set_level(logging.DEBUG)
    look = lambda password, peer: site.ask(
        path="/api/v1/x", peer=peer, headers=basic("ann", password)
    )
    for _ in range(5):
        assert (await look("wrong-password", THERE)).status_code == 401
        site.clock.now += 1
    assert (await look("right", THERE)).status_code == 401
    assert (await look("right", ("203.0.113.10", 1))).status_code == 200
    site.clock.now += 54
    assert (await look("right", THERE)).status_code == 401
    site.clock.now += 1
    assert (await look("right", THERE)).status_code == 200
    assert "wrong-password" not in caplog.text
    assert "sign-in failed, from 203.0.113.9" in caplog.text


def test_neighbours_share_their_failures_and_all_together_have_a_limit():
    site = Site(password="right")

    def tries(peer, password="wrong"):
        scope = {"type": "http", "client": (peer, 1), "method": "GET", "path": "/", "headers": []}
        return site.guard.sign_in(Request(scope), "ann", password)

    for n in range(5):
        tries(f"2001:db8:1:2::{n}")
    assert tries("2001:db8:1:2:ffff::9", "right") > 0
    assert tries("2001:db8:1:3::9", "right") == 0
    for n in range(95):
        tries(f"10.0.0.{n}")
    assert tries("10.0.1.1", "right") == 60
    site.clock.now += 60
    assert tries("10.0.1.1", "right") == 0


@pytest.mark.parametrize("settings", [PROXY, {"proxies": PROXY["proxies"]}])
def test_behind_a_proxy_each_visitor_is_counted_alone(settings):
    site = Site(password="right", **settings)

    def tries(forwarded, password="wrong"):
        headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
        scope = {
            "type": "http",
            "client": ("10.0.0.7", 1),
            "method": "GET",
            "path": "/",
            "headers": headers,
        }
        return site.guard.sign_in(Request(scope), "ann", password)

    for n in range(5):
        tries([f"1.1.1.{n}, 198.51.100.1"])  # what they say themselves does not count
    assert tries(["9.9.9.9", "8.8.8.8, 198.51.100.1"], "right") > 0
    assert tries(["198.51.100.2"], "right") == 0
    assert tries(["nonsense"], "right") == 0


def test_the_counts_do_not_grow_without_end():
    site = Site(password="right")
    for n in range(10_050):
        site.guard.attempts.failed(str(n))
    assert len(site.guard.attempts._peers) == 10_000
    assert len(site.guard.attempts._all) == 100
