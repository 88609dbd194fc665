"""gRPC: times each call of an asyncio server under the name of its method.

Called by apps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import Any

from metrics_app.client.timer import Recorder, Timer

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def timing_interceptor(client: Recorder) -> Any:
    """An interceptor: `grpc.aio.server(interceptors=[timing_interceptor(client)])`.

    A call is timed until its handler has returned or sent its last message, failed ones too. The key is the name of
    the method, "/shop.Cart/Add"; calls of a method that the server does not have are not timed.
    """
    import grpc

    class TimedCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio ships no types
        async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
            handler = await continuation(details)
            return handler if handler is None else _timed(handler, client, details.method)

    return TimedCalls()


def _timed(handler: Any, client: Recorder, key: str) -> Any:
    kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
    return handler._replace(**{kind: _timed_function(getattr(handler, kind), client, key)})


def _timed_function(function: Callable[..., Any], client: Recorder, key: str) -> Callable[..., Any]:
    """Of the same sort as the function, by which gRPC tells how to call it."""
    if isasyncgenfunction(function):

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            with Timer(client, key):
                async for message in function(request, context):
                    yield message

        return stream
    if isgeneratorfunction(function):

        def stream_of_a_thread(request: Any, context: Any) -> Iterator[Any]:
            with Timer(client, key):
                yield from function(request, context)

        return stream_of_a_thread
    return Timer(client, key)(function)
