"""What is done through the page: each action, who did it, and what is asked before."""

from __future__ import annotations

import html
import logging
import re
from contextlib import asynccontextmanager, nullcontext

import anyio
import httpx
import pytest

from tests.worker.flow import in_memory, until_parked
from trioflow import (
    Every,
    InstanceCancelled,
    InstanceTerminated,
    Query,
    Registry,
    RetryPolicy,
    SharedLock,
    Signal,
    Update,
    activity,
    open_client,
    open_worker,
)
from trioflow.web import Access, app
from trioflow.web._acting import bulk
from trioflow.web._security.guard import GUARD

approved = Signal("approved", bool)
contents = Query("contents", result=list[str])
add = Update("add", argument=str, result=int)
HOSTILE = "a/b ?#%<script>alert(1)</script>\"'&~2F ä\u202e\N{PILE OF POO}"


def flows():
    registry = Registry()

    @registry.workflow
    async def cart(user: str = "ann", *more: int, note: str = "") -> list[str]:
        """Wait for an approval.

        And collect until then.
        """
        items = [user]
        contents.handler(lambda: items)

        @add.handler
        async def _(item: str) -> int:
            if item == "bad":
                raise ValueError("<b>no</b> bad things")
            items.append(item)
            return len(items)

        await approved.receive()
        return items

    @registry.workflow
    async def fails() -> None:
        raise ValueError("broken")

    return registry


class Browser:
    """Asks the application as a browser that is signed in would do."""

    def __init__(self, client, asgi, root=""):
        self.client = client
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(asgi, root_path=root), base_url=f"http://localhost{root}"
        )
        self.root = root

    async def sign_in(self, name="ann", password="p"):
        return await self.http.post("/sign-in", data={"name": name, "password": password})

    async def fields(self, path):
        """Return the hidden fields of a page's form."""
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return hidden(answer.text)

    async def act(self, path, **given):
        """Look at a form, fill it in and send it, as far as the answer is another page."""
        fields = await self.fields(path)
        return await self.http.post(path.partition("?")[0], data={**fields, **given})


def hidden(text):
    form = re.search(r'(?s)<main.*?(<form method="post".*?</form>)', text)[1]
    fields = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form):
        fields.setdefault(html.unescape(name), []).append(html.unescape(value))
    return fields


def told(caplog):
    """Return what the pages themselves have logged; a worker that stands beside them logs, too."""
    return [record for record in caplog.records if record.name == "trioflow.web"]


def text_of(answer):
    return html.unescape(re.sub(r"<[^>]*>", " ", answer.text))


@asynccontextmanager
async def page(clock, registry=None, *, root="", work=True, code=True, **settings):
    """A worker, and a browser that is signed in at its page."""
    registry = registry or flows()
    opened = (
        open_worker(in_memory(clock), registry=registry, drain=0)
        if work
        else open_client(in_memory(clock), registry=registry)
    )
    async with opened as given:
        client = given.client if work else given
        access = Access(**{"password": "p", **settings})
        browser = Browser(
            client, app(client, registry=registry if code else None, access=access), root
        )
        async with browser.http:
            if access.signs_in:
                answer = await browser.sign_in()
                assert answer.status_code == 303, answer.text
            yield browser


# --- signing in ----------------------------------------------------------------------------


async def test_one_signs_in_and_out(clock):
    async with page(clock, root="/ops") as browser:
        first = await browser.http.get("/")
        assert "Signed in as ann" in first.text
        answer = await browser.http.post("/sign-out", data=hidden_of_header(first.text))
        assert answer.headers["location"] == "/ops/sign-in"
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert "Signed in as" not in (await browser.http.get("/")).text
        answer = await browser.sign_in("bob")
        cookie = answer.headers["set-cookie"]
        assert re.fullmatch(
            r"trioflow-[0-9a-f]{8}=[\w.-]+; Path=/ops; Max-Age=43200; HttpOnly; SameSite=Strict",
            cookie,
        )


def hidden_of_header(text):
    form = re.search(r'(?s)<header class="top".*?(<form method="post".*?</form>)', text)[1]
    return dict(re.findall(r'name="([^"]*)" value="([^"]*)"', form))


async def test_a_session_that_was_signed_out_is_over_though_the_cookie_is_kept(clock):
    async with page(clock) as browser:
        cookies = dict(browser.http.cookies)
        first = await browser.http.get("/")
        await browser.http.post("/sign-out", data=hidden_of_header(first.text))
        browser.http.cookies.update(cookies)
        assert "Signed in as" not in (await browser.http.get("/")).text


