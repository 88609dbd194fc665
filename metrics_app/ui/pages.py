"""The page for people: HTML, scripts and styles, which ask the same questions as curl does.

Called by `app`.

    GET /           keys of an hour or day          GET /ui/key      one key: hours, distribution, comparison
    GET /ui/system  all workers of the group       GET /ui/static/  scripts and styles, all of them from here

Nothing in these files is data: who may read a number is decided where it is asked for. So with tokens the page is open
to all, and asks for a token, which it keeps for as long as its tab is open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, cast

import faust
from aiohttp import web
from faust.web.drivers.aiohttp import Web

from metrics_app.errors import MetricsError
from metrics_app.http.access import PAGE_KEY, PAGE_KEYS, PAGE_SYSTEM

STATIC = Path(__file__).parent / "static"
PAGES = {PAGE_KEYS: "keys.html", PAGE_KEY: "key.html", PAGE_SYSTEM: "system.html"}
TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
# scripts and styles only from here, no frames, no forms that lead elsewhere; a plot is saved from a data: or blob: URL
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class NoSuchFileError(MetricsError):
    """A file of the page that there is not."""

    status = 404
    title = "No such file"


class StaticFile(NamedTuple):
    """A file as it is served."""

    body: bytes
    content_type: str
    tag: str


def register(app: faust.App) -> None:
    """Lets the app serve the page."""
    router = cast(Web, app.web).web_app.router
    for path, name in PAGES.items():
        router.add_get(path, _serving(name))
    router.add_get("/ui/static/{name}", _static)


def _serving(name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def serve(request: web.Request) -> web.Response:
        return _reply(request, name)

    return serve


async def _static(request: web.Request) -> web.Response:
    return _reply(request, request.match_info["name"])


def _reply(request: web.Request, name: str) -> web.Response:
    """A file, or 304 for one that the browser has.

    Raises:
        NoSuchFileError: there is none of that name.
    """
    if name not in _names():
        raise NoSuchFileError("the page has no such file")
    file = _file(name)
    headers = {"ETag": file.tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if file.tag.strip('"') in {each.value for each in request.if_none_match or ()}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=file.body, headers=headers, content_type=file.content_type, charset="utf-8")


@cache
def _names() -> frozenset[str]:
    return frozenset(path.name for path in STATIC.iterdir())


@cache
def _file(name: str) -> StaticFile:
    body = (STATIC / name).read_bytes()
    return StaticFile(body, TYPES[Path(name).suffix], f'"{blake2b(body, digest_size=12).hexdigest()}"')
