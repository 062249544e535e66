"""Every action in a real browser, and what others' pages cannot do."""

from __future__ import annotations

import pytest

from tests.worker.flow import until
from trioflow.web._addresses import escaped


def do(page, label, *, scope=".actions", **fields):
    """Choose an action, fill its form in, in the dialog or on the page, and send it."""
    page.click(f"{scope} a:text-is('{label}')")
    page.wait_for_selector("#act form")
    for name, value in fields.items():
        page.fill(f"#act [name={name}]", value)
    with page.expect_navigation():
        page.click("#act button")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_instance_is_acted_on(site, visit, scripts):
    id = f"cart/{'with' if scripts else 'without'} <scripts>"
    site.cart(id)
    with visit(site, java_script_enabled=scripts) as page:
        there = f"/instances/{escaped(id)}"
        page.goto(there)
        do(page, "Update", name="add", value="tea & <b>milk</b>")
        assert page.inner_text("pre.value") == "1"
        page.click("text=Back")
        do(page, "Query", name="contents")
        assert "tea & <b>milk</b>" in page.inner_text("pre.value")
        page.click("text=Back")
        do(page, "Signal", name="approved", value="true")
        assert "The signal is stored." in page.inner_text("[role=status]")
        do(page, "Pause", reason="over <night>")
        assert page.locator(".status.suspended").count() >= 1
        reason = site.describe(id).suspension.reason
        assert reason == "over <night> (by ann through the web page)"
        do(page, "Resume")
        site.wait(id, "running")
        page.goto(there)
        do(page, "Reset", turn="0", reason="again")
        assert site.wait(id, "running").execution == 2
        page.goto(there)
        do(page, "Cancel", reason="enough")
        assert site.wait(id, "cancelled").reason == "enough (by ann through the web page)"
        page.goto(there)
        assert page.locator(".actions a:text-is('Cancel')").count() == 0
        do(page, "Remove")
        page.wait_for_url(lambda url: url.endswith("/instances?did=remove"))
        page.goto(f"/instances?id={id[:8]}")
        assert page.locator(f"tbody >> text={id}").count() == 0


def test_an_instance_is_terminated_or_kept(site, visit):
    site.cart("kept-1")
    with visit(site) as page:
        page.goto("/instances/kept-1")
        page.click(".actions a:text-is('Terminate')")
        page.click("dialog >> text=Back")
        page.wait_for_selector("dialog", state="detached")
        assert site.status("kept-1") == "running"
        do(page, "Terminate", reason="x")
        assert site.status("kept-1") == "terminated"


def test_what_is_wrong_is_said_with_what_was_typed(shop_on_sqlite, visit):
    shop_on_sqlite.cart("wrong-1")
    with visit(shop_on_sqlite, faults=["409"]) as page:
        page.goto("/instances/wrong-1")
        do(page, "Signal", name="approved", value='{"a": ')
        assert "it is not complete" in page.inner_text("[role=alert]")
        assert page.input_value("#act [name=value]") == '{"a": '
        assert page.input_value("#act [name=name]") == "approved"


def test_attempts_begin_now(site, visit):
    with visit(site) as page:
        page.goto("/instances/feed-1")
        do(page, "Retry now", activity="fetch_feed")
        assert page.locator("[role=status]").count() == 1


def test_all_that_a_filter_shows_is_acted_on(site, visit):
    for number in range(3):
        site.cart(f"many-{number}")
    with visit(site) as page:
        page.goto("/instances?id=many-&status=running")
        do(page, "Pause", reason="together")
        assert "done to 3 instances" in page.inner_text("[role=status]")
        reason = site.describe("many-2").suspension.reason
        assert reason == "together (by ann through the web page)"
        page.click("text=Back")
        page.goto("/instances?id=many-&status=suspended")
        do(page, "Resume")
        site.wait("many-0", "running")
        page.goto("/instances?id=many-")
        do(page, "Signal", name="approved", value="true")
        assert "done to 3" in page.inner_text("[role=status]")
        page.goto("/instances?id=many-")
        do(page, "Terminate")
        assert "done to 3" in page.inner_text("[role=status]")
        page.goto("/instances?id=many-")
        do(page, "Reset")
        assert "done to 3" in page.inner_text("[role=status]")
        page.goto("/instances?id=many-")
        do(page, "Cancel")
        site.wait("many-0", "cancelled")
        site.wait("many-1", "cancelled")
        site.wait("many-2", "cancelled")
        page.goto("/instances?id=many-")
        do(page, "Remove")
        assert "done to 3" in page.inner_text("[role=status]")
        page.goto("/instances?id=many-")
        assert page.locator("tbody tr").count() == 0