@pytest.mark.parametrize("settings", [{"https": True}, {}])
async def test_the_cookie_is_for_https_only_where_that_is_used(clock, settings):
    async with page(clock, **settings) as browser:
        browser.http.cookies.clear()
        browser.http.base_url = "https://localhost"
        assert "; Secure" in (await browser.sign_in()).headers["set-cookie"]
        browser.http.cookies.clear()
        browser.http.base_url = "http://localhost"
        secure = "; Secure" in (await browser.sign_in()).headers.get("set-cookie", "")
        assert secure == bool(settings)


@pytest.mark.parametrize(
    ("asked", "there"),
    [
        ("/instances?status=failed", "/ops/instances?status=failed"),
        ("/instances/a~2Fb", "/ops/instances/a~2Fb"),
        ("", "/ops/"),
        ("//evil.example/x", "/ops/"),
        ("https://evil.example", "/ops/"),
        ("/\\evil.example", "/ops/"),
        ("\\\\evil.example", "/ops/"),
        ("javascript:alert(1)", "/ops/"),
        ("instances", "/ops/"),
        ("/x\r\nSet-Cookie: a=b", "/ops/"),
        ("/x\ty", "/ops/"),
        ("//[", "/ops/"),
        ("/sign-out", "/ops/"),
        ("/ä", "/ops/"),
    ],
)
async def test_after_signing_in_one_is_where_one_wanted_to_go(clock, asked, there):
    async with page(clock, root="/ops") as browser:
        browser.http.cookies.clear()
        given = {"name": "ann", "password": "p", "next": asked}
        answer = await browser.http.post("/sign-in", data=given)
        assert answer.headers["location"] == there


async def test_wrong_passwords_are_told_and_then_have_to_wait(clock, caplog):
    async with page(clock, password={"ann": "p", "bob": "q"}) as browser:
        browser.http.cookies.clear()
        for password in ("q", "Pssst", "p "):
            answer = await browser.sign_in(HOSTILE[:40], password)
            assert answer.status_code == 403
            assert "<script>alert" not in answer.text
            assert "not the password of that name" in answer.text
            assert "set-cookie" not in answer.headers
        assert (await browser.sign_in("ann", "q")).status_code == 403
        assert (await browser.sign_in("bob", "p")).status_code == 429
        answer = await browser.sign_in("ann", "p")
        assert answer.status_code == 429
        assert 50 < int(answer.headers["retry-after"]) <= 60
        assert "Pssst" not in caplog.text


async def test_without_a_password_nobody_signs_in_and_nobody_acts(clock):
    async with page(clock, password=None) as browser:
        await browser.client.start("cart")
        assert "Nobody can sign in here" in (await browser.http.get("/sign-in")).text
        assert (await browser.sign_in()).status_code == 403
        assert (await browser.sign_in("ann", "")).status_code == 403
        (one,) = await browser.client.list()
        text = (await browser.http.get(f"/instances/{one.id}")).text
        assert "/do/" not in text
        text = (await browser.http.get(f"/instances/{one.id}/do/cancel")).text
        assert "Nobody may act here" in text
        assert "<form method" not in text
        answer = await browser.http.post(f"/instances/{one.id}/do/cancel", data={"sure": "yes"})
        assert answer.status_code == 403
        assert (await browser.client.handle(one.id).describe()).status == "running"


# --- one instance --------------------------------------------------------------------------


async def cart(browser, id="cart-1"):
    handle = await browser.client.start(browser_cart(browser).options(id=id))
    await until_parked(handle)
    return handle


def browser_cart(browser):
    return browser.client._starter._registry.workflows["cart"]


