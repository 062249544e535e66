"""The pages of one instance, without a server."""

# mypy: ignore-errors

from __future__ import annotations

import re

import msgspec
import pytest

from tests.web.reading_html import Page
from tests.web.seed import HOSTILE, cart, shop
from tests.worker.flow import until_turns
from trioflow import JsonCodec, Registry, WrappedCodec, continue_as_new, open_client, open_worker
from trioflow.backends import MemoryBackend
from trioflow.web import Access
from trioflow.web._addresses import escaped
from trioflow.web._instance.views import visible

BELOW = ("", "/timeline", "/tasks", "/history", "/family", "/executions", "/suspension")


def checked(text):
    page = Page(text)
    assert page.unbalanced == []
    assert page.refused == []
    assert {"b", "u", "x"} & page.names == set()
    return page


@pytest.fixture
def quick(monkeypatch):
    """No worker answers, and nobody waits for one."""
    monkeypatch.setattr("trioflow.web._instance.views._ASKING", 0.001)


async def test_every_page_of_every_instance_can_be_shown(shopping, quick):
    some = {(one.workflow, one.status): one for one in await shopping.client.list(limit=1000)}
    hostile = [await shopping.client.handle(id).describe() for id in HOSTILE]
    for one in (*some.values(), *hostile):
        for below in BELOW if one.id not in HOSTILE else ("", "/history"):
            page = checked(await shopping.page(f"/instances/{escaped(one.id)}{below}"))
            assert visible(one.id) in page.text.replace("  ", " ") or "  " in one.id
    schedule = checked(await shopping.page("/instances/every-5-min"))
    assert "trioflow.schedule" in schedule.text


async def test_the_overview_says_why_an_instance_failed(shopping):
    page = checked(await shopping.page("/instances/several-0"))
    assert "ExceptionGroup" in page.text
    assert "3 in the group" in page.text
    assert "<b> cannot be read" in page.text
    page = checked(await shopping.page("/instances/feed-0"))
    assert re.search(r"Traceback, to seed\.py:\d+ in fetch_feed", page.text)


async def test_the_overview_says_what_is_tried_again(shopping):
    page = checked(await shopping.page("/instances/feed-0"))
    assert "Unfinished activities" in page.text
    assert "ConnectionError: https://feed0.example/<x>: connection refused" in page.text
    assert '{"rows":4200,"of":10000}' in page.text
    assert "retrying" in await shopping.page("/instances/feed-0/timeline")


async def test_the_overview_names_limits_that_an_activity_waits_for(shopping):
    await shopping.client.set_limit(activity="fetch_feed", concurrency=2, rate=1, per=60)
    page = checked(await shopping.page("/instances/feed-1"))
    assert "activity fetch_feed: at most 2 at once; at most 1 begin in 1m" in page.text


REPLAYS = "The code of these pages replays the whole history"


async def test_code_is_run_only_for_those_who_act_and_ask_for_it(shopping, browse, quick):
    page = checked(await shopping.page("/instances/billing-7/suspension"))
    assert REPLAYS not in page.text
    assert "Those who have signed in can have the history replayed here." in page.text
    assert re.search(r'Patch patched\("[\w-]+"\)', page.text)  # to add, or to bring back
    overview = checked(await shopping.page("/instances/billing-7"))
    assert "Suspended: diverged." in overview.text
    assert (await shopping.browser.post("/instances/billing-7/suspension")).status_code == 403
    access = Access(password="p")
    async with browse(shopping.client, registry=shop, access=access) as browser:
        await browser.post("/sign-in", data={"name": "ann", "password": "p"})
        for tab, told in (("suspension", REPLAYS), ("tasks", "no worker has answered: replayed")):
            path = f"/instances/billing-7/{tab}"
            answer = await browser.get(path)
            assert told not in checked(answer.text).text
            assert (await browser.post(path, data={"csrf": "?"})).status_code == 403
            token = re.search(r'name="csrf" value="([^"]+)"', answer.text)[1]
            page = checked((await browser.post(path, data={"csrf": token})).text)
            assert told in page.text
            assert "Replay the history here" not in page.text


async def test_programs_have_code_run_only_if_they_say_who_they_are(shopping, browse, quick):
    path = "/instances/billing-7/suspension"
    assert (await shopping.api(path)).json()["replay"] == "not tried"
    await shopping.api(f"{path}?replay=yes", 403)
    access = Access(password="p")
    async with browse(shopping.client, registry=shop, access=access) as browser:
        answer = await browser.get(f"/api/v1{path}?replay=yes", auth=("ann", "p"))
        assert answer.json()["replay"] == "replays"
        answer = await browser.get(f"/api/v1{path}", auth=("ann", "p"))
        assert answer.json()["replay"] == "not tried"


