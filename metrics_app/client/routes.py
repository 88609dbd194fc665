"""Makes keys of requests: the method and the template of the route, never the path, so that there are few of them.

Called by `aiohttp`, `asgi`, `django`, `falcon`, `pyramid`, `quart` and `wsgi`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

UNMATCHED = "*"  # a path that no route knows, or a framework that does not say which it took
BELOW = "/*"  # what is behind a mount and tells no route of its own: static files, another framework
# the place in a WSGI environ and in an ASGI scope where an app may note the template of the route it took
NOTED = "metrics_app.route"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


def request_key(method: str, template: str | None) -> str:
    """ "GET /users/{id}", or "GET *" without a template; a method that HTTP does not know is "OTHER"."""
    return f"{method if method in _METHODS else 'OTHER'} {template or UNMATCHED}"


def with_status(key: str, status: int) -> str:
    """ "GET /users/{id} 2xx"; a status that is none of HTTP's, and a request that got none, is a 5xx."""
    return f"{key} {status // 100 if 100 <= status < 600 else 5}xx"


def of_wsgi(environ: Mapping[str, Any]) -> str:
    """The key of a WSGI request: Flask and Bottle, and what notes its route; below the mount that the app is in."""
    template = environ.get(NOTED) or _of_werkzeug(environ) or _of_bottle(environ)
    mount = environ.get("SCRIPT_NAME", "").rstrip("/")
    return request_key(environ.get("REQUEST_METHOD", ""), template and f"{mount}{template}")


def _of_werkzeug(environ: Mapping[str, Any]) -> str | None:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return getattr(rule, "rule", None)


def _of_bottle(environ: Mapping[str, Any]) -> str | None:
    return getattr(environ.get("bottle.route"), "rule", None)


class AsgiRoutes:
    """The keys of ASGI requests: Starlette, FastAPI, Litestar, and what notes its route. Remembers where routes are."""

    def __init__(self) -> None:
        self._places: dict[int, tuple[object, list[_Place]]] = {}  # by identity: routes are compared, and not hashed

    def __call__(self, scope: Mapping[str, Any]) -> str:
        """The key of a request that has been routed."""
        template = scope.get(NOTED) or scope.get("path_template") or self._found(scope)
        return request_key(scope.get("method", ""), template)

    def _found(self, scope: Mapping[str, Any]) -> str | None:
        taken = _taken(scope)
        if taken is None:
            return None
        if id(taken) not in self._places:
            self._places[id(taken)] = taken, list(_places(getattr(scope.get("router"), "routes", ()), taken))
        places = self._places[id(taken)][1]
        return next((place.template for place in places if len(places) == 1 or place.holds(scope)), None)


def _taken(scope: Mapping[str, Any]) -> object | None:
    """The route that was taken; before 1.0 Starlette notes the endpoint alone.

    From 0.140 on FastAPI keeps routers that were included as they are: what it notes beside them has the whole path.
    """
    endpoint: object | None = scope.get("endpoint")
    included: object | None = (scope.get("fastapi") or {}).get("effective_route_context")
    original = getattr(included, "original_route", None)  # of an app that is mounted within, not what was taken
    if endpoint is not None and getattr(original, "endpoint", None) is endpoint:
        return included
    return scope.get("route") or endpoint


class _Place:
    """Where a route is: an app that is mounted twice has each of its routes in two places."""

    def __init__(self, mounts: str, path: str) -> None:
        self.template = f"{mounts}{path}" or "/"
        self._mounts = re.compile(re.sub(r"\\{.*?\\}", "[^/]+", re.escape(mounts)))

    def holds(self, scope: Mapping[str, Any]) -> bool:
        """Whether the request went through the mounts of this place."""
        before = scope.get("app_root_path", "")  # of the server, in front of all mounts
        return self._mounts.fullmatch(scope.get("root_path", "").removeprefix(before)) is not None


def _places(routes: Iterable[Any], wanted: object, mounts: str = "") -> Iterator[_Place]:
    for route in routes:
        if hasattr(route, "effective_route_contexts"):  # a router that FastAPI has included
            yield from _places(route.effective_route_contexts(), wanted, mounts)
            continue
        shown = getattr(route, "starlette_route", None) or route  # of one in such a router: with the prefixes before it
        path, inner = getattr(shown, "path", ""), getattr(shown, "routes", None)
        if wanted is route or wanted is getattr(route, "endpoint", None):
            yield _Place(mounts, path) if inner is None else _Place(f"{mounts}{path}", BELOW)
        elif inner is not None and wanted is getattr(shown, "app", None):
            yield _Place(f"{mounts}{path}", BELOW)
        else:
            yield from _places(inner or (), wanted, f"{mounts}{path}")
