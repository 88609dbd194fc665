"""Pyramid: notes the route that a request took, for the middleware around the WSGI app to name it.

Called by Pyramid: `config.include("metrics_app.client.pyramid")`.
"""

from __future__ import annotations

from typing import Any

from metrics_app.client.routes import NOTED


def includeme(config: Any) -> None:
    """What Pyramid calls."""
    config.add_subscriber(_note, "pyramid.interfaces.IBeforeTraversal")


def _note(event: Any) -> None:
    route = event.request.matched_route
    if route is not None:
        event.request.environ[NOTED] = f"/{route.pattern.lstrip('/')}"
