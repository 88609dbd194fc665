"""Apps as people have them, a millisecond of work and five of waiting, with and without the client's middleware.

Served as `benchmarks.shop:starlette` by uvicorn and `benchmarks.shop:flask` by gunicorn. SHOP_COLLECTORS has the
addresses of collectors; without it there is no middleware.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from flask import Flask, Response
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response as AsyncResponse
from starlette.routing import Route

from metrics_app import MetricsClient
from metrics_app.client import asgi, wsgi

WAIT_S = 0.005
COLLECTORS = os.environ.get("SHOP_COLLECTORS", "")
_ITEMS = [{"number": number, "name": f"item {number}", "price": number * 1.25} for number in range(200)]


def _work() -> bytes:
    return json.dumps(_ITEMS).encode()


async def _order(request: Request) -> AsyncResponse:
    await asyncio.sleep(WAIT_S)
    return AsyncResponse(_work(), media_type="application/json")


starlette: Any = Starlette(routes=[Route("/orders/{number:int}", _order)])
flask = Flask(__name__)


@flask.get("/orders/<int:number>")
def order(number: int) -> Response:
    """An order."""
    time.sleep(WAIT_S)
    return Response(_work(), mimetype="application/json")


if COLLECTORS:
    client = MetricsClient(COLLECTORS)
    starlette = asgi.TimingMiddleware(starlette, client)
    flask.wsgi_app = wsgi.TimingMiddleware(flask.wsgi_app, client)  # type: ignore[method-assign]  # as Flask's manual says
