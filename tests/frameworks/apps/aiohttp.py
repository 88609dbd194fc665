"""A server and a session of aiohttp, over a real socket."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from aiohttp import ClientConnectionError, ClientSession, web

from metrics_app.client.aiohttp import timing_middleware, timing_trace
from tests.frameworks.sending import Ledger

SENT = {
    "/users/3": "GET /users/{number} 2xx",
    "/fails": "GET /fails 5xx",
    "/shop/users/3": "GET /shop/users/{number} 2xx",
    "/static/aiohttp.py": "GET /static/* 2xx",
    "/nowhere/4711": "GET * 4xx",
}


async def user(request: web.Request) -> web.Response:
    return web.Response(text=request.match_info["number"])


async def fails(request: web.Request) -> web.Response:
    raise web.HTTPServiceUnavailable


def run(ledger: Ledger) -> None:
    asyncio.run(_run(ledger))


async def _run(ledger: Ledger) -> None:
    app, shop = web.Application(middlewares=[timing_middleware(ledger, status_class=True)]), web.Application()
    shop.router.add_get("/users/{number}", user)
    app.router.add_get("/users/{number}", user)
    app.router.add_get("/fails", fails)
    app.router.add_static("/static", Path(__file__).parent)
    app.add_subapp("/shop", shop)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    sent = Ledger()
    async with ClientSession(trace_configs=[timing_trace(sent)]) as session:
        for path in SENT:
            async with session.get(f"http://{host}:{port}{path}") as response:
                await response.read()
        await runner.cleanup()
        with suppress(ClientConnectionError):
            await session.get(f"http://{host}:{port}/users/3")
    assert sent.keys == [f"GET {host}:{port}"] * (len(SENT) + 1), sent.keys
