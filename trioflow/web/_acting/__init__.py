"""What changes something, and what asks for it: every route that is posted to.

Each action has a page with a form, which says what it does and asks; posted to the same address, it
does it. So everything works without scripts. Who did it is logged, and stands in the reason where
an instance keeps one.
"""

from __future__ import annotations

from starlette.routing import BaseRoute

from trioflow.web._acting import bulk, instance, schedules, starting
from trioflow.web._site import Site

__all__ = ["routes"]


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes that are posted to."""
    return [route for each in (instance, bulk, schedules, starting) for route in each.routes(site)]
