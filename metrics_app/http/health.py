"""Views about the process: /livez, /readyz, /metrics, /openapi.json. They are the same in every role.

Called by `app`.
"""

from __future__ import annotations

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar

import faust
from aiohttp import web
from faust.web import View
from prometheus_client import CONTENT_TYPE_LATEST

from metrics_app.http.access import caller_of
from metrics_app.http.problems import Health, json_reply, problem
from metrics_app.http.tokens import NOBODY
from metrics_app.telemetry import Telemetry

OPENAPI = Path(__file__).with_name("openapi.json")

_NOW = {"Cache-Control": "no-store"}


def register_health(app: faust.App, telemetry: Telemetry, health: Health) -> None:
    """Add the four views to the app; they answer before Kafka or a table is there."""
    members = {"telemetry": telemetry, "health": health, "description": OPENAPI.read_bytes()}
    for path, view in PATHS.items():
        app.page(path)(type(f"Bound{view.__name__}", (view,), members))


class AboutView(View):
    """What the views below know of the process."""

    telemetry: ClassVar[Telemetry]
    health: ClassVar[Health]
    description: ClassVar[bytes]


class LiveView(AboutView):
    """Whether this process is worth keeping: its event loop turns, or nothing would answer, and nothing is fatal."""

    async def get(self, request: Any) -> Any:
        """200, also while not ready, when a restart would not help; 503 with the reason when only a restart does."""
        if (reason := self.health.fatal()) is not None:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "To be restarted", reason, _NOW)
        return json_reply({"status": "alive", "pid": os.getpid()}, headers=_NOW)


class ReadyView(AboutView):
    """Whether a load balancer should send requests here."""

    async def get(self, request: Any) -> Any:
        """200, or 503 with the reasons, and warnings with either; `?verbose` lists every check."""
        states = self.health.states()
        if caller_of(request) is NOBODY:  # a load balancer
            return _status_alone(all(reason is None for reason in states.values()))
        reasons = {name: reason for name, reason in states.items() if reason is not None}
        checks = (
            {name: "ok" if reason is None else reason for name, reason in states.items()}
            if "verbose" in request.query
            else reasons
        )
        more = {"warnings": warned} if (warned := self.health.warned()) else {}
        if reasons:
            detail = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "Not ready", detail, {**_NOW, "Retry-After": "1"}, checks=checks, **more
            )
        ready = {"status": "ready", "pid": os.getpid()} | ({"checks": checks} if checks else {}) | more
        return json_reply(ready, headers=_NOW)


def _status_alone(ready: bool) -> web.Response:
    """Whether it is ready; why not, only whoever has a token is told."""
    if ready:
        return json_reply({"status": "ready", "pid": os.getpid()}, headers=_NOW)
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "Not ready", "a token shows why", {**_NOW, "Retry-After": "1"})


class MetricsView(AboutView):
    """The counters of this process."""

    async def get(self, request: Any) -> Any:
        """Prometheus text."""
        return web.Response(body=self.telemetry.exposition(), headers={**_NOW, "Content-Type": CONTENT_TYPE_LATEST})


class DescriptionView(AboutView):
    """The OpenAPI 3.1 description of the public endpoints."""

    async def get(self, request: Any) -> Any:
        """JSON, the same whatever roles this process has."""
        return web.Response(body=self.description, content_type="application/json")


PATHS: dict[str, type[AboutView]] = {
    "/livez": LiveView,
    "/readyz": ReadyView,
    "/metrics": MetricsView,
    "/openapi.json": DescriptionView,
}