async def test_an_instance_is_told_and_asked(clock, caplog):
    caplog.set_level(logging.INFO, "trioflow.web")
    async with page(clock) as browser:
        handle = await cart(browser)
        at = "/instances/cart-1/do"
        answer = await browser.act(f"{at}/update", name="add", value="tea")
        assert "Answer 2" in " ".join(text_of(answer).split())
        answer = await browser.act(f"{at}/update", name="add", value='"bad"')
        assert "ValueError: <b>no</b> bad things" in html.unescape(answer.text)
        assert "<b>no</b>" not in answer.text
        answer = await browser.act(f"{at}/query", name="contents")
        assert '[ "ann", "tea" ]' in " ".join(text_of(answer).split())
        answer = await browser.act(f"{at}/query", name="nothing")
        assert answer.status_code == 409
        assert "'contents'" in text_of(answer)
        answer = await browser.act(f"{at}/signal", name="approved", value="true")
        assert answer.headers["location"] == "/instances/cart-1?did=signal"
        assert (
            "The signal is stored." in (await browser.http.get("/instances/cart-1?did=signal")).text
        )
        assert await handle.result() == ["ann", "tea"]
        turns = [turn for each in await handle.history() for turn in each.turns]
        asked = [event for turn in turns for event in turn.events if hasattr(event, "update")]
        assert re.fullmatch("ann through the web page, [0-9a-f]{12}", asked[0].update)
    said = [record.getMessage() for record in told(caplog)]
    assert said == [
        "'ann' signed in, from 127.0.0.1",
        "'ann': update, instance 'cart-1': 'add'",
        "'ann': update, instance 'cart-1': 'add'",
        "'ann': query, instance 'cart-1': 'contents'",
        "'ann': query, instance 'cart-1', refused: 'nothing'",
        "'ann': signal, instance 'cart-1': 'approved'",
    ]
    last = told(caplog)[-1]
    assert (last.user, last.action, last.instance) == ("ann", "signal", "cart-1")


async def test_who_cancels_stands_in_the_history(clock):
    async with page(clock) as browser:
        handle = await cart(browser)
        answer = await browser.act("/instances/cart-1/do/cancel", reason=" too late\r\n")
        assert answer.status_code == 303
        with pytest.raises(InstanceCancelled) as caught:
            await handle.result()
        assert caught.value.reason == "too late (by ann through the web page)"
        (last,) = (await handle.history())[-1].turns[-1].events
        assert last.reason == "too late (by ann through the web page)"


async def test_who_terminates_pauses_and_resets_is_kept(clock):
    async with page(clock) as browser:
        handle = await cart(browser)
        await browser.act("/instances/cart-1/do/pause")
        described = await handle.describe()
        assert described.suspension.reason == "by ann through the web page"
        await browser.act("/instances/cart-1/do/resume")
        await handle.wait(status="running")
        await browser.act("/instances/cart-1/do/reset", turn="0", reason="again")
        first = (await handle.history())[0]
        assert first.turns[-1].reset.reason == "again (by ann through the web page)"
        await browser.act("/instances/cart-1/do/terminate", reason="enough")
        with pytest.raises(InstanceTerminated) as caught:
            await handle.result()
        assert caught.value.reason == "enough (by ann through the web page)"
        answer = await browser.act("/instances/cart-1/do/remove")
        assert answer.headers["location"] == "/instances?did=remove"
        assert await browser.client.list() == []


async def test_attempts_that_wait_begin_now(clock):
    registry = flows()
    tries = []

    @activity(retry=RetryPolicy(max_attempts=2, initial_interval=3600, max_interval=3600))
    async def flaky() -> None:
        tries.append(anyio.current_time())
        if len(tries) == 1:
            raise ValueError("not yet")

    registry.add(flaky)

    @registry.workflow
    async def patient() -> str:
        await flaky()
        return "done"

    async with page(clock, registry) as browser:
        handle = await browser.client.start(patient.options(id="p"))
        while not [one for one in (await handle.describe()).activities if one.failure]:
            await anyio.sleep(0.1)
        answer = await browser.act("/instances/p/do/retry", activity="other")
        assert "nothing was done" in text_of(answer)
        answer = await browser.act("/instances/p/do/retry")
        assert answer.status_code == 303
        assert await handle.result() == "done"
        assert tries[1] - tries[0] < 100


@pytest.mark.parametrize("name", ["cancel", "terminate", "reset", "remove"])
async def test_what_destroys_asks_first(clock, name):
    async with page(clock) as browser:
        handle = await cart(browser)
        if name == "remove":
            await handle.terminate()
        fields = await browser.fields(f"/instances/cart-1/do/{name}")
        assert fields.pop("sure") == ["yes"]
        given = {**fields, "reason": "x < y", "turn": "0"}
        answer = await browser.http.post(f"/instances/cart-1/do/{name}", data=given)
        assert answer.status_code == 200
        assert hidden(answer.text)["sure"] == ["yes"]
        if name != "remove":
            assert 'value="x &lt; y"' in answer.text
        described = await handle.describe()
        assert (described.status, described.execution) == (
            "terminated" if name == "remove" else "running",
            1,
        )


