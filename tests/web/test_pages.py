"""The pages of many things, without a server: what they show, and that every link leads on."""

# mypy: ignore-errors

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import trioflow.web
from tests.stores import ALL, marked
from tests.web.reading_html import Page
from tests.web.seed import HOSTILE, shop
from trioflow import BackendUnavailable, open_client
from trioflow.backends import MemoryBackend
from trioflow.backends.moves import Fence
from trioflow.web._addresses import escaped
from trioflow.web._filtering import TROUBLES

PAGES = ("/", "/instances", "/schedules", "/schedules/monthly~2Fclose", "/workers")

# What texts in the seed would be if a page took them for HTML.
THEIRS = {"b", "u", "x"}


def checked(text):
    page = Page(text)
    assert page.unbalanced == []
    assert page.refused == []
    assert THEIRS & page.names == set()
    return page


# Of which instances the pages below the first one are looked at.
LOOKED_AT = re.compile(rf"/instances/(?:{escaped(HOSTILE[1])}|order-05|billing-7)(?:/|$)")


async def crawl(browser, start="/", most=400):
    """Follow links from a page; return those that were followed, and where they led."""
    wanted, found = [start], {}
    while wanted and len(found) < most:
        address = wanted.pop()
        path = urlsplit(address).path
        below = re.search(r"/instances/[^/]+/", path)
        # Nobody answers for the tasks, and that takes its time.
        if address in found or (below and not LOOKED_AT.search(path)) or "/tasks" in path:
            continue
        answer = await browser.get(address, follow_redirects=False)
        found[address] = answer.status_code
        if answer.status_code != 200:
            continue
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        for link in checked(answer.text).links:
            whole = urljoin(address, link)
            assert not urlsplit(whole).netloc, whole
            wanted.append(whole.partition("#")[0])
    return found


@pytest.mark.parametrize("shopping", marked(ALL), indirect=True)
async def test_every_link_leads_to_a_page(shopping):
    found = await crawl(shopping.browser)
    assert set(found.values()) <= {200, 303}
    paths = {urlsplit(address).path for address in found}
    assert set(PAGES) <= paths
    assert {f"/instances/{escaped(id)}" for id in HOSTILE} <= paths


async def test_mounted_below_a_path_every_link_stays_there(shopping):
    inner = trioflow.web.app(shopping.client, registry=shop)
    outer = Starlette(routes=[Mount("/ops/flows", inner)])
    transport = httpx.ASGITransport(outer, client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
        found = await crawl(browser, "/ops/flows/", most=120)
    assert set(found.values()) <= {200, 303}
    assert len(found) > 50
    assert {address for address in found if not address.startswith("/ops/flows/")} == set()


async def test_each_page_is_named_and_says_where_one_is(shopping):
    for path in PAGES:
        page = checked(await shopping.page(path))
        assert page.text.count("shop") >= 2
        here = [
            attrs["href"] for tag, attrs in page.elements if attrs.get("aria-current") == "page"
        ]
        assert here == ["/" + path.split("/")[1]]
        assert [tag for tag, _ in page.elements].count("h1") == 1


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("status=suspended", {"paused-1", "billing-7"}),
        ("status=suspended&status=cancelled&status=terminated", {"paused-1", "billing-7", "nap-0"}),
        ("workflow=import_feed", {"feed-0", "feed-1", "feed-2"}),
        ("queue=nobody%27s+queue", {"unserved-1"}),
        ("id=feed-", {"feed-0", "feed-1", "feed-2"}),
        ("id=feed-1&status=running", {"feed-1"}),
        ("status=failed&where=amount>=900", {"order-03"}),
        ("where=customer=ann+%26+bob&where=stage=sent&where=amount<100", {"order-05"}),
        ("parent=order-05", {"order-05/parcel"}),
        ("workflow=several&since=1h&root=yes", {"several-0"}),
        ("until=1h", set()),
        ("status=failed&ended=1h&workflow=several", {"several-0"}),
        ("trouble=retrying", {"feed-0", "feed-1", "feed-2"}),
        ("trouble=retrying&id=feed-1", {"feed-1"}),
        ("trouble=suspended", {"paused-1", "billing-7"}),
        ("workflow=none", set()),
    ],
)
async def test_filters_are_kept_in_the_address(shopping, query, shown):
    page = checked(await shopping.page(f"/instances?{query}"))
    assert set(page.rows()) == shown
    if not shown:
        assert "No instance is so" in page.text


