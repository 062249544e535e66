"""Every page in a real browser: no complaint, no breach of the policy, for eyes and keys alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.web.seed import HOSTILE
from trioflow.web._addresses import escaped

TABS = ("", "/timeline", "/tasks", "/history", "/family", "/executions")


def addresses(site):
    """Return the address of a page of each kind, also of those that are odd."""
    found = ["/", "/instances", "/schedules", "/workers", "/start", "/start?workflow=order"]
    found += [f"/instances?status={each}" for each in ("running", "failed", "suspended")]
    found += ["/instances?where=customer=c7&since=2h", "/instances?where=odd", "/instances?id=none"]
    found += [f"/schedules/{escaped('monthly/close')}", "/schedules/nightly-report/do/remove"]
    found += [f"/instances/order-00{tab}" for tab in TABS]
    found += [f"/instances/several-0{tab}" for tab in ("", "/history", "/timeline")]
    found += [f"/instances/billing-7{tab}" for tab in ("", "/suspension", "/history", "/do/reset")]
    found += [f"/instances/feed-0{tab}" for tab in ("", "/timeline")]
    found += [f"/instances/{escaped(id)}" for id in HOSTILE]
    found += [f"/instances/{escaped(HOSTILE[1])}{tab}" for tab in (*TABS, "/do/signal")]
    found += ["/do/cancel?status=running", "/do/signal?workflow=cart"]
    return found


@pytest.fixture(scope="session")
def axe():
    """The script of axe, as the package brings it."""
    package = pytest.importorskip("axe_core_python")
    return Path(package.__file__).with_name("axe.min.js").read_text("utf-8")


def test_every_page_is_shown_without_a_complaint(site, visit):
    with visit(site, faults=["400"]) as page:
        for address in addresses(site):
            answer = page.goto(address)
            assert answer.status == (400 if address.endswith("odd") else 200), address
            assert page.locator("h1").count() == 1, address
            assert page.locator("main script, main style, [style], [onclick]").count() == 0, address


def test_no_page_is_wider_than_a_phone(shop_on_sqlite, visit):
    phone = {"width": 360, "height": 740}
    with visit(shop_on_sqlite, viewport=phone, faults=["400"]) as page:
        too_wide = {}
        for address in addresses(shop_on_sqlite):
            page.goto(address)
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > 360:
                too_wide[address] = width
        assert not too_wide


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(shop_on_sqlite, visit, axe, scheme):
    looked_at = [
        "/", "/instances", "/instances?status=failed&where=customer=c7", "/schedules",
        f"/schedules/{escaped('monthly/close')}", "/workers", "/start?workflow=order", "/sign-in",
        *(f"/instances/order-00{tab}" for tab in TABS), "/instances/several-0",
        "/instances/billing-7/suspension", "/instances/feed-0", "/instances/order-00/do/reset",
        "/do/cancel?status=running", "/instances/none",
    ]  # fmt: skip
    found = {}
    with visit(shop_on_sqlite, color_scheme=scheme, faults=["404"]) as page:
        for address in looked_at:
            page.goto(address)
            page.evaluate(axe)  # through the debugger, which the page's policy does not bind
            result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            for each in result["violations"]:
                if each["impact"] in ("serious", "critical"):
                    where = [node["html"][:120] for node in each["nodes"]][:3]
                    found.setdefault(each["id"], []).append((address, where))
    assert not found, found


def test_the_policy_stops_what_is_not_ours(shop_on_sqlite, visit):
    with visit(shop_on_sqlite, faults=["Content Security Policy"]) as page:
        page.goto("/instances")
        page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.got = 1";
              document.body.append(script);
              const image = "<img src='data:,' onerror='window.got = 1'>";
              document.body.insertAdjacentHTML("beforeend", image);
            }"""
        )
        page.wait_for_timeout(200)
        assert page.evaluate("window.got") is None


def test_keys_reach_everything(shop_on_sqlite, visit):
    with visit(shop_on_sqlite) as page:
        page.goto("/instances")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.url.endswith("#main")
        page.keyboard.press("/")
        page.keyboard.type("order-0")
        assert page.evaluate("document.activeElement.name") == "id"
        page.keyboard.press("Enter")
        page.wait_for_url("**/instances?id=order-0**")
        page.goto("/instances?id=several-0")
        link = page.locator("table a", has_text="several-0").first
        link.focus()
        assert link.evaluate("each => getComputedStyle(each).outlineStyle") != "none"
        page.keyboard.press("Enter")
        page.wait_for_url("**/instances/several-0")
        page.locator(".actions a", has_text="Reset").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog[open] #act")
        assert page.evaluate("document.activeElement.name") == "turn"
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog", state="detached")
        assert page.evaluate("document.activeElement.textContent").strip() == "Reset"


def test_dark_or_light_is_kept(shop_on_sqlite, visit):
    with visit(shop_on_sqlite, color_scheme="light") as page:
        colour = "getComputedStyle(document.documentElement).backgroundColor"
        page.goto("/")
        light = page.evaluate(colour)
        page.click("[data-theme-switch]")
        dark = page.evaluate(colour)
        assert dark != light
        page.goto("/workers")
        assert page.evaluate(colour) == dark


def test_filters_are_kept_in_the_address(site, visit):
    with visit(site) as page:
        page.goto("/instances")
        page.click(".tabs >> text=Failed")
        page.fill(".filters input[name=workflow]", "several")
        page.keyboard.press("Enter")
        page.wait_for_url("**workflow=several**")
        assert "status=failed" in page.url
        assert page.locator("tbody .status").all_inner_texts() == ["failed"]
        page.fill(".filters input[name=where]", "customer=c7")
        page.keyboard.press("Enter")
        page.wait_for_url("**where=customer**")
        assert page.locator("tbody tr").count() == 0
        page.click("text=Clear all")
        page.wait_for_url(lambda url: url.endswith("/instances"))
        assert page.locator("tbody tr").count() > 10
        page.goto("/instances?where=amount>=900&status=failed")
        assert page.locator("tbody tr").count() >= 0


def test_a_list_is_kept_up_to_date(site, visit):
    with visit(site) as page:
        page.goto("/instances?id=live-")
        assert page.locator("tbody tr").count() == 0
        site.cart("live-1")
        page.wait_for_selector("tbody >> text=live-1")
        site.ask(site.client.handle("live-1").terminate)
        page.wait_for_selector("tbody .status.terminated")


def test_a_phone_shows_what_a_desk_does(shop_on_sqlite, visit):
    with visit(shop_on_sqlite, viewport={"width": 390, "height": 844}) as page:
        page.goto("/instances?trouble=retrying")
        assert page.locator(".find input[type=search]").bounding_box()["width"] > 300
        assert page.locator("tr .narrow", has_text="is next; last:").first.is_visible()
        page.goto("/instances/feed-0")
        assert (
            page.locator("td[data-label=Attempt]")
            .inner_text()
            .split("\n")[-1]
            .startswith(("begins in", "waits for a worker", "runs"))
        )
        for address in ("/instances/feed-0/timeline", "/instances/order-00/timeline"):
            page.goto(address)
            plot = page.locator(".timeline-plot").first.bounding_box()
            assert plot["x"] + plot["width"] <= 390, address
            assert plot["width"] > 150


def test_a_resume_in_a_browser_asks_what_to_leave_out(shop_on_sqlite, visit):
    with visit(shop_on_sqlite) as page:
        page.goto("/instances/paused-1/do/resume")
        assert page.get_by_label("Without the signal").is_visible()
