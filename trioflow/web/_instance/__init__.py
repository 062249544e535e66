"""The pages of one instance: ``/instances/{id}`` and below.

`reading` gives what they show as structs, which the JSON API shows too. It is made of what is pure:
`facts` and `digest` (a history as lines), `timeline`, `scale` and `drawing` (a picture), `trees`
(tasks, parents and children), `divergence` (history and code side by side).
"""

from __future__ import annotations

from starlette.routing import BaseRoute

from trioflow import Undecodable
from trioflow.web._instance import views
from trioflow.web._site import Site, get

__all__ = ["routes"]

_ID = "/instances/{id:trioflow_id}"


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of ``/instances/{id}`` and below."""
    site.templates.tests["undecodable"] = lambda value: isinstance(value, Undecodable)
    site.templates.filters["visible"] = views.visible
    return [
        get(site, _ID, views.overview, "instance"),
        get(site, f"{_ID}/timeline", views.timeline, "instance_timeline"),
        get(site, f"{_ID}/tasks", views.tasks, "instance_tasks", form=True),
        get(site, f"{_ID}/history", views.history, "instance_history"),
        get(site, f"{_ID}/family", views.family, "instance_family"),
        get(site, f"{_ID}/executions", views.executions, "instance_executions"),
        get(site, f"{_ID}/suspension", views.suspension, "instance_suspension", form=True),
        get(site, f"{_ID}/values/{{which}}", views.value, "instance_value"),
    ]