async def test_each_filter_can_be_taken_away_again(shopping):
    page = Page(await shopping.page("/instances?workflow=order&where=amount>=900&status=failed"))
    links = [link for link in page.links if link.startswith("/instances?")]
    assert "/instances?status=failed&where=amount%3E%3D900" in links
    assert "/instances?status=failed&workflow=order" in links
    assert "/instances?status=running&workflow=order&where=amount%3E%3D900" in links


async def test_a_filter_that_is_none_says_so_and_stays_to_be_mended(shopping):
    page = checked(await shopping.page("/instances?since=<b>soon&id=x", 400))
    assert "'<b>soon' is no time; write 2h" in page.text
    assert ("input", "<b>soon") in [(tag, attrs.get("value")) for tag, attrs in page.elements]


async def test_pages_follow_each_other_to_the_end(shopping):
    everything = [one.id for one in await shopping.client.list(limit=500)]
    address, seen = "/instances?limit=9", []
    while address:
        page = checked(await shopping.page(address))
        seen += page.rows()
        older = [attrs["href"] for _, attrs in page.elements if attrs.get("rel") == "next"]
        address = older[0] if older else None
        assert len(seen) <= len(everything)
    assert seen == everything


async def test_a_page_after_an_instance_that_is_gone_leads_back(shopping):
    page = checked(await shopping.page("/instances?after=gone&status=running", 410))
    assert "'gone', which was removed meanwhile" in page.text
    assert "/instances?status=running" in page.links


async def test_finding_by_id_leads_to_the_instance_or_to_those_that_begin_so(shopping):
    for id in ("feed-1", HOSTILE[1]):
        answer = await shopping.browser.get("/instances", params={"id": id, "go": "yes"})
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"/instances/{escaped(id)}",
        )
    for id in ("feed", "x" * 500, "\0"):
        answer = await shopping.browser.get("/instances", params={"id": id, "go": "yes"})
        assert answer.status_code in (200, 400)


async def test_what_is_tried_again_says_how_often_and_why(shopping):
    page = checked(await shopping.page("/instances?trouble=retrying"))
    assert (
        "fetch_feed, attempt 2 is next; last: ConnectionError: https://feed1.example/<x>"
        in page.text
    )
    rows = (await shopping.api("/instances?trouble=retrying")).json()["instances"]
    assert {row["attempt"] for row in rows} == {2}


async def test_each_trouble_is_one_click_away(shopping):
    overview = checked(await shopping.page("/"))
    listed = checked(await shopping.page("/instances?status=failed"))
    for trouble in TROUBLES:
        assert f"/instances?trouble={trouble}" in overview.links
        if trouble != "suspended":  # which is a status, too
            assert f"/instances?trouble={trouble}" in listed.links


async def test_the_overview_says_what_is_wrong(shopping):
    page = checked(await shopping.page("/"))
    assert "no worker takes its instances" in page.text
    assert "PermissionError" in page.text or "CardDeclined" in page.text
    assert "paused: somebody looks into it by <b>ann</b>" in page.text
    assert "No worker is there" in page.text


async def test_schedules_say_when_and_what(shopping):
    page = checked(await shopping.page("/schedules"))
    for text in ("0 3 * * *", "every 5m", "paused", "active"):
        assert text in page.text
    page = checked(await shopping.page("/schedules/monthly~2Fclose"))
    assert "Paused: until the books are closed" in page.text


