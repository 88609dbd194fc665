from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles

from metrics_app.client.asgi import TimingMiddleware
from tests.frameworks.sending import Ledger, over_asgi

SENT = {
    "GET /users/3": "GET /users/{number:int}",
    "GET /tenants/a/users/3": "GET /tenants/{tenant}/users/{number:int}",
    "GET /left/users/3": "GET /left/users/{number:int}",
    "GET /right/a/users/3": "GET /right/{tenant}/users/{number:int}",
    "GET /left/nowhere": "GET /left/*",
    "GET /right/a/nowhere": "GET /right/{tenant}/*",
    "GET /static/starlette.py": "GET /static/*",
    "GET /nowhere/4711": "GET *",
}


async def user(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.path_params["number"]))


async def other(request: Request) -> PlainTextResponse:
    return PlainTextResponse("other")


async def another(request: Request) -> PlainTextResponse:
    return PlainTextResponse("another")


def run(ledger: Ledger) -> None:
    shared = Router(routes=[Route("/users/{number:int}", other)])
    app = Starlette(
        routes=[
            Route("/users/{number:int}", user),
            Mount("/tenants/{tenant}", routes=[Route("/users/{number:int}", another)]),
            Mount("/left", app=shared),
            Mount("/right/{tenant}", app=shared),
            Mount("/static", app=StaticFiles(directory=Path(__file__).parent)),
        ]
    )
    app.add_middleware(TimingMiddleware, client=ledger)
    over_asgi(app, *SENT)
