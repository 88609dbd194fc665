"""Loads the library that has OTLP's messages in protobuf, which is optional, with the first request that needs it.

Called by `otlp` and `otlp_protobuf`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from metrics_app.errors import MetricsError


class MissingLibraryError(MetricsError):
    """OTLP in protobuf, without the library for it."""

    status = 501
    title = "OTLP is not installed"

    def __init__(self) -> None:
        super().__init__('this service has no library for protobuf: pip install "metrics-app[otlp]", or send JSON')


class Messages:
    """The classes of the messages."""

    def __init__(self) -> None:
        from google.protobuf.message import DecodeError
        from google.rpc.status_pb2 import Status
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
        from opentelemetry.proto.resource.v1.resource_pb2 import Resource
        from opentelemetry.proto.trace.v1.trace_pb2 import Span

        self.DecodeError = DecodeError
        self.Status: Callable[..., Any] = Status
        self.Span: Any = Span
        self.Resource: Any = Resource
        self.TracesReply: Callable[[], Any] = traces.ExportTraceServiceResponse
        self.MetricsReply: Callable[[], Any] = metrics.ExportMetricsServiceResponse


@cache
def messages() -> Messages:
    """Loads the libraries the first time.

    Raises:
        MissingLibraryError: they are not installed.
    """
    try:
        return Messages()
    except ModuleNotFoundError:
        raise MissingLibraryError from None
