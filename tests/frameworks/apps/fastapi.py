from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import Request

from metrics_app.client.asgi import TimingMiddleware
from tests.frameworks.sending import Ledger, over_asgi

SENT = {
    "GET /plain/3": "GET /plain/{number} 2xx",
    "DELETE /plain/3": "DELETE /plain/{number} 4xx",
    "GET /plain/x": "GET /plain/{number} 4xx",
    "GET /api/v1/users/3": "GET /api/v1/users/{number} 2xx",
    "GET /api/v1/within/a/deep/3": "GET /api/v1/within/{tenant}/deep/{number} 2xx",
    "GET /again/users/3": "GET /again/users/{number} 2xx",
    "GET /left/a/shared/3": "GET /left/{tenant}/shared/{number} 2xx",
    "GET /left/a/more/shared/3": "GET /left/{tenant}/more/shared/{number} 2xx",
    "GET /right/shared/3": "GET /right/shared/{number} 2xx",
    "GET /api/v1/raw/3": "GET /api/v1/raw/{number} 2xx",
    "GET /api/v1/nowhere": "GET * 4xx",
    "GET /static/fastapi.py": "GET /static/* 2xx",
    "GET /nowhere/4711": "GET * 4xx",
}


async def raw(request: Request) -> PlainTextResponse:
    return PlainTextResponse("raw")


async def number_of(number: int) -> int:
    return number


def app_of(ledger: Ledger) -> Any:
    users, within, shared, mounted = APIRouter(), APIRouter(prefix="/within/{tenant}"), APIRouter(), FastAPI()
    users.get("/users/{number}")(number_of)
    within.get("/deep/{number}")(number_of)
    shared.get("/shared/{number}")(number_of)
    users.add_route("/raw/{number}", raw)
    users.include_router(within)
    mounted.get("/shared/{number}")(number_of)
    mounted.include_router(shared, prefix="/more")
    app = FastAPI()
    app.get("/plain/{number}")(number_of)
    app.include_router(users, prefix="/api/v1")
    app.include_router(users, prefix="/again")
    app.mount("/left/{tenant}", mounted)
    app.mount("/right", mounted)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent))
    app.add_middleware(TimingMiddleware, client=ledger, status_class=True)
    return app


def run(ledger: Ledger) -> None:
    over_asgi(app_of(ledger), *SENT)
