from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.response import Response

from metrics_app.client.wsgi import TimingMiddleware
from tests.frameworks.sending import Ledger, over_wsgi

SENT = {
    "GET /users/3": "GET /users/{number} 2xx",
    "GET /api/users/3": "GET /api/users/{number} 2xx",
    "GET /nowhere/4711": "GET * 4xx",
}


def user(request: Any) -> Response:
    return Response(request.matchdict["number"])


def run(ledger: Ledger) -> None:
    with Configurator() as config:
        config.include("metrics_app.client.pyramid")
        config.add_route("user", "/users/{number}")
        config.add_route("api", "api/users/{number}")
        config.add_view(user, route_name="user")
        config.add_view(user, route_name="api")
    over_wsgi(TimingMiddleware(config.make_wsgi_app(), ledger, status_class=True), *SENT)
