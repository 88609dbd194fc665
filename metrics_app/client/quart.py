"""Quart: times each request of an app under the rule of its route.

Called by apps.
"""

from __future__ import annotations

from typing import Any

from metrics_app.client.asgi import TimingMiddleware
from metrics_app.client.routes import NOTED
from metrics_app.client.timer import Recorder


def time_requests(app: Any, client: Recorder, *, status_class: bool = False) -> None:
    """Times the requests of a Quart app: `time_requests(app, client)`."""
    from quart import request

    def note() -> None:
        if request.url_rule is not None:
            request.scope[NOTED] = request.url_rule.rule

    app.before_request_funcs.setdefault(None, []).insert(0, note)  # also of a request that the app's own ones answer
    app.asgi_app = TimingMiddleware(app.asgi_app, client, status_class=status_class)
