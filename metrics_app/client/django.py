"""Django: notes the route that a request took, for the middleware around the WSGI or ASGI application to name it.

Called by Django.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from metrics_app.client.routes import NOTED


def note_route(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware of Django, the first one: `MIDDLEWARE = ["metrics_app.client.django.note_route", ...]`."""
    if iscoroutinefunction(get_response):

        async def noted_later(request: Any) -> Any:
            response = await get_response(request)
            _note(request)
            return response

        return noted_later

    def noted(request: Any) -> Any:
        response = get_response(request)
        _note(request)
        return response

    return noted


# how Django asks whether it may be used under WSGI and ASGI alike
note_route.sync_capable = note_route.async_capable = True  # type: ignore[attr-defined]


def _note(request: Any) -> None:
    match = getattr(request, "resolver_match", None)
    if match is not None:
        place = request.scope if hasattr(request, "scope") else request.environ
        place[NOTED] = f"/{match.route}"
