"""Web pages and a JSON API that show a store and act on it: ``trioflow.web.app(client)``.

Needs the extra ``web``. What this gives is an ASGI application: serve it with any server, or mount
it in a program of your own; ``trioflow web`` serves it by itself.
"""

from __future__ import annotations

from trioflow._metadata import fixup_module_metadata
from trioflow.web._app import app
from trioflow.web._security.settings import Access

__all__ = ["Access", "app"]

fixup_module_metadata(__name__, {name: globals()[name] for name in __all__})
del fixup_module_metadata
