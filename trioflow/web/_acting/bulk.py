"""What is done to all instances that a filter shows, in steps that a page can wait for."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from trioflow import BulkReport, Client, TrioflowError
from trioflow._client.arguments import instance_filter
from trioflow._client.listing import list_records
from trioflow.backends.records import Status
from trioflow.web._acting.forms import (
    Answer,
    Given,
    Sheet,
    both,
    given_of,
    refusal,
    show,
)
from trioflow.web._acting.instance import ACTIONS, Action
from trioflow.web._acting.signals import known_signals, signal_given, unchecked
from trioflow.web._filtering import Wanted
from trioflow.web._site import Site, url

__all__ = ["BULK", "routes"]

_STEP: Final = 100  # instances between two looks at the clock
_PATIENCE: Final = 5.0  # seconds for which a page does one thing after the other
_MOST_COUNTED: Final = 10_000
_EXAMPLES: Final = 10
_REFUSALS: Final = 10  # of which the texts are shown
_LONGEST: Final = 300  # characters of such a text
_INSTANT: Final = 2e-6  # seconds that texts of times tell apart, rounded up

_OF_ONE: Final = ("turn", "without")  # fields that mean nothing for many
_MENDED: Final[tuple[Status, ...]] = ("failed", "suspended", "terminated")

_Act = Callable[[Client, Given, dict[str, Any]], Awaitable[BulkReport]]
"""Does something to some instances: those of a filter, with ``limit`` and ``after``."""


async def _cancel(client: Client, given: Given, those: dict[str, Any]) -> BulkReport:
    return await client.cancel(reason=given.reason(), **those)


async def _terminate(client: Client, given: Given, those: dict[str, Any]) -> BulkReport:
    return await client.terminate(reason=given.reason(), **those)


async def _pause(client: Client, given: Given, those: dict[str, Any]) -> BulkReport:
    return await client.pause(reason=given.reason(), **those)


async def _resume(client: Client, _given: Given, those: dict[str, Any]) -> BulkReport:
    return await client.resume(**those)


async def _reset(client: Client, given: Given, those: dict[str, Any]) -> BulkReport:
    return await client.reset(reason=given.reason(), **those)


async def _retry(client: Client, given: Given, those: dict[str, Any]) -> BulkReport:
    return await client.retry_now(activity=given.text("activity") or None, **those)


async def _signal(client: Client, given: Given, those: dict[str, Any]) -> BulkReport:
    which, value = signal_given(given)
    return await client.signal(which, value, id=given.text("request") or None, **those)


async def _remove(client: Client, _given: Given, those: dict[str, Any]) -> BulkReport:
    filters = {name: value for name, value in those.items() if name not in ("limit", "after")}
    # What takes one of these ids meanwhile ends later.
    where = instance_filter(**filters, finished_before=client.backend.now() + _INSTANT)
    found = await list_records(client.backend, where, _STEP, None)
    ids = [each.id for each in found]
    done = await client.backend.remove(where, ids=ids, limit=_STEP) if ids else 0
    more = len(found) == _STEP and done > 0
    return BulkReport(done, len(found) - done, "again" if more else None)


@dataclass(frozen=True, slots=True)
class Bulk:
    """An action, as it is done to many instances.

    Attributes:
        action: What is done to one of them.
        act: Does it to some of them.
        when: For which statuses it does something.
    """

    action: Action
    act: _Act
    when: Sequence[Status]


BULK: Final = {
    name: Bulk(ACTIONS[name], act, ACTIONS[name].when if name != "reset" else _MENDED)
    for name, act in {
        "signal": _signal,
        "pause": _pause,
        "resume": _resume,
        "retry": _retry,
        "reset": _reset,
        "cancel": _cancel,
        "terminate": _terminate,
        "remove": _remove,
    }.items()
}
"""By the action's name, in the order of their buttons."""