async def test_a_form_means_the_instance_that_it_was_made_for(clock):
    async with page(clock) as browser:
        first = await cart(browser)
        fields = await browser.fields("/instances/cart-1/do/cancel")
        await first.terminate()
        second = await cart(browser)
        answer = await browser.http.post("/instances/cart-1/do/cancel", data=fields)
        assert answer.status_code == 409
        assert (await second.describe()).status == "running"


async def test_what_cannot_be_done_is_said_and_what_was_typed_is_kept(clock):
    async with page(clock, code=False) as browser:
        handle = await cart(browser)
        at = "/instances/cart-1/do"
        for path, given, said, status in (
            ("reset", {"turn": "99"}, "no turn 99", 409),
            ("reset", {"turn": "-1"}, "no whole number", 400),
            ("reset", {"turn": "٣"}, "no whole number", 400),
            ("reset", {"turn": "1" * 5000}, "no whole number", 400),
            ("reset", {}, "it is running", 409),
            ("signal", {"name": "approved", "value": '{"a": '}, "it is not complete", 409),
            ("signal", {"name": "approved", "value": "[" * 100_000}, "nested too deeply", 409),
            ("signal", {"name": ""}, "cannot be empty", 409),
            ("signal", {"name": "x" * 256}, "at most 255", 409),
            ("signal", {"name": "a\0b"}, "NUL", 409),
            ("cancel", {"reason": "x" * 4000}, "too many", 400),
            ("signal", {"name": "a", "value": "x" * 2_200_000}, "limit", 409),
            ("query", {"name": HOSTILE}, "contents", 409),
        ):
            answer = await browser.act(f"{at}/{path}", **given)
            assert answer.status_code == status, (path, said, text_of(answer)[-500:])
            assert said in text_of(answer) or "is running" in text_of(answer)
            assert "<script>alert" not in answer.text
        assert (await handle.describe()).status == "running"
        await handle.terminate()
        for path in ("cancel", "signal", "pause", "resume", "terminate", "retry", "update"):
            answer = await browser.act(f"{at}/{path}", name="x")
            assert answer.status_code == 409, path
            assert "will be nothing to do" in text_of(answer)


@pytest.mark.parametrize("name", ["since", "until", "ended"])
async def test_a_time_that_is_none_of_the_calendar_chooses_nothing(clock, name):
    async with page(clock) as browser:
        answer = await browser.http.get(f"/do/cancel?{name}=99999999d")
        assert answer.status_code == 400
        assert "years from 1 to 9999" in text_of(answer)


async def test_pages_that_are_not_there(clock):
    async with page(clock) as browser:
        await cart(browser)
        for path in (
            "/instances/none/do/cancel",
            "/instances/cart-1/do/explode",
            "/schedules/none/do/pause",
            "/schedules/cart-1/do/pause",
            "/do/explode?status=running",
            "/do/query?status=running",
            "/start?workflow=none",
        ):
            answer = await browser.http.get(path)
            assert answer.status_code == 404, path
        for path in ("/instances/none/do/cancel", "/do/explode", "/start"):
            token = (await browser.fields("/instances/cart-1/do/cancel"))["csrf"]
            answer = await browser.http.post(path, data={"csrf": token})
            assert answer.status_code in (400, 404), path


async def test_hostile_ids_names_and_texts_are_shown_as_text(clock):
    async with page(clock) as browser:
        workflow = browser_cart(browser)
        handle = await browser.client.start(workflow.options(id=HOSTILE), HOSTILE)
        await until_parked(handle)
        text = (await browser.http.get("/instances")).text
        (path,) = set(re.findall(r'href="(/instances/[^"?/]+)"', text))
        for action in ("signal", "cancel", "query"):
            answer = await browser.http.get(f"{path}/do/{action}")
            assert answer.status_code == 200
            assert "<script>alert" not in answer.text
            assert HOSTILE[:30] in html.unescape(answer.text)
        answer = await browser.act(f"{path}/do/update", name="add", value=HOSTILE)
        assert answer.status_code == 200
        answer = await browser.act(f"{path}/do/query", name="contents")
        assert "<script>alert" not in answer.text
        assert HOSTILE[:6] in html.unescape(answer.text)
        answer = await browser.act(f"{path}/do/cancel", reason=HOSTILE)
        assert answer.status_code == 303
        with pytest.raises(InstanceCancelled) as caught:
            await handle.result()
        assert caught.value.reason == f"{HOSTILE} (by ann through the web page)"
        for more in ("", "?did=<script>alert(1)</script>", "?did=cancel&did=x"):
            assert "<script>alert" not in (await browser.http.get(f"{path}{more}")).text