async def test_an_empty_store_says_what_to_do(browse):
    async with open_client(MemoryBackend()) as client, browse(client) as browser:
        said = [checked((await browser.get(path)).text).text for path in PAGES[:3]]
    for text, expected in zip(
        said, ("Nothing has failed", "no instances yet", "no schedules"), strict=True
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/instances/none", 404),
        ("/schedules/%00", 400),
        ("/schedules/a~00", 400),
        ("/schedules?after=%00", 400),
        ("/instances/~00", 400),
        ("/instances/%00/history", 400),
        ("/instances/~00/tasks", 400),
        ("/instances/billing-7/family?after=%00", 400),
        ("/instances?after=%00", 400),
        ("/instances?parent=%00", 400),
        ("/instances?id=%00", 400),
        ("/instances?where=customer=%00", 400),
        ("/instances?where=due<0001-01-01T00:00%2B05:00", 400),
        ("/instances?where=due>9999-12-31T23:00-05:00", 400),
        ("/instances/%ff%fe", 404),
        ("/instances/" + "x" * 3000, 404),
        ("/schedules/feed-1", 404),
        ("/instances?limit=0", 400),
        ("/schedules?limit=x", 400),
        ("/static/nothing", 404),
        ("/static/..%2f_site.py", 404),
    ],
)
async def test_what_is_not_there_is_said_on_a_page(shopping, path, status):
    answer = await shopping.browser.get(path)
    assert answer.status_code == status
    if not path.startswith("/static"):
        checked(answer.text)


async def test_a_store_that_cannot_be_reached_is_said_and_not_hidden(shopping, monkeypatch):
    async def fails(*args, **kwargs):
        raise BackendUnavailable("the server <b>db1</b> does not answer")

    monkeypatch.setattr(shopping.client.backend, "list", fails)
    page = checked(await shopping.page("/instances", 503))
    assert "the server <b>db1</b> does not answer" in page.text
    answer = (await shopping.api("/instances", 503)).json()
    assert answer["error"]["title"] == "The store cannot be reached"


async def test_a_fault_of_ours_is_logged_and_tells_nothing(shopping, monkeypatch, caplog):
    async def fails(*args, **kwargs):
        raise RuntimeError("secret")

    monkeypatch.setattr(shopping.client.backend, "list", fails)
    assert "secret" not in await shopping.page("/instances", 500)
    assert "secret" not in (await shopping.api("/instances", 500)).text
    assert "secret" in caplog.text
    assert "GET /instances could not be answered" in caplog.text


async def test_assets_are_kept_by_browsers_for_as_long_as_they_are_the_same(shopping):
    text = await shopping.page("/")
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', text):
        answer = await shopping.browser.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        old = await shopping.browser.get(address.partition("?")[0] + "?v=old")
        assert old.headers["cache-control"] == "no-cache"


async def test_nothing_comes_from_anywhere_else(shopping):
    for path in PAGES:
        assert re.findall(r'(?:src|href|action)="(?:https?:)?//', await shopping.page(path)) == []
    for name in ("site.css", "site.js", "theme.js"):
        assert "//" not in re.sub(
            r"(?m)^\s*//.*| // .*", "", await shopping.page(f"/static/{name}")
        )


async def test_a_page_costs_the_store_few_calls(shopping, monkeypatch):
    backend = shopping.client.backend
    calls = []
    for name in (
        "troubles",
        "tried_again",
        "list",
        "count",
        "count_by",
        "get",
        "stats",
        "workers",
        "limits",
        "activities",
    ):
        whole = getattr(backend, name)

        def counted(*args, name=name, whole=whole, **kwargs):
            calls.append(name)
            return whole(*args, **kwargs)

        monkeypatch.setattr(backend, name, counted)
    await shopping.page("/instances?limit=50")
    assert len(calls) <= 3
    assert "count" not in calls


async def test_pages_are_served_on_either_loop(host, browse):
    async with open_client(MemoryBackend()) as client, browse(client) as browser:
        await client.start(shop.workflows["nap"].options(id="one"), 5)
        assert checked((await browser.get("/instances")).text).rows() == ["one"]
        found = (await browser.get("/api/v1/instances/one")).json()
        assert found["instance"]["status"] == "running"


@pytest.mark.parametrize("role", ["source", "destination"])
async def test_every_page_of_a_closed_store_says_so(role):
    store = MemoryBackend()
    async with open_client(store) as client:
        asgi = trioflow.web.app(client)
        transport = httpx.ASGITransport(asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            for path in PAGES:
                if "~" not in path:
                    assert 'id="closed"' not in (await browser.get(path)).text
        await store.fence(Fence(move="m1", role=role, other="sqlite:///other.db", at=1.0))
        asgi = trioflow.web.app(client)  # it need not find out at once
        transport = httpx.ASGITransport(asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            for path in PAGES:
                if "~" not in path:
                    said = (await browser.get(path)).text
                    assert 'role="alert" id="closed">The store is ' in said
                    assert "sqlite:///other.db" in said
    await store.aclose()
