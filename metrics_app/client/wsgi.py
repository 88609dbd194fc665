"""WSGI middleware: how long each request of an app took, errors included.

Called by apps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any

from metrics_app.client.routes import of_wsgi, request_key, with_status
from metrics_app.client.timer import MS, Recorder

Key = Callable[[Mapping[str, Any]], str]


class TimingMiddleware:
    """Times each request of a WSGI app from its call until the last of its response was taken.

    >>> app.wsgi_app = TimingMiddleware(app.wsgi_app, client)  # Flask

    Args:
        app: the WSGI app.
        client: what records.
        key: the key of a request, from its environ when the response begins; by default method and route template, as
            far as the framework notes it there.
        status_class: whether the class of the status is added to the key, as in "GET /users/{id} 2xx".
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        client: Recorder,
        key: Key = of_wsgi,
        *,
        status_class: bool = False,
    ) -> None:
        self._app = app
        self._client = client
        self._key = key
        self._status_class = status_class

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The app's response."""
        started = perf_counter()
        key = ""

        def begin(*arguments: Any) -> Any:
            nonlocal key
            key = self._key_of(environ, arguments[0])  # now: Flask forgets the rule before its app returns
            return start_response(*arguments)

        def record() -> None:
            self._client.record(key or self._key_of(environ, ""), (perf_counter() - started) * MS)

        try:
            response = self._app(environ, begin)
        except BaseException:
            record()
            raise
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type) and isinstance(response, file_wrapper):
            record()  # the server sends the file itself, if it is left as it is
            return response
        return _Timed(response, record)

    def _key_of(self, environ: dict[str, Any], status: str) -> str:
        try:
            key = self._key(environ)
        except Exception:
            key = request_key(environ.get("REQUEST_METHOD", ""), None)
        return with_status(key, int(status[:3]) if status[:3].isdecimal() else 0) if self._status_class else key


class _Timed:
    """A response that says when it is closed, which every server must do."""

    def __init__(self, response: Iterable[bytes], closed: Callable[[], None]) -> None:
        self._response = response
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)

    def close(self) -> None:
        closed, self._closed = self._closed, _nothing
        try:
            if hasattr(self._response, "close"):
                self._response.close()
        finally:
            closed()


def _nothing() -> None:
    pass
