"""Starting an instance of a workflow that the page was given."""

from __future__ import annotations

import inspect
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from trioflow import Registry, TrioflowError, Workflow
from trioflow._client.texts import argument_of, call_of, moment_of
from trioflow._codec.limits import ID_LENGTH, NAME_LENGTH
from trioflow.web._acting.forms import (
    Field,
    Given,
    Sheet,
    both,
    given_of,
    refusal,
    show,
    to,
)
from trioflow.web._site import Site, page, url

__all__ = ["routes"]

_ARGUMENT: Final = "argument-"
_LONGEST_DOC: Final = 1_500  # characters
_EMPTY: Final = inspect.Parameter.empty


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of starting an instance."""
    return both(site, "/start", "start", _look, _do)


async def _look(site: Site, request: Request) -> Response:
    given = given_of(request)
    workflow = _workflow(site.registry, given)
    if workflow is None:
        return _choice(site, request, given.text("workflow"))
    return show(site, request, _sheet(request, workflow), given=given)


def _workflow(registry: Registry | None, given: Given) -> Workflow[..., Any] | None:
    return None if registry is None else registry.workflows.get(given.text("workflow"))


def _choice(site: Site, request: Request, asked: str) -> Response:
    """Show which workflows can be started."""
    found: list[tuple[str, str]] = []
    if site.registry is not None:
        for name, each in sorted(site.registry.workflows.items()):
            found.append((name, inspect.cleandoc(each.fn.__doc__ or "").partition("\n")[0]))
    return page(
        site,
        request,
        "acting/start.html",
        status=404 if asked or request.method == "POST" else 200,
        workflows=found,
        asked=asked,
        given=site.registry is not None,
        here="instances",
    )


def _sheet(request: Request, workflow: Workflow[..., Any]) -> Sheet:
    fields = [_field(each) for each in inspect.signature(workflow.fn).parameters.values()]
    fields += [
        Field(name="id", label="Id", help="Made up if it is empty.", longest=ID_LENGTH),
        Field(
            name="queue",
            label="Queue",
            help=f"{workflow.queue or 'default'} if it is empty.",
            longest=NAME_LENGTH,
        ),
        Field(
            name="at",
            label="Begin at",
            help="2h, or 2026-11-26T09:30 in UTC; at once if it is empty.",
            longest=40,
        ),
    ]
    doc = inspect.cleandoc(workflow.fn.__doc__ or "")[:_LONGEST_DOC]
    return Sheet(
        title=f"Start {workflow.name}",
        says=[each for each in doc.split("\n\n") if each],
        button="Start",
        action=url(request, "start"),
        back=url(request, "start"),
        fields=fields,
        hidden={"workflow": workflow.name},
    )


def _field(parameter: inspect.Parameter) -> Field:
    type_ = parameter.annotation
    said = type_ if isinstance(type_, str) else getattr(type_, "__name__", str(type_))
    parts = [] if type_ is _EMPTY else [f"{said}."]
    parts.append("JSON, or a text that is no JSON.")
    if parameter.kind is parameter.VAR_POSITIONAL:
        parts.append("A list: it is all further arguments.")
    elif parameter.kind is parameter.VAR_KEYWORD:
        parts.append("An object: it is all further arguments by name.")
    elif parameter.default is not _EMPTY:
        parts.append(f"{parameter.default!r} if it is empty."[:200])
    needed = parameter.default is _EMPTY and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )
    return Field(
        name=f"{_ARGUMENT}{parameter.name}",
        label=parameter.name,
        kind="long",
        help=" ".join(parts),
        required=needed,
    )


async def _do(site: Site, request: Request) -> Response:
    given = given_of(request)
    workflow = _workflow(site.registry, given)
    if workflow is None:
        return _choice(site, request, given.text("workflow"))
    try:
        definition = _options(workflow, given, site.client.backend.now())
        args, kwargs = _arguments(workflow, given)
        handle = await site.client.start(definition, *args, **kwargs)
    except (TrioflowError, ValueError, TypeError) as error:
        text, status = refusal(error)
        sheet = _sheet(request, workflow)
        return show(site, request, sheet, given=given, said=text, status=status)
    given.log("start", f"instance {handle.id!r} of {workflow.name}", instance=handle.id)
    return to(url(request, "instance", {"did": "start"}, id=handle.id))


def _options(workflow: Workflow[..., Any], given: Given, now: float) -> Workflow[..., Any]:
    options: dict[str, Any] = {"metadata": {**(workflow.metadata or {}), "started_by": given.by}}
    for name in ("id", "queue"):
        if text := given.text(name):
            options[name] = text
    if at := given.text("at"):
        options["start_at"] = moment_of(at, now, ahead=True)
    return workflow.options(**options)


def _arguments(workflow: Workflow[..., Any], given: Given) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a call, each of its parameter's type."""
    record: dict[str, Any] = {}
    for parameter in inspect.signature(workflow.fn).parameters.values():
        text = given.text(f"{_ARGUMENT}{parameter.name}")
        if text:
            record[parameter.name] = argument_of(parameter, text)
    return call_of(workflow, record)
