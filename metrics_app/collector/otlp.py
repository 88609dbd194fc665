"""`POST /v1/traces`: takes the durations of spans, as OpenTelemetry's exporters and Collectors send them.

Called by `app`.

    exporter --OTLP/HTTP, protobuf or JSON--> spans that are taken --the way of all samples--> Kafka --> 200

Points of `POST /v1/metrics` are refused, one by one: a histogram of OpenTelemetry has no sum of squares and often no
extremes, so an answer made of it could not say how good it is.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NoReturn, cast

import faust
from aiohttp import web
from faust.web.drivers.aiohttp import Web

from metrics_app.collector import body
from metrics_app.collector.views import SampleIntake
from metrics_app.errors import MetricsError
from metrics_app.settings import Settings
from metrics_app.sources import otlp, spans
from metrics_app.sources.key_template import KeyTemplate
from metrics_app.sources.otlp_messages import MissingLibraryError
from metrics_app.wire import bodies

TRACES, METRICS = "/v1/traces", "/v1/metrics"
PATHS = (TRACES, METRICS)
NO_METRICS = (
    "metric points are not taken, for their statistics could not be exact: send spans to /v1/traces, whose durations "
    "are counted exactly"
)


class UnusableUnitError(MetricsError):
    """Spans for a service whose values are no durations."""

    status = HTTPStatus.NOT_IMPLEMENTED
    title = "Spans are durations"

    def __init__(self, unit: str) -> None:
        super().__init__(f"METRICS_UNIT is {unit!r}; spans are taken where it is one of {', '.join(spans.UNITS)}")


def register(app: faust.App, settings: Settings, intake: SampleIntake) -> None:
    """Lets the app answer OTLP requests."""
    view = OtlpView(settings, intake)
    router = cast(Web, app.web).web_app.router
    router.add_post(TRACES, view.traces, expect_handler=body.expect)
    router.add_post(METRICS, view.metrics, expect_handler=body.expect)
    for path in PATHS:
        router.add_get(path, _refuse_method)


async def _refuse_method(request: web.Request) -> NoReturn:
    """Else it would be a question about a key "v1"."""
    raise web.HTTPMethodNotAllowed(request.method, ["POST"])


class OtlpView:
    """The requests of one collector."""

    def __init__(self, settings: Settings, intake: SampleIntake) -> None:
        self._intake = intake
        self._unit = settings.unit
        self._rules = spans.SpanRules(
            frozenset(settings.otlp_span_kinds.split(",")),
            KeyTemplate.of(settings.otlp_key),
            spans.UNITS.get(settings.unit, 0),
        )

    async def traces(self, request: web.Request) -> web.Response:
        """The reply to an export of spans: 200 when those that are taken are in Kafka.

        Raises:
            UnsupportedTypeError: neither protobuf nor JSON.
            MissingLibraryError: protobuf, without the library for it.
        """
        return await self._answer(request, self._read_spans, otlp.rejected_spans)

    async def metrics(self, request: web.Request) -> web.Response:
        """The reply to an export of metrics: 200, with every point rejected.

        Raises:
            UnsupportedTypeError, MissingLibraryError: as for spans.
        """
        return await self._answer(request, _refuse_points, otlp.rejected_points)

    async def _answer(self, request: web.Request, read: body.Reading, reply: otlp.Reply) -> web.Response:
        form = otlp.form_of(request.headers.get("Content-Type", ""))
        try:
            parsed = await self._intake.taken(request, read)
        except MissingLibraryError:
            raise
        except MetricsError as error:
            refusal = otlp.refused(form, error.status, str(error))
            return web.Response(body=refusal, status=error.status, headers=error.headers(), content_type=form)
        why = parsed.rejected[0].detail if parsed.rejected else ""
        return web.Response(body=reply(form, parsed.reasons.total(), why), content_type=form)

    def _read_spans(self, sent: bytes, content_type: str, parts: bodies.BodyParts) -> bodies.Steps:
        if not self._rules.unit_ns:
            raise UnusableUnitError(self._unit)
        names = self._rules.template.names
        return spans.read(otlp.spans(sent, otlp.form_of(content_type), names), self._rules, parts)


def _refuse_points(sent: bytes, content_type: str, parts: bodies.BodyParts) -> bodies.Steps:
    points = 0
    for found in spans.bounded(otlp.points(sent, otlp.form_of(content_type)), parts):
        points += found
        yield
    if points:
        parts.reject(0, "otlp-metrics", NO_METRICS, points)