def test_steps_go_on_by_themselves_until_they_are_stopped(shop_on_sqlite, visit, monkeypatch):
    from trioflow.web._acting import bulk  # noqa: PLC0415

    monkeypatch.setattr(bulk, "_STEP", 1)
    monkeypatch.setattr(bulk, "_PATIENCE", 0)
    for number in range(3):
        shop_on_sqlite.cart(f"steps-{number}")
    with visit(shop_on_sqlite) as page:
        page.goto("/instances?id=steps-&status=running")
        do(page, "Terminate")
        page.wait_for_selector("text=done to 3 instances")
        page.wait_for_selector("form[data-go-on]", state="detached")
        assert shop_on_sqlite.status("steps-0") == "terminated"


def test_schedules_are_acted_on(site, visit):
    with visit(site) as page:
        page.goto("/schedules/every-5-min")
        do(page, "Pause", reason="holidays")

        async def reason():
            return (await site.client.schedule_handle("every-5-min").describe()).paused

        assert site.ask(lambda: until(reason)) == "holidays (by ann through the web page)"
        page.goto("/schedules/every-5-min")
        do(page, "Resume")
        page.goto("/schedules/every-5-min")
        do(page, "Run now")
        page.wait_for_url("**/instances/every-5-min~2Ftrigger-**")
        page.goto(f"/schedules/{escaped('every-5-min')}")
        do(page, "Remove")
        page.wait_for_url(lambda url: url.endswith("/schedules?did=schedule-remove"))
        assert page.locator("tbody >> text=every-5-min").count() == 0


def test_an_instance_is_started(site, visit):
    with visit(site, faults=["409"]) as page:
        page.goto("/instances")
        page.click("text=Start an instance")
        page.click(".choice strong:text-is('order')")
        page.fill("[name=argument-order]", '{"id": "w", "amount": "much"}')
        page.fill("#act [name=id]", "by/hand")
        page.click("#act button")
        page.wait_for_selector("[role=alert]")
        page.fill("[name=argument-order]", '{"id": "w", "amount": 12}')
        page.click("#act button")
        page.wait_for_url(lambda url: "/instances/by~2Fhand" in url)
    done = site.wait("by/hand", "completed")
    assert done.metadata["started_by"] == "ann through the web page"


def test_one_who_only_looks_is_led_to_sign_in_and_back(shop_on_sqlite, visit):
    shop_on_sqlite.cart("looked-at")
    with visit(shop_on_sqlite, user=None) as page:
        page.goto("/instances/looked-at")
        assert page.locator(".actions").count() == 0
        page.goto("/instances/looked-at/do/cancel")
        page.click("text=Sign in to act")
        page.fill("#name", "bob")
        page.fill("#password", "only for tests")
        page.click("main button")
        page.wait_for_url("**/instances/looked-at/do/cancel")
        page.click("#act button")
        shop_on_sqlite.wait("looked-at", "cancelled")
        page.click("text=Sign out")
        page.wait_for_url("**/sign-in")
        assert page.locator("text=Sign out").count() == 0
        cookies = [each["name"] for each in page.context.cookies()]
        assert not [name for name in cookies if name.startswith("trioflow-")]


def test_a_foreign_page_can_do_nothing(shop_on_sqlite, visit):
    site = shop_on_sqlite
    site.cart("attacked")
    port = site.address.rpartition(":")[2]
    with visit(site, faults=["403", "421", "Failed to load", "CORS", "frame", "ERR_"]) as page:
        page.context.route(
            "http://evil.example/**",
            lambda route: route.fulfill(
                content_type="text/html",
                body=f"""
                <form method="post" action="{site.address}/instances/attacked/do/terminate">
                <input name="sure" value="yes"><input name="csrf" value="guessed"></form>
                <iframe src="{site.address}/instances"></iframe>
                <img src="{site.address}/static/icon.svg">
                """,
            ),
        )
        page.goto("http://evil.example/")
        assert page.evaluate("document.images[0].naturalWidth") == 0
        assert page.frames[1].url.startswith("chrome-error:")
        read = page.evaluate(
            f"fetch('{site.address}/api/v1/stats').then(() => 'read', () => 'refused')"
        )
        assert read == "refused"
        with page.expect_navigation() as sent:
            page.evaluate("document.forms[0].submit()")
        assert sent.value.status == 403
        assert site.status("attacked") == "running"
        # A name of the attacker's that means this machine.
        answer = page.goto(f"http://evil.localhost:{port}/instances")
        assert answer.status == 421
        assert "attacked" not in page.content()
