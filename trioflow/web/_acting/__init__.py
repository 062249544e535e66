"""What changes something, and what asks for it: every route that is posted to.

Each action has a page with a form, which says what it does and asks; posted to the same address, it
does it. So everything works without scripts. Who did it is logged, and stands in the reason where
an instance keeps one.
"""

from __future__ import annotations

from typing import Any

from starlette.routing import BaseRoute

from trioflow.web._acting import bulk, instance, schedules, starting
from trioflow.web._acting.bulk import BULK
from trioflow.web._acting.instance import ACTIONS
from trioflow.web._acting.schedules import SCHEDULE_ACTIONS
from trioflow.web._site import Site

__all__ = ["routes"]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes that are posted to; the templates get to know what there is to do."""
    known: dict[str, Any] = site.templates.globals
    known["instance_actions"] = [*ACTIONS.values()]
    known["bulk_actions"] = [*BULK.values()]
    known["schedule_actions"] = SCHEDULE_ACTIONS
    return [route for each in (instance, bulk, schedules, starting) for route in each.routes(site)]