async def test_the_history_is_filtered_and_paged(shopping, monkeypatch):
    monkeypatch.setattr("trioflow.web._instance.views._LINES", 2)
    one = "/instances/order-00/history"
    page = checked(await shopping.page(one))
    assert "1 to 2 of" in page.text
    (following,) = {link for link in page.links if "first=2" in link}
    assert "3 to 4 of" in checked(await shopping.page(following)).text
    found = checked(await shopping.page(f"{one}?kind=activities&name=charge"))
    assert "2 found of" in found.text
    assert "Nothing in this history fits." in await shopping.page(f"{one}?name=<nothing>")
    first = checked(await shopping.page(f"{one}?order=last")).text
    assert "completed" in first


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/instances/nobody", 404, "nobody"),
        ("/instances/nobody/timeline", 404, "nobody"),
        ("/instances/order-00/history?execution=7", 404, "no execution 7; it has 1"),
        ("/instances/order-00/timeline?execution=0", 404, "no execution 0"),
        ("/instances/order-00/history?turn=-1", 400, "turn='-1' is no number"),
        ("/instances/order-00/history?first=<b>", 400, "first='<b>' is no number"),
        ("/instances/order-00/history?first=9999999999999", 400, "is no number"),
        ("/instances/order-00/values/secret", 404, "no 'secret'"),
        ("/instances/order-00/values/history?execution=1&turn=99&index=0", 404, "nothing at turn"),
        ("/instances/order-00/values/history", 404, "no execution -1"),
    ],
)
async def test_what_is_not_there_is_said(shopping, path, status, said):
    page = checked(await shopping.page(path, status))
    assert said in page.text


async def test_a_long_value_is_cut_and_given_in_full_as_text(shopping):
    user = "</pre><script>alert(2)</script>" * 400
    async with open_worker(shopping.client.backend, registry=shop, drain=0, sticky=0) as worker:
        handle = await worker.client.start(cart.options(id="long"), user)
        await until_turns(handle, 1)
    page = checked(await shopping.page("/instances/long"))
    assert "All 12" in page.text
    (whole,) = {link for link in page.links if link.endswith("/values/input")}
    line = "/instances/long/values/history?execution=1&turn=0&index=0"
    for address in (whole, line):
        answer = await shopping.browser.get(address)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert msgspec.json.decode(answer.text) == {"user": user}
    assert line in Page(await shopping.page("/instances/long/history")).links


async def test_parts_are_live_for_as_long_as_something_may_happen(shopping):
    running = Page(await shopping.page("/instances/feed-0"))
    ended = Page(await shopping.page("/instances/order-00"))
    assert [attrs for _, attrs in running.elements if "data-live" in attrs]
    assert not [attrs for _, attrs in ended.elements if "data-live" in attrs]


def test_an_id_cannot_be_taken_for_another():
    assert visible("a\u202etxt.exe\x00") == "a\\u202etxt.exe\\x00"
    assert visible("مرحبا ü") == "مرحبا ü"


# --- executions, and values that cannot be decoded ----------------------------------------------

registry = Registry()


@registry.workflow
async def count(number: int) -> int:
    if number < 3:
        continue_as_new(number + 1)
    if number == 4:
        raise ValueError(f"not {number}")
    return number


def flip(data):
    return bytes(byte ^ 0x55 for byte in data)


async def test_executions_are_shown_also_of_earlier_instances(browse):
    async with open_worker(MemoryBackend(), registry=registry, drain=0) as worker:
        client = worker.client
        assert await client.run(count.options(id="c"), 1) == 3
        with pytest.raises(ValueError, match="not 4"):
            await client.run(count.options(id="c"), 4)
        async with browse(client) as browser:
            page = checked((await browser.get("/instances/c/executions")).text)
            for text in ("failed", "continued", "An earlier instance", "ValueError", "not 4"):
                assert text in page.text
            for link in page.links:
                if "execution=" in link:
                    assert checked((await browser.get(link)).text)
            first = checked((await browser.get("/instances/c/history?execution=1")).text)
            assert '{"number":1}' in first.text
            timeline = checked((await browser.get("/instances/c/timeline?execution=2")).text)
            assert "execution 2" in timeline.text


async def test_without_the_codec_what_is_stored_is_shown_as_that(browse):
    backend = MemoryBackend()
    codec = WrappedCodec(JsonCodec(), flip, flip)
    async with (
        open_worker(backend, registry=registry, codec=codec, drain=0) as worker,
        open_client(backend) as client,
    ):
        with pytest.raises(ValueError, match="not 4"):
            await worker.client.run(count.options(id="c"), 4)
        assert await worker.client.run(count.options(id="d"), 3) == 3
        async with browse(client) as browser:
            for id in ("c", "d"):
                for below in BELOW:
                    answer = await browser.get(f"/instances/{id}{below}")
                    assert answer.status_code == 200
                    assert "not 4" not in checked(answer.text).text
            page = checked((await browser.get("/instances/c")).text)
            assert "cannot be decoded" in page.text
            assert "ValueError" in page.text
            assert "stored by a codec that these pages do not have" in page.text
            answer = await browser.get("/instances/c/values/input")
            assert answer.text.startswith("(cannot be decoded: ")
        async with browse(worker.client) as browser:
            assert "not 4" in (await browser.get("/instances/c")).text