async def test_a_name_in_the_log_cannot_begin_a_line(clock, caplog):
    caplog.set_level(logging.INFO, "trioflow.web")
    async with page(clock) as browser:
        await browser.client.start(browser_cart(browser).options(id="a\nb\x1b[31m"))
        text = (await browser.http.get("/instances")).text
        (path,) = set(re.findall(r'href="(/instances/[^"?/]+)"', text))
        await browser.act(f"{path}/do/cancel", reason="c\nd")
    assert "'a\\nb\\x1b[31m': 'c\\nd'" in told(caplog)[-1].getMessage()


async def test_a_query_that_nobody_answers_ends(clock):
    async with page(clock, work=False) as browser:
        await browser.client.start(browser_cart(browser).options(id="c"))
        answer = await browser.act("/instances/c/do/query", name="contents")
        assert answer.status_code == 409
        answer = await browser.act("/instances/c/do/update", name="add", value="x")
        assert "not answered within 10 seconds" in text_of(answer)
        assert (await browser.client.handle("c").describe()).unread == 1


# --- many ----------------------------------------------------------------------------------


async def several(browser, number=5):
    workflow = browser_cart(browser)
    for n in range(number):
        await browser.client.start(workflow.options(id=f"x{n}", attributes={"n": n}))
    await browser.client.start(workflow.options(id="other"))


async def test_what_a_filter_shows_is_cancelled_together(clock, caplog, monkeypatch):
    caplog.set_level(logging.INFO, "trioflow.web")
    async with page(clock, work=False) as browser:
        await several(browser)
        text = (await browser.http.get("/instances?id=x&where=n>=1")).text
        path = html.unescape(re.search(r'href="(/do/cancel\?[^"]*)"', text)[1])
        answer = await browser.http.get(path)
        assert "Cancel 4 instances" in text_of(answer)
        assert re.findall(r'href="/instances/(x\d)"', answer.text) == ["x4", "x3", "x2", "x1"]
        fields = hidden(answer.text)
        await anyio.sleep(1)
        await browser.client.start(browser_cart(browser).options(id="x9", attributes={"n": 9}))
        answer = await browser.http.post("/do/cancel", data={**fields, "reason": "over"})
        assert "done to 4 instances" in text_of(answer)
        left = sorted(one.id for one in await browser.client.list(status="running"))
        assert left == ["other", "x0", "x9"]
        reason = (await browser.client.handle("x4").describe()).reason
        assert reason == "over (by ann through the web page)"
    said = told(caplog)[-1].getMessage()
    assert said.startswith("'ann': cancel, 4 instances of {")
    assert said.endswith("}: 'over'")


async def test_very_many_are_not_counted_to_the_end(clock, monkeypatch):
    monkeypatch.setattr(bulk, "_MOST_COUNTED", 3)
    async with page(clock, work=False) as browser:
        await several(browser, 4)
        read, asked = browser.client.backend.count, []

        async def count(where, *, most=None):
            if where.workflow != "trioflow.schedule":  # they are few, and not shown
                asked.append(most)
            return await read(where, most=most)

        monkeypatch.setattr(browser.client.backend, "count", count)
        answer = await browser.http.get("/do/cancel?id=x")
        assert "Cancel 3 or more instances" in text_of(answer)
        assert "Cancel 2 instances" in text_of(await browser.http.get("/do/cancel?where=n>=2"))
        assert asked == [3, 3]


async def test_many_are_done_in_steps(clock, monkeypatch):
    monkeypatch.setattr(bulk, "_STEP", 2)
    monkeypatch.setattr(bulk, "_PATIENCE", 0)
    async with page(clock, work=False) as browser:
        await several(browser)
        answer = await browser.act("/do/terminate?id=x", reason="over")
        seen = []
        while "data-go-on" in answer.text:
            seen.append(await browser.client.count(status="terminated"))
            answer = await browser.http.post("/do/terminate", data=hidden(answer.text))
        assert seen == [2, 4]
        assert "done to 5 instances" in text_of(answer)
        assert await browser.client.count(status="terminated") == 5
        answer = await browser.act("/do/remove?id=x")
        while "data-go-on" in answer.text:
            answer = await browser.http.post("/do/remove", data=hidden(answer.text))
        assert "done to 5 instances" in text_of(answer)
        assert [one.id for one in await browser.client.list()] == ["other"]


