"""aiohttp: times the requests that a server answers under their route, and those that a session sends.

Called by apps.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from metrics_app.client.outgoing import Key, host_key, safely
from metrics_app.client.routes import BELOW, request_key, with_status
from metrics_app.client.timer import MS, Recorder


def timing_middleware(client: Recorder, *, status_class: bool = False) -> Any:
    """A middleware for a server: `web.Application(middlewares=[timing_middleware(client)])`.

    A request is timed until its handler has returned, so without the sending of a body that the handler did not write.
    """
    from aiohttp import web

    @web.middleware
    async def timed(request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]) -> Any:
        started, status = perf_counter(), 500
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as answer:
            status = answer.status
            raise
        finally:
            key = request_key(request.method, _template(request))
            client.record(with_status(key, status) if status_class else key, (perf_counter() - started) * MS)

    return timed


def _template(request: Any) -> str | None:
    """The path of the resource, with the prefixes of the apps it is in."""
    resource = request.match_info.route.resource
    if resource is None:
        return None
    serves_files = "directory" in resource.get_info()
    return f"{resource.canonical}{BELOW}" if serves_files else str(resource.canonical)


def timing_trace(client: Recorder, *, key: Key = host_key) -> Any:
    """Times what a session sends: `ClientSession(trace_configs=[timing_trace(client)])`.

    Until the headers of the last reply are there, redirects and failures included.
    """
    from aiohttp import TraceConfig

    async def started(session: object, context: Any, params: Any) -> None:
        context.started = perf_counter()

    async def ended(session: object, context: Any, params: Any) -> None:
        client.record(safely(key, params.method, str(params.url)), (perf_counter() - context.started) * MS)

    trace = TraceConfig()
    trace.on_request_start.append(started)
    trace.on_request_end.append(ended)
    trace.on_request_exception.append(ended)
    return trace
