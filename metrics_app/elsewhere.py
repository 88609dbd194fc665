"""Requests that another role answers: they are refused with that role, and its URL where it is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, cast

import faust
from aiohttp import web
from faust.web.drivers.aiohttp import Web

from metrics_app.errors import ElsewhereError


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
