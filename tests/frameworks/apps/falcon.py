from __future__ import annotations

from typing import Any

import falcon
import falcon.asgi

from metrics_app.client import asgi, wsgi
from metrics_app.client.falcon import NoteRoute
from tests.frameworks.sending import Ledger, over_asgi, over_wsgi

SENT = {
    "GET /users/3": "GET /users/{number} 2xx",
    "POST /users/3": "POST /users/{number} 4xx",
    "GET /nowhere/4711": "GET * 4xx",
}
TIMES = 2  # under WSGI and under ASGI


class User:
    def on_get(self, request: Any, response: Any, number: str) -> None:
        response.text = number


class AsyncUser:
    async def on_get(self, request: Any, response: Any, number: str) -> None:
        response.text = number


def run(ledger: Ledger) -> None:
    app = falcon.App(middleware=[NoteRoute()])
    app.add_route("/users/{number}", User())
    over_wsgi(wsgi.TimingMiddleware(app, ledger, status_class=True), *SENT)
    async_app = falcon.asgi.App(middleware=[NoteRoute()])
    async_app.add_route("/users/{number}", AsyncUser())
    over_asgi(asgi.TimingMiddleware(async_app, ledger, status_class=True), *SENT)
