from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import include, path, re_path

from metrics_app.client import asgi, wsgi
from tests.frameworks.sending import Ledger, over_asgi, over_wsgi

SENT = {
    "GET /users/3/": "GET /users/<int:number>/ 2xx",
    "GET /api/users/3/": "GET /api/users/<int:number>/ 2xx",
    "GET /years/2026/": "GET /^years/(?P<number>[0-9]{4})/$ 2xx",
    "GET /fails/": "GET /fails/ 5xx",
    "GET /nowhere/4711": "GET * 4xx",
}
TIMES = 2  # under WSGI and under ASGI


def user(request: Any, number: int) -> HttpResponse:
    return HttpResponse(str(number))


def fails(request: Any) -> HttpResponse:
    raise RuntimeError("on purpose")


def prepare() -> None:
    urls: Any = ModuleType("urls_of_the_test")
    inner = [path("users/<int:number>/", user)]
    urls.urlpatterns = [
        *inner,
        path("api/", include(inner)),
        re_path(r"^years/(?P<number>[0-9]{4})/$", user),
        path("fails/", fails),
    ]
    sys.modules[urls.__name__] = urls
    settings.configure(
        ROOT_URLCONF=urls.__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of a test",
        LOGGING_CONFIG=None,
        MIDDLEWARE=["metrics_app.client.django.note_route", "django.middleware.common.CommonMiddleware"],
    )
    django.setup()
    logging.getLogger("django.request").disabled = True


def run(ledger: Ledger) -> None:
    prepare()
    over_wsgi(wsgi.TimingMiddleware(get_wsgi_application(), ledger, status_class=True), *SENT)
    over_asgi(asgi.TimingMiddleware(get_asgi_application(), ledger, status_class=True), *SENT)
