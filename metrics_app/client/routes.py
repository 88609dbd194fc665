"""Makes keys of requests: the method and the template of the route, never the path, so that there are few of them.

Called by `asgi` and `wsgi`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNMATCHED = "*"  # a path that no route knows, or a framework that does not say which it took

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


def request_key(method: str, template: str | None) -> str:
    """ "GET /users/{id}", or "GET *" without a template; a method that HTTP does not know is "OTHER"."""
    return f"{method if method in _METHODS else 'OTHER'} {template or UNMATCHED}"


def of_wsgi(environ: Mapping[str, Any]) -> str:
    """The key of a WSGI request: Flask, and all on Werkzeug that note the rule they matched on the request."""
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return request_key(environ.get("REQUEST_METHOD", ""), getattr(rule, "rule", None))


class AsgiRoutes:
    """The keys of ASGI requests: Starlette, FastAPI and what is built on them. Remembers the templates it has found."""

    def __init__(self) -> None:
        self._templates: dict[int, tuple[Any, str | None]] = {}  # by identity: routes are compared, and not hashed

    def __call__(self, scope: Mapping[str, Any]) -> str:
        """The key of a request that has been routed."""
        route = scope.get("route") or scope.get("endpoint")  # before 1.0 Starlette notes the endpoint alone
        template = None
        if route is not None:
            if id(route) not in self._templates:
                self._templates[id(route)] = route, _template(getattr(scope.get("router"), "routes", ()), route)
            template = self._templates[id(route)][1]
        return request_key(scope.get("method", ""), template)


def _template(routes: Any, wanted: Any) -> str | None:
    """The path of a route, with those of the mounts it is in."""
    for route in routes:
        path = getattr(route, "path", "")
        if route is wanted or getattr(route, "endpoint", None) is wanted:
            return path or "/"
        inner = _template(getattr(route, "routes", None) or (), wanted)
        if inner is not None:
            return f"{path}{inner}"
    return None