async def test_each_action_reaches_many(clock):
    async with page(clock) as browser:
        await several(browser, 2)
        handles = [browser.client.handle(f"x{n}") for n in range(2)]
        for handle in handles:
            await until_parked(handle)
        await browser.act("/do/pause?id=x")
        for handle in handles:
            assert (await handle.describe()).suspension.reason == "by ann through the web page"
        await browser.act("/do/signal?id=x", name="approved", value="true")
        assert [(await handle.describe()).unread for handle in handles] == [1, 1]
        await browser.act("/do/resume?id=x")
        assert [await handle.result() for handle in handles] == [["ann"], ["ann"]]
        answer = await browser.act("/do/retry?id=o&status=running")
        assert "1 instance needed nothing" in text_of(answer)
        await browser.client.handle("other").terminate()
        answer = await browser.act("/do/reset?id=o")
        assert "done to 1 instance" in text_of(answer)
        assert (await browser.client.handle("other").describe()).status == "running"


async def test_what_refuses_to_be_done_is_told(clock, monkeypatch):
    monkeypatch.setattr(bulk, "_STEP", 2)
    monkeypatch.setattr(bulk, "_PATIENCE", 0)
    monkeypatch.setattr(bulk, "_REFUSALS", 3)
    registry = flows()

    @registry.workflow
    async def holds(holding: bool) -> None:
        async with SharedLock("door") if holding else nullcontext():
            raise ValueError("broken")

    async with page(clock, registry) as browser:
        for n in range(6):
            handle = await browser.client.start(holds.options(id=f"h{n}"), n < 4)
            await handle.wait(status="failed")
        answer = await browser.act("/do/reset?id=h")
        while "data-go-on" in answer.text:
            answer = await browser.http.post("/do/reset", data=hidden(answer.text))
        text = text_of(answer)
        assert "done to 2 instances" in text
        assert "needed nothing" not in text
        assert "It cannot be done to 4 instances, of which 3 are shown:" in text
        found = re.findall(r"(h\d): [^<]*the lock &#39;door&#39;", answer.text)
        assert len({*found}) == 3
        assert {*found} < {"h3", "h2", "h1", "h0"}  # of two that are reset at once in any order


async def test_a_signal_of_a_form_is_got_once(clock, monkeypatch):
    async with page(clock, work=False) as browser:
        await several(browser)
        fields = await browser.fields("/do/signal?id=x")
        given = {**fields, "name": "approved", "value": "true"}
        for _ in range(2):
            assert (await browser.http.post("/do/signal", data=given)).status_code == 200
        assert (await browser.client.handle("x1").describe()).unread == 1


async def test_everything_at_once_needs_a_filter_and_a_form(clock):
    async with page(clock, work=False) as browser:
        await several(browser)
        assert (await browser.http.get("/do/terminate")).status_code == 400
        token = (await browser.fields("/do/terminate?id=x"))["csrf"]
        for given, status in (
            ({"csrf": token, "sure": "yes"}, 400),
            ({"csrf": token, "id": "x"}, 200),
            ({"csrf": token, "id": "x", "sure": "yes", "status": "completed"}, 400),
            ({"csrf": token, "id": "x", "sure": "yes", "status": "odd"}, 400),
            ({"csrf": token, "id": "x", "sure": "yes", "after": "x3"}, 409),
            ({"csrf": token, "id": "x", "sure": "yes", "done": "many"}, 400),
        ):
            answer = await browser.http.post("/do/terminate", data=given)
            assert answer.status_code == status, (given, text_of(answer))
        assert await browser.client.count(status="running") == 6


async def test_a_filter_of_an_hour_ago_means_the_same_moment_later(clock):
    async with page(clock, work=False) as browser:
        await several(browser)
        fields = await browser.fields("/do/cancel?id=x&since=1h")
        assert fields["since"][0].endswith("+00:00")
        await anyio.sleep(3700)
        answer = await browser.http.post("/do/cancel", data=fields)
        assert "done to 5 instances" in text_of(answer)
        fields = await browser.fields("/do/remove?id=x&ended=1h")
        await anyio.sleep(3700)
        answer = await browser.http.post("/do/remove", data=fields)
        assert "done to 5 instances" in text_of(answer)


