"""The JSON API: what its answers are, and that its description says so."""

# mypy: ignore-errors

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from trioflow.web import _api
from trioflow.web._filtering import TROUBLES, Wanted

PATHS = {
    "index": "",
    "stats": "/stats",
    "instances": "/instances",
    "instance": "/instances/billing-7",
    "history": "/instances/billing-7/history",
    "timeline": "/instances/billing-7/timeline",
    "tasks": "/instances/billing-7/tasks",
    "family": "/instances/billing-7/family",
    "suspension": "/instances/billing-7/suspension",
    "schedules": "/schedules",
    "schedule": "/schedules/monthly~2Fclose",
    "workers": "/workers",
}


async def test_each_answer_is_what_the_description_says(shopping):
    asked = {each.name for each in _api._ENDPOINTS}
    assert asked <= PATHS.keys()
    described = (await shopping.api("/openapi.json")).json()
    for each in _api._ENDPOINTS:
        body = (await shopping.api(PATHS[each.name])).content
        msgspec.json.decode(body, type=each.type)
        operation = described["paths"][each.path.replace(_api._ID, "/{id}") or "/"]["get"]
        assert operation["operationId"] == each.name
        assert operation["summary"]


async def test_references_of_the_description_are_in_it(shopping):
    text = (await shopping.api("/openapi.json")).text
    described = msgspec.json.decode(text)
    schemas = described["components"]["schemas"]
    wanted = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert wanted == schemas.keys()


async def test_the_index_leads_to_everything_also_below_a_path(shopping):
    index = (await shopping.api("")).json()
    assert index["version"] == 1
    assert index["paths"].keys() == {each.name for each in _api._ENDPOINTS} - {"index"} | {
        "openapi"
    }
    assert index["paths"]["history"] == "/api/v1/instances/{id}/history"


async def test_instances_are_paged_and_filtered(shopping):
    everything = [one.id for one in await shopping.client.list(limit=500)]
    after, ids = "", []
    while after is not None:
        page = (await shopping.api(f"/instances?limit=7&after={after}")).json()
        ids += [one["id"] for one in page["instances"]]
        assert len(page["instances"]) <= 7
        after = page["next"]
    assert ids == everything
    failed = (await shopping.api("/instances?status=failed&status=suspended")).json()
    assert {one["status"] for one in failed["instances"]} == {"failed", "suspended"}
    some = (await shopping.api("/instances?where=amount>=700&where=customer=c7")).json()
    assert {one["attributes"]["amount"] >= 700 for one in some["instances"]} == {True}


async def test_ids_of_all_kinds_are_reached(shopping):
    for one in await shopping.client.list(limit=500):
        address = _api_address(one.id)
        found = (await shopping.api(f"/instances/{address}")).json()
        assert found["instance"]["id"] == one.id


def _api_address(id):
    from trioflow.web._addresses import escaped  # noqa: PLC0415

    return escaped(id)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/instances/none", 404, "there is no instance 'none'"),
        ("/schedules/billing-7", 404, "it is no schedule"),
        ("/instances?status=lost", 400, "status: there is no 'lost'"),
        ("/instances?where=amount", 400, "write customer=c7, amount>=10"),
        ("/instances?since=yesterday", 400, "'yesterday' is no time; write 2h"),
        ("/instances?since=99999999d", 400, "is no time of the years from 1 to 9999"),
        ("/instances?id=%00", 400, "NUL"),
        ("/instances?after=%00", 400, "NUL"),
        ("/instances/~00", 400, "an id, '\\x00', holds a NUL"),
        ("/instances/~00/history", 400, "NUL"),
        ("/instances/billing-7/family?after=%00", 400, "after, '\\x00', holds a NUL"),
        ("/schedules?after=%00", 400, "NUL"),
        ("/schedules/~00", 400, "NUL"),
        ("/instances?limit=many", 400, "limit: a number from 1 to 500 is needed, not 'many'"),
        ("/instances?limit=501", 400, "limit: a number from 1 to 500"),
        ("/instances?after=gone", 410, "which was removed meanwhile"),
        ("/schedules?after=gone", 410, "which was removed meanwhile"),
        ("/instances/billing-7/history?kind=odd", 400, "kind: one of "),
        ("/instances/billing-7/history?execution=9", 404, "has no execution 9"),
        ("/nothing", 404, "Not Found"),
    ],
)
async def test_an_error_says_what_is_wrong(shopping, path, status, said):
    answer = (await shopping.api(path, status)).json()["error"]
    assert answer["status"] == status
    assert said in answer["message"]


async def test_nothing_is_changed_through_it(shopping):
    for path in PATHS.values():
        assert (await shopping.browser.post(f"/api/v1{path}")).status_code in (403, 405)


DOCS = (Path(__file__).parents[2] / "docs" / "web.md").read_text("utf-8")


def test_the_docs_name_every_path_and_every_filter():
    paths = re.findall(r"`(/[^`]*)`", DOCS.split("| `GET /api/v1…` |")[1].split("\n\n")[0])
    there = {each.path.replace(_api._ID, "/ID") or "/" for each in _api._ENDPOINTS}
    assert set(paths) == there
    shown = DOCS.split("| in the address |")[1].split("\n\n")[0].splitlines()[2:]
    filters = {name for row in shown for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    (instances,) = (each for each in _api._ENDPOINTS if each.name == "instances")
    assert filters == set(instances.parameters)
    assert filters == {*Wanted.__struct_fields__, "limit", "after"}
    for trouble in TROUBLES:
        assert f"`{trouble}`" in DOCS