@dataclass(frozen=True, slots=True)
class _Meant:
    """Which instances are meant, and what is done to them."""

    bulk: Bulk
    wanted: Wanted
    filters: dict[str, Any]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of what is done to many instances."""
    return both(site, "/do/{action}", "act-all", _look, _do)


def _meant(request: Request, given: Given, now: float) -> _Meant:
    bulk = BULK.get(request.path_params["action"])
    if bulk is None:
        raise HTTPException(404, "There is no such action for many instances.")
    wanted = Wanted.of(given.multi())
    if not wanted:
        raise HTTPException(
            400,
            "Without a filter this would mean every instance of the store. Choose some first: all "
            "of a status, for example.",
        )
    filters: dict[str, Any] = {**wanted.filters(now)}
    asked = filters.get("status") or ()
    allowed = [each for each in bulk.when if not asked or each in asked]
    if not allowed:
        raise HTTPException(
            400,
            f"{bulk.action.label} does nothing to instances that are {' or '.join(asked)}.",
        )
    filters["status"] = allowed
    until = now + _INSTANT
    filters["created_before"] = min(filters.get("created_before") or until, until)
    return _Meant(bulk, wanted, filters)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


async def _look(site: Site, request: Request) -> Response:
    given = given_of(request)
    now = site.client.backend.now()
    return show(
        site, request, await _sheet(site, request, _meant(request, given, now)), given=given
    )


async def _sheet(site: Site, request: Request, meant: _Meant) -> Sheet:
    action, filters = meant.bulk.action, meant.filters
    count: Any = site.client.count
    number: int = await count(**filters, at_most=_MOST_COUNTED)
    many = f"{number:,} or more" if number >= _MOST_COUNTED else f"{number:,}"
    examples = await site.client.list(**filters, limit=_EXAMPLES)
    how_many = "1 instance" if number == 1 else f"{many} instances"
    says = [f"For each of {how_many}: {action.does[0].lower()}{action.does[1:]}"]
    statuses = " or ".join(filters["status"])
    says.append(f"Only those that are {statuses}, and had been started when this page was made.")
    return Sheet(
        title=f"{action.label} {how_many}",
        says=says,
        button=f"{action.label} {many}",
        action=url(request, "act-all", action=action.name),
        back=url(request, "instances", meant.wanted.query()),
        fields=[each for each in action.fields if each.name not in _OF_ONE],
        hidden={
            **_frozen(meant),
            "request": f"web {secrets.token_hex(12)}",
            "sure": "yes",
        },
        destroys=action.destroys or number > 1,
        examples=[one.id for one in examples],
        more=number > len(examples),
    )


def _frozen(meant: _Meant) -> dict[str, str | Sequence[str]]:
    """Return the filter as fields that mean the same later: ``2h`` ago is a moment, for example."""
    wanted, filters = meant.wanted, meant.filters
    fields: dict[str, Any] = wanted.query(until=_moment(filters["created_before"] or 0.0))
    for name, filtered in (("since", "created_after"), ("ended", "finished_after")):
        if getattr(wanted, name):
            fields[name] = _moment(filters[filtered])
    return {name: value for name, value in fields.items() if value}


def _many(number: int) -> str:
    return "1 instance" if number == 1 else f"{number:,} instances"


async def _do(site: Site, request: Request) -> Response:
    given = given_of(request)
    now = site.client.backend.now()
    meant = _meant(request, given, now)
    if not given.sure:
        return show(site, request, await _sheet(site, request, meant), given=given)
    action = meant.bulk.action
    workflow = meant.filters.get("workflow")
    given.signals = known_signals(site, [workflow] if workflow else None)
    told = _told_before(given)
    before = told.reached
    after = given.raw("after") or None
    try:
        until = anyio.current_time() + _PATIENCE
        while True:
            those = {**meant.filters, "limit": _STEP, "after": after}
            report = await meant.bulk.act(site.client, given, those)
            told.add(report)
            after = report.after
            if after is None or anyio.current_time() >= until:
                break
    except (TrioflowError, ValueError, TypeError) as error:
        text, status = refusal(error)
        sheet = unchecked(await _sheet(site, request, meant), error)
        return show(site, request, sheet, given=given, said=text, status=status)
    finally:
        if told.reached != before:
            given.log(
                action.name,
                f"{_many(told.done - before[0])} of {meant.wanted.query()}",
            )
    return show(site, request, _answer(request, meant, given, told, after))


@dataclass(slots=True)
class _Told:
    """What came of the steps until now.

    Attributes:
        done: To how many instances it was done.
        passed: How many needed nothing.
        refused: To how many it cannot be done.
        why: Of some of these their ids and why.
    """

    done: int
    passed: int
    refused: int
    why: list[str]

    @property
    def reached(self) -> tuple[int, int, int]:
        return self.done, self.passed, self.refused

    def add(self, report: BulkReport) -> None:
        self.done += report.done
        self.passed += report.passed
        self.refused += len(report.refused)
        for id, why in report.refused.items():
            if len(self.why) < _REFUSALS:
                text = f"{id}: {why}"
                self.why.append(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def _told_before(given: Given) -> _Told:
    """Return what the form says of the steps before."""
    try:
        done, passed, refused = (given.number(name) or 0 for name in ("done", "passed", "refused"))
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    return _Told(done, passed, refused, given.all("why")[:_REFUSALS])


def _answer(
    request: Request, meant: _Meant, given: Given, told: _Told, after: str | None
) -> Answer:
    action = meant.bulk.action
    says = [f"{action.label}: done to {_many(told.done)}."]
    if told.passed:
        says.append(f"{_many(told.passed)} needed nothing: they had ended in between, say.")
    if told.refused:
        others = f", of which {len(told.why)} are shown" if told.refused > len(told.why) else ""
        says += [f"It cannot be done to {_many(told.refused)}{others}:", *told.why]
    back = url(request, "instances", meant.wanted.query())
    more = None
    if after is not None:
        kept = {each.name: given.raw(each.name) for each in action.fields}
        more = Sheet(
            title="",
            says=("There are more.",),
            button="Go on",
            action=url(request, "act-all", action=action.name),
            back=back,
            hidden={
                **_frozen(meant),
                **kept,
                "request": given.text("request"),
                "unchecked": given.raw("unchecked"),
                "after": after,
                "done": str(told.done),
                "passed": str(told.passed),
                "refused": str(told.refused),
                "why": told.why,
                "sure": "yes",
            },
        )
    title = f"{action.label}: {'so far' if more else 'done'}"
    return Answer(title=title, says=says, back=back, more=more)
