"""The pages: what was asked for is read, and given to a template."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from trioflow import InstanceNotFound, Registry
from trioflow._model.limits import Limit
from trioflow.web._filtering import after_in
from trioflow.web._instance import reading
from trioflow.web._instance.drawing import draw
from trioflow.web._instance.facts import KINDS, Wanted
from trioflow.web._instance.reading import InstanceView
from trioflow.web._site import Site, page
from trioflow.web._words import as_json, duration

__all__ = [
    "executions",
    "family",
    "history",
    "overview",
    "suspension",
    "tasks",
    "timeline",
    "value",
    "visible",
]

_ASKING = 2.0  # seconds in which a worker has to answer
_LINES = 100  # of a history on one page
_BARS = 500
_GLANCE = 40  # bars of the timeline on the overview
_CHILDREN = 30
_GRANDCHILDREN = 3


def _show(site: Site, request: Request, name: str, view: InstanceView, **context: Any) -> Response:
    return page(
        site,
        request,
        f"instance/{name}.html",
        tab=name,
        view=view,
        one=view.instance,
        limit_words=limit_words,
        **context,
    )


async def _view(site: Site, request: Request) -> InstanceView:
    return await reading.instance_of(site.client, request.path_params["id"])


# --- pages ---------------------------------------------------------------------------------------


async def overview(site: Site, request: Request) -> Response:
    """Show all that is known of an instance, and its timeline at a glance."""
    view = await _view(site, request)
    picture = seen = None
    if view.instance.turns:
        seen = await reading.timeline_of_instance(site.client, view, limit=_GLANCE)
        picture = draw(seen)
    return _show(site, request, "overview", view, timeline=seen, drawing=picture)


async def timeline(site: Site, request: Request) -> Response:
    """Show what an execution did over time."""
    view = await _view(site, request)
    execution, first = _number(request, "execution"), _number(request, "first") or 0
    true_scale = request.query_params.get("scale") == "true"
    seen = await reading.timeline_of_instance(site.client, view, execution, first, _BARS)
    return _show(
        site,
        request,
        "timeline",
        view,
        timeline=seen,
        drawing=draw(seen, true_scale=true_scale),
        true_scale=true_scale,
        execution=execution or view.instance.execution,
        limit=_BARS,
    )


async def tasks(site: Site, request: Request) -> Response:
    """Show where each task waits."""
    view = await _view(site, request)
    found = await reading.tasks_of(site.client, view, _code(site, request), timeout=_ASKING)
    return _show(site, request, "tasks", view, found=found, has_code=_has_code(site, view))


async def history(site: Site, request: Request) -> Response:
    """Show a history line by line."""
    view = await _view(site, request)
    asked = request.query_params
    wanted = Wanted(
        kind=asked.get("kind", ""),
        name=asked.get("name", "").strip(),
        failed=asked.get("failed") == "yes",
    )
    found = await reading.history_of(
        site.client,
        view,
        _number(request, "execution"),
        wanted,
        _number(request, "first") or 0,
        _LINES,
        turn=_number(request, "turn"),
        backwards=asked.get("order") == "last",
    )
    return _show(
        site, request, "history", view, found=found, wanted=wanted, kinds=KINDS, limit=_LINES
    )


async def family(site: Site, request: Request) -> Response:
    """Show the instances around one."""
    view = await _view(site, request)
    after = after_in(request.query_params)
    try:
        found = await reading.family_of(
            site.client, view.instance.id, after, _CHILDREN, _GRANDCHILDREN
        )
    except InstanceNotFound:  # the one after which to go on has been removed
        found = await reading.family_of(
            site.client, view.instance.id, None, _CHILDREN, _GRANDCHILDREN
        )
    return _show(site, request, "family", view, family=found)


async def executions(site: Site, request: Request) -> Response:
    """Show the executions of an id over time."""
    return _show(site, request, "executions", await _view(site, request))


async def suspension(site: Site, request: Request) -> Response:
    """Show why an instance is suspended, and where the code leaves its history."""
    view = await _view(site, request)
    found = await reading.suspension_of(site.client, view, _code(site, request))
    return _show(site, request, "suspension", view, found=found, has_code=_has_code(site, view))


def _code(site: Site, request: Request) -> Registry | None:
    """Return the workflows whose code may be run to answer a request.

    A replay runs on the loop that serves the pages, and code that blocks would stop them all: so
    only a form has it run, which the guard takes from those who may act.
    """
    return site.registry if request.method == "POST" else None


def _has_code(site: Site, view: InstanceView) -> bool:
    """Return whether the history of an instance could be replayed here."""
    return reading.workflow_of(site.registry, view.instance.workflow) is not None


async def value(site: Site, request: Request) -> Response:
    """Give one value, all of it, as text."""
    view = await _view(site, request)
    which = request.path_params["which"]
    one = view.instance
    known = {
        "input": one.input,
        "result": one.result,
        "custom_status": one.custom_status,
        "failure": one.failure,
        "attributes": one.attributes,
        "metadata": one.metadata,
    }
    if which == "history":
        place = [_number(request, name) for name in ("execution", "turn", "index")]
        execution, turn, index = (-1 if each is None else each for each in place)
        fact = await reading.fact_at(site.client, view, execution, turn, index)
        shown: Any = fact.failure if fact.failure is not None else fact.value
    elif which in known:
        shown = known[which]
    else:
        raise HTTPException(404, f"an instance has no {which!r}")
    return PlainTextResponse(as_json(shown, indent=2) + "\n")


# --- words ---------------------------------------------------------------------------------------


def limit_words(limit: Limit) -> str:
    """Say what a limit demands."""
    words: list[str] = []
    if limit.concurrency is not None:
        words.append(f"at most {limit.concurrency:,} at once")
    if limit.rate is not None:
        words.append(f"at most {limit.rate:,} begin in {duration(limit.per)}")
    if limit.key is not None:
        each = limit.key_concurrency
        many = "" if each is None else f", at most {each:,} at once of each"
        words.append(f"in turns by {limit.key!r}{many}")
    return f"{limit.kind} {limit.name}: {'; '.join(words)}"


# What nobody sees, or what changes the direction of the text around it.
_HIDDEN = [
    *(*range(32), *range(127, 160), 0x200B, 0x200E, 0x200F, 0xFEFF),
    *(*range(0x202A, 0x202F), *range(0x2066, 0x206A)),
]
_ESCAPES = {number: ascii(chr(number))[1:-1] for number in _HIDDEN}


def visible(text: str) -> str:
    """Return an id so that it cannot be taken for another one."""
    return text.translate(_ESCAPES)


def _number(request: Request, name: str) -> int | None:
    """Return a number of the address, ``None`` if it has none.

    Raises:
        HTTPException: It is no number.
    """
    text = request.query_params.get(name)
    if not text:
        return None
    if not text.isdecimal() or len(text) > 12:  # noqa: PLR2004 - no history is so long
        raise HTTPException(400, f"{name}={text[:20]!r} is no number")
    return int(text)