async def test_what_is_in_trouble_is_meant_and_nothing_else(clock):
    async with page(clock, work=False) as browser:
        await several(browser)
        await browser.client.handle("x1").pause()
        answer = await browser.act("/do/terminate?trouble=suspended")
        assert "done to 1 instance" in text_of(answer)
        (gone,) = await browser.client.list(status="terminated")
        assert gone.id == "x1"


# --- schedules, starting -------------------------------------------------------------------


async def test_schedules_are_paused_resumed_begun_and_removed(clock):
    async with page(clock) as browser:
        schedule = await browser.client.schedule(
            "daily/<b>", Every(hours=24), browser_cart(browser).bind()
        )
        text = (await browser.http.get("/schedules")).text
        path = re.search(r'href="(/schedules/[^"]*)/do/pause"', text)[1]
        await browser.act(f"{path}/do/pause", reason="holidays")
        while (await schedule.describe()).paused is None:
            await anyio.sleep(0.1)
        paused = (await schedule.describe()).paused
        assert paused == "holidays (by ann through the web page)"
        assert f'href="{path}/do/resume"' in (await browser.http.get("/schedules")).text
        answer = await browser.act(f"{path}/do/resume")
        assert answer.headers["location"] == "/schedules?did=schedule-resume"
        answer = await browser.act(f"{path}/do/trigger")
        assert answer.headers["location"].startswith("/instances/daily~2F~3Cb~3E~2Ftrigger-")
        fields = await browser.fields(f"{path}/do/remove")
        answer = await browser.http.post(f"{path}/do/remove", data={**fields, "sure": ""})
        assert answer.status_code == 200
        assert len(await browser.client.schedules()) == 1
        await browser.act(f"{path}/do/remove")
        assert await browser.client.schedules() == []


async def test_a_run_that_no_worker_begins_is_not_waited_for(clock):
    async with page(clock, work=False) as browser:
        await browser.client.schedule("daily", Every(hours=24), browser_cart(browser).bind())
        answer = await browser.act("/schedules/daily/do/trigger")
        assert "The run is asked for" in text_of(answer)


async def test_an_instance_is_started(clock):
    async with page(clock) as browser:
        text = text_of(await browser.http.get("/start"))
        assert "cart" in text
        assert "Wait for an approval." in text
        path = "/start?workflow=cart"
        text = text_of(await browser.http.get(path))
        assert "And collect until then." in text
        given = {"argument-user": "bob", "argument-more": "[1, 2]", "argument-note": "[7]"}
        answer = await browser.act(path, **given)
        assert answer.status_code == 409
        assert "note" in text_of(answer)
        assert 'value="cart"' in answer.text
        given |= {"argument-note": "7", "id": "new/1", "queue": "later", "at": "2h"}
        answer = await browser.act(path, **given)
        assert answer.headers["location"] == "/instances/new~2F1?did=start"
        described = await browser.client.handle("new/1").describe()
        assert described.input == {"user": "bob", "more": [1, 2], "note": "7"}
        assert described.metadata == {"started_by": "ann through the web page"}
        assert described.queue == "later"
        assert described.starts_at is not None
        answer = await browser.act(path, **given)
        assert answer.status_code == 409
        for wrong in ({"at": "soon"}, {"id": "x" * 501}, {"argument-more": "7"}):
            answer = await browser.act(path, **wrong)
            assert answer.status_code == 409, wrong


async def test_without_the_workflows_nothing_is_started(clock):
    async with open_client(in_memory(clock)) as client:
        browser = Browser(client, app(client, access=Access(password="p")))
        async with browser.http:
            await browser.sign_in()
            assert "does not know the workflows" in (await browser.http.get("/start")).text


async def test_whom_a_proxy_let_in_acts_under_that_name(clock):
    settings = {"password": None, "proxy_header": "X-User", "proxies": ["127.0.0.1"]}
    async with page(clock, **settings) as browser:
        browser.http.headers["x-user"] = "ann@example.com"
        handle = await cart(browser)
        answer = await browser.act("/instances/cart-1/do/cancel")
        assert answer.status_code == 303
        with pytest.raises(InstanceCancelled) as caught:
            await handle.result()
        assert caught.value.reason == "by ann@example.com through the web page"
        assert "Sign out" not in (await browser.http.get("/")).text


