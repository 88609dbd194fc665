"""Answers what the HTTP parser refuses, and what aiohttp raises past the application, like every other error.

Called by `web_server`.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from aiohttp import web
from aiohttp.web import RequestHandler

from metrics_app.http.problems import finished, framework_problem, problem

logger = logging.getLogger(__name__)


class RefusingHandler(RequestHandler):
    """A connection whose every reply is a problem document where it is an error."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The problem document of a request that is none, or of an error past the application; then it closes.

        What was sent is neither repeated nor logged: a malformed header may hold a token.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("the reply has begun: it cannot be replaced by an error")
        if isinstance(exc, UnicodeError):  # such as of an Expect header, which aiohttp repeats in its reply
            status = HTTPStatus.BAD_REQUEST
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.error("failed to answer a request", exc_info=exc)
            reply = problem(status, "Internal error", "this is a bug; the log of the worker has the details")
        else:
            logger.debug("refused a request that is not HTTP/1.1: %s", type(exc).__name__)
            reply = problem(status, "Malformed request", "expected a request in HTTP/1.1 with headers in ASCII")
        reply.force_close()
        return finished(reply)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the reply; one that aiohttp has raised past the application, as of Expect, as a problem document."""
        if isinstance(resp, web.HTTPException):
            resp = finished(framework_problem(request, resp))
        return await super().finish_response(request, resp, start_time)
