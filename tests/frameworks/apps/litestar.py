from __future__ import annotations

from litestar import Litestar, Router, get

from metrics_app.client.asgi import TimingMiddleware
from tests.frameworks.sending import Ledger, over_asgi

SENT = {
    "GET /users/3": "GET /users/{number}",
    "GET /api/users/3": "GET /api/users/{number}",
    "GET /nowhere/4711": "GET *",
}


@get("/users/{number:int}")
async def user(number: int) -> str:
    return str(number)


def run(ledger: Ledger) -> None:
    app = Litestar([user, Router("/api", route_handlers=[user])], openapi_config=None)
    over_asgi(TimingMiddleware(app, ledger), *SENT)
