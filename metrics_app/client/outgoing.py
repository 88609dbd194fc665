"""Times the requests that an app sends with requests or httpx, under their method and host.

Called by `aiohttp` and apps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import urlsplit

from metrics_app.client.routes import request_key
from metrics_app.client.timer import MS, Recorder

Key = Callable[[str, str], str]  # of a method and a URL
Sender = TypeVar("Sender")


def host_key(method: str, url: str) -> str:
    """ "GET api.example.com:8443": the host and its port, never the path, which has numbers and names in it."""
    return request_key(method, urlsplit(url).netloc.rpartition("@")[2])


def safely(key: Key, method: str, url: str) -> str:
    """The key of a request; that without a host where the function fails, as nothing of this may fail the request."""
    try:
        return key(method, url)
    except Exception:
        return request_key(method, None)


def time_sending(sender: Sender, client: Recorder, *, key: Key = host_key) -> Sender:
    """Times each request of a `requests.Session`, an `httpx.Client` or an `httpx.AsyncClient`, failed ones too.

    Until the body of the last reply is there, or its headers where it is streamed. With its redirects a request is one.

    >>> session = time_sending(requests.Session(), client)
    """
    patched: Any = sender
    patched.send = _timed(patched.send, client, key)
    return sender


def _timed(send: Callable[..., Any], client: Recorder, key: Key) -> Callable[..., Any]:
    following = ContextVar("following", default=False)  # requests sends again for each redirect

    @contextmanager
    def timing(request: Any) -> Iterator[None]:
        if following.get():
            yield
            return
        started, token = perf_counter(), following.set(True)
        try:
            yield
        finally:
            following.reset(token)
            client.record(safely(key, request.method, str(request.url)), (perf_counter() - started) * MS)

    if iscoroutinefunction(send):

        @wraps(send)
        async def sent_later(request: Any, **options: Any) -> Any:
            with timing(request):
                return await send(request, **options)

        return sent_later

    @wraps(send)
    def sent(request: Any, **options: Any) -> Any:
        with timing(request):
            return send(request, **options)

    return sent
