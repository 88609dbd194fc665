"""Times a block or a function: `with client.timer("checkout"):` or `@client.timer("checkout")`.

Called by `asgi`, `client` and `wsgi`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

MS = 1000.0


class Recorder(Protocol):
    """What takes response times; a client."""

    def record(self, key: str, ms: float) -> None:
        """Takes a response time in milliseconds."""


class Timer:
    """Records how long something took, in milliseconds, also when it raises.

    One object may time many calls of a function at once, but only one `with` block at a time.
    """

    __slots__ = ("_key", "_recorder", "_started")

    def __init__(self, recorder: Recorder, key: str) -> None:
        self._recorder = recorder
        self._key = key
        self._started = 0.0

    def __enter__(self) -> Self:
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recorder.record(self._key, (perf_counter() - self._started) * MS)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, timed; a coroutine function until what it awaits is over. Of a generator only its making is."""
        recorder, key = self._recorder, self._key

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                started = perf_counter()
                try:
                    return await function(*args, **kwargs)
                finally:
                    recorder.record(key, (perf_counter() - started) * MS)

            return cast("Callable[P, R]", timed_coroutine)

        @functools.wraps(function)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            started = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                recorder.record(key, (perf_counter() - started) * MS)

        return timed
