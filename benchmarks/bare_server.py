"""A bare aiohttp server that parses bodies as the collector does, and has one answer to every question.

python -m benchmarks.bare_server PORT
"""

from __future__ import annotations

import sys
import time

from aiohttp import web

from metrics_app.wire import bodies

LIMITS = bodies.BodyLimits(max_items=100_000, max_ahead_s=300, retention_s=31 * 86_400, chunk_values=10_000)


async def take(request: web.Request) -> web.Response:
    """202 with the number of values."""
    parsed = bodies.parse(await request.read(), request.headers.get("Content-Type", ""), time.time(), LIMITS)
    return web.json_response({"accepted": parsed.accepted, "rejected": []}, status=202)


async def answer(request: web.Request) -> web.Response:
    """200 with a document as long as an answer of ours."""
    return web.json_response({"key": request.match_info["key"], "stat": request.match_info["stat"], "rest": "x" * 500})


async def alive(_request: web.Request) -> web.Response:
    """200."""
    return web.Response()


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.post("/samples", take), web.get("/", alive), web.get("/{key}/{stat}/{date}/{hour}", answer)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