async def test_each_address_that_is_posted_to_wants_the_token(clock):
    async with page(clock) as browser:
        await cart(browser)
        await browser.client.schedule("daily", Every(hours=24), browser_cart(browser).bind())
        asgi = browser.http._transport.app
        paths = {
            route.path.replace("{id:trioflow_id}", "cart-1").replace("{action}", "cancel")
            for route in asgi.routes
            if "POST" in (getattr(route, "methods", None) or ())
        }
        assert len(paths) >= 6
        for path in paths - {"/sign-in"}:
            given = {"sure": "yes", "id": "cart", "reason": "forged"}
            answer = await browser.http.post(path, data=given)
            assert answer.status_code == 403, path
            assert "nothing was done" in answer.text
        assert (await browser.client.handle("cart-1").describe()).status == "running"
        assert GUARD


@pytest.mark.parametrize("at", ["/instances/cart-1/do/signal", "/do/signal?workflow=cart"])
async def test_a_signal_is_checked_by_the_module_of_the_workflow(clock, at):
    async with page(clock) as browser:
        handle = await cart(browser)
        answer = await browser.act(at, name="approved", value="maybe")
        assert answer.status_code == 409
        assert "the value of signal 'approved'" in text_of(answer)
        assert "Expected bool, got str" in text_of(answer).replace("`", "")
        answer = await browser.act(at, name="aproved", value="true")
        assert answer.status_code == 400
        assert "has no signal 'aproved'; it has" in text_of(answer)
        assert (await handle.describe()).unread == 0
        hidden = re.findall(r'name="unchecked" value="([^"]*)"', answer.text)
        assert hidden == ["aproved"]
        await browser.act(at, name="aproved", value="true", unchecked="aproved")
        now = await handle.describe()
        assert now.turns > 1 or now.unread == 1
        await browser.act(at, name="approved", value="true")
        assert await handle.result() == ["ann"]


MODULE = """
from trioflow import Signal
approved = Signal("approved", {type})

async def {name}():
    return await approved.receive()
"""


async def test_signals_of_one_name_are_checked_by_the_module_of_the_workflow_or_by_any(clock):
    registry = Registry()
    for name, kind in (("early", "bool"), ("late", "str")):
        module = {"__name__": name}
        exec(MODULE.format(name=name, type=kind), module)
        registry.workflow(module[name])
    async with page(clock, registry) as browser:
        for workflow in registry.workflows.values():
            for number in range(2):
                handle = await browser.client.start(
                    workflow.options(id=f"{workflow.name}-{number}")
                )
                await until_parked(handle)
        answer = await browser.act("/instances/early-0/do/signal", name="approved", value="maybe")
        assert answer.status_code == 409
        assert "Expected bool, got str" in text_of(answer).replace("`", "")
        answer = await browser.act("/do/signal?root=yes", name="approved", value="[1]")
        assert answer.status_code == 409
        for id, sent in (("early-0", "true"), ("late-0", '"true"')):
            answer = await browser.act(f"/instances/{id}/do/signal", name="approved", value=sent)
            assert answer.headers["location"] == f"/instances/{id}?did=signal"
        for id, sent in (("early-1", "true"), ("late-1", "maybe")):
            await browser.act(f"/do/signal?id={id}", name="approved", value=sent)
        got = {id: await browser.client.handle(id).result() for id in ("early-0", "late-0")}
        got |= {id: await browser.client.handle(id).result() for id in ("early-1", "late-1")}
        assert got == {"early-0": True, "late-0": "true", "early-1": True, "late-1": "maybe"}


async def test_signals_are_sent_unchecked_where_no_code_is_known(clock):
    async with page(clock, code=False) as browser:
        handle = await cart(browser)
        answer = await browser.act("/instances/cart-1/do/signal", name="other", value="1")
        assert answer.headers["location"] == "/instances/cart-1?did=signal"
        await handle.terminate()


async def test_a_resume_leaves_out_a_signal_that_cannot_be_read(clock):
    async with page(clock, code=False) as browser:
        handle = await cart(browser)
        await handle.signal("approved", "maybe")
        await handle.wait(status="suspended")
        answer = await browser.http.get("/instances/cart-1/do/resume")
        assert "Without the signal" in text_of(answer)
        await browser.act("/instances/cart-1/do/resume", without="approved")
        await handle.signal(approved, True)
        assert await handle.result() == ["ann"]
        many = await browser.http.get("/do/resume?status=suspended")
        assert "Without the signal" not in text_of(many)
