"""Falcon: notes the route that a request took, for the middleware around the WSGI or ASGI app to name it.

Called by Falcon.
"""

from __future__ import annotations

from typing import Any

from metrics_app.client.routes import NOTED


class NoteRoute:
    """A middleware of Falcon: `falcon.App(middleware=[NoteRoute()])`, or `falcon.asgi.App`, or `add_middleware`."""

    def process_resource(self, request: Any, response: Any, resource: object, params: object) -> None:
        """Under WSGI, when a route was found."""
        request.env[NOTED] = request.uri_template

    async def process_resource_async(self, request: Any, response: Any, resource: object, params: object) -> None:
        """The same under ASGI."""
        request.scope[NOTED] = request.uri_template
