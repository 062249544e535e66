"""What is done to a schedule."""

from __future__ import annotations

from typing import Any, Final

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from trioflow import Client, ScheduleHandle, TrioflowError
from trioflow.web._acting.forms import (
    REASON,
    Answer,
    Sheet,
    both,
    given_of,
    refusal,
    show,
    to,
)
from trioflow.web._site import Site, url

__all__ = ["SCHEDULE_ACTIONS", "routes"]

_PATIENCE: Final = 5.0  # seconds for which a page waits for a worker

SCHEDULE_ACTIONS: Final = {
    "pause": ("Pause", "Begins no more runs until it is resumed. Those under way go on."),
    "resume": ("Resume", "Begins runs again, from now on."),
    "trigger": ("Run now", "Begins a run now, whatever else is under way."),
    "remove": ("Remove", "Removes the schedule. Its runs stay, and those under way go on."),
}
"""Labels and what will happen, by name, in the order of their buttons."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of what is done to a schedule."""
    return both(site, "/schedules/{id:trioflow_id}/do/{action}", "act-schedule", _look, _do)


async def _look(site: Site, request: Request) -> Response:
    return show(site, request, await _sheet(site.client, request), given=given_of(request))


async def _sheet(client: Client, request: Request) -> Sheet:
    id, name = request.path_params["id"], request.path_params["action"]
    if name not in SCHEDULE_ACTIONS:
        raise HTTPException(404, "There is no such action for schedules.")
    label, does = SCHEDULE_ACTIONS[name]
    await client.schedule_handle(id).describe()  # raises if there is none
    return Sheet(
        title=f"{label}: {id}",
        says=(does,),
        button=label,
        action=url(request, "act-schedule", id=id, action=name),
        back=url(request, "schedules"),
        fields=(REASON,) if name == "pause" else (),
        hidden={"sure": "yes"},
        destroys=name == "remove",
        here="schedules",
    )


async def _do(site: Site, request: Request) -> Response:
    given = given_of(request)
    sheet = await _sheet(site.client, request)
    name = request.path_params["action"]
    if sheet.destroys and not given.sure:
        return show(site, request, sheet, given=given)
    schedule: ScheduleHandle[Any] = site.client.schedule_handle(request.path_params["id"])
    run = None
    try:
        match name:
            case "pause":
                await schedule.pause(given.reason())
            case "resume":
                await schedule.resume()
            case "trigger":
                with anyio.move_on_after(_PATIENCE):
                    run = await schedule.trigger()
            case _:
                await schedule.remove()
    except (TrioflowError, ValueError, TypeError) as error:
        text, status = refusal(error)
        return show(site, request, sheet, given=given, said=text, status=status)
    given.log(name, f"schedule {schedule.id!r}", instance=schedule.id)
    if name != "trigger":
        return to(url(request, "schedules", {"did": f"schedule-{name}"}))
    if run is not None:
        return to(url(request, "instance", {"did": "start"}, id=run.id))
    says = ("The run is asked for. It begins when a worker of the schedule's queue reads that.",)
    answer = Answer(title=sheet.title, says=says, back=sheet.back, here="schedules")
    return show(site, request, answer)
