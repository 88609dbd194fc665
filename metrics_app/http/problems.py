"""What all HTTP views share: JSON replies, problem documents (RFC 9457), health, and limits for slow clients.

Called by `health`, `aggregator.role`, `app`, `collector`, `faust_runtime.refusals` and `query`.

Requests that another role answers: they are refused with that role, and its URL where it is known.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NoReturn, Protocol, cast

import faust
import msgspec
from aiohttp import web
from faust.web.drivers.aiohttp import Web

from metrics_app.errors import ElsewhereError, MetricsError
from metrics_app.telemetry import Telemetry

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PROBLEM = "application/problem+json"


IDLE_S = 15.0  # a connection on which no whole request header comes for so long is closed, from its first moment on

# aiohttp's own defaults inflate a body before it can be counted, and keep an idle connection for an hour
HANDLER_ARGS = {"auto_decompress": False, "keepalive_timeout": IDLE_S, "lingering_time": 2.0}


# on every answer; a browser must take none of them for a page or a script of ours, nor keep it
HEADERS = {
    "Server": "metrics-app",  # the versions of what we run on are nobody's business
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def finished(reply: web.StreamResponse) -> web.StreamResponse:
    """The reply with the headers that every answer has; what it says itself of caching and content stays."""
    headers = reply.headers
    if "Content-Security-Policy" in headers:
        headers.update({name: value for name, value in HEADERS.items() if name not in headers})
    else:
        headers.extend(HEADERS)  # a quarter of the time of `update`
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "no-store"
    return reply


def json_reply(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON response ending in a newline, as a terminal likes it."""
    body = msgspec.json.encode(document) + b"\n"
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def problem(status: int, title: str, detail: str, headers: dict[str, str] | None = None, **extras: Any) -> web.Response:
    """A problem document: what went wrong, in which part, and what was expected."""
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, **extras}
    body = msgspec.json.encode(document) + b"\n"
    # a 404 may be cached without being asked to: the first sample of a key would stay unseen
    kept = {"Cache-Control": "no-store", **(headers or {})}
    return web.Response(body=body, status=status, headers=kept, content_type=PROBLEM)


def problem_of(error: MetricsError) -> web.Response:
    """The problem document of one of our errors."""
    return problem(error.status, error.title, str(error), error.headers(), **error.extras())


class Gate(Protocol):
    """What looks at every request before its handler, and at every reply; see `access`."""

    def enter(self, request: web.Request) -> web.Response | None:
        """Raises a MetricsError for a request that is not taken; the reply where none of a handler is needed."""

    def leave(self, request: web.Request, reply: web.StreamResponse) -> None:
        """Adds headers to a reply."""


def problem_middleware(telemetry: Telemetry, gate: Gate | None = None) -> Any:
    """Middleware that turns every error, ours or the framework's, into a problem document and counts the reply."""

    count = counting(telemetry)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        reply = await _answer(request, handler, gate)
        resource = request.match_info.route.resource
        count(resource.canonical if resource is not None else "none", reply.status)
        if gate is not None:
            gate.leave(request, reply)
        return finished(reply)

    return middleware


def counting(telemetry: Telemetry) -> Callable[[str, int], None]:
    """Counts a reply of a route by its status."""
    counters: dict[tuple[str, int], Any] = {}  # looking a counter up by its labels takes longer than counting

    def count(route: str, status: int) -> None:
        counter = counters.get((route, status))
        if counter is None:
            counter = counters[route, status] = telemetry.requests.labels(route, str(status))
        counter.inc()

    return count


def answering(telemetry: Telemetry, route: str, handler: Handler) -> Handler:
    """The handler with what the middleware does, for requests that do not pass through aiohttp (`SmallRequest`)."""
    count = counting(telemetry)

    async def answer(request: web.Request) -> web.StreamResponse:
        reply = await _answer(request, handler, None)
        count(route, reply.status)
        return finished(reply)

    return answer


async def _answer(request: web.Request, handler: Handler, gate: Gate | None) -> web.StreamResponse:
    try:
        if gate is not None and (reply := gate.enter(request)) is not None:
            return reply
        return await handler(request)
    except MetricsError as error:
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.exception("failed to answer %s", request.method)
        return problem_of(error)
    except web.HTTPException as error:
        return framework_problem(request, error)
    except Exception:
        # the outermost handler of the role: the client gets a plain 500, the log gets the traceback
        logger.exception("failed to answer %s", request.method)
        return problem(500, "Internal error", "this is a bug; the log of the worker has the details")


def framework_problem(request: web.BaseRequest, error: web.HTTPException) -> web.Response:
    """The problem document of an error that aiohttp raises."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    details = {
        404: "no such resource; try /<key>/<stat>/<YYYY-MM-DD>/<hour> or POST /samples",
        405: f"{request.method} is not allowed here",
    }
    return problem(error.status, error.reason, details.get(error.status, error.text or error.reason), headers)


Check = Callable[[], str | None]


@dataclass
class Health:
    """Named checks of one process. A check returns None when fine, else the reason why not.

    Attributes:
        checks: of readiness: whether requests should be sent here.
        warnings: of what somebody should look at, while requests are still welcome here.
        vital: of life: while one fails, only a new start helps.
        stopping: whether it is about to stop, and still works.
        ending: why it is about to be gone, in a sentence; None while it is not.
    """

    checks: dict[str, Check] = field(default_factory=dict)
    warnings: dict[str, Check] = field(default_factory=dict)
    vital: dict[str, Check] = field(default_factory=dict)
    stopping: bool = False
    ending: str | None = None

    def states(self) -> dict[str, str | None]:
        """Every check with the reason it is not ready, None where it is fine."""
        if self.stopping or self.ending is not None:
            return {"process": "stopping"}
        return {name: _outcome(check) for name, check in self.checks.items()}

    def fatal(self) -> str | None:
        """Why this process is to be replaced; None while it is alive."""
        if self.ending is not None:
            return f"ending: {self.ending}"
        failed = {name: _outcome(check) for name, check in self.vital.items()}
        return "; ".join(f"{name}: {reason}" for name, reason in failed.items() if reason is not None) or None

    def problems(self) -> dict[str, str]:
        """Reason per failing check; empty when ready."""
        return {name: reason for name, reason in self.states().items() if reason is not None}

    def warned(self) -> dict[str, str]:
        """What each warning says, of those that say anything."""
        said = {name: _outcome(check) for name, check in self.warnings.items()}
        return {name: warning for name, warning in said.items() if warning is not None}


def _outcome(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # of a part that has been stopped, say: that is no reason to fail as a whole
        return f"cannot be told: {error!r}"


def register(app: faust.App, method: str, paths: Iterable[str], role: str, url: str) -> None:
    """Have the app refuse these requests.

    Args:
        role: the one that answers them.
        url: where one of that role is; empty when that is not known.
    """

    async def refuse(request: web.Request) -> NoReturn:
        raise ElsewhereError(role, f"{url.rstrip('/')}{request.rel_url.raw_path_qs}" if url else "")

    async def unread(request: web.Request) -> None:
        """Asks for no body (`Expect: 100-continue`)."""

    router = cast(Web, app.web).web_app.router
    for path in paths:
        router.add_route(method, path, refuse, expect_handler=unread)
