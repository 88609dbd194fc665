from __future__ import annotations

from flask import Blueprint, Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from metrics_app.client.wsgi import TimingMiddleware
from tests.frameworks.sending import Ledger, over_wsgi

SENT = {
    "GET /users/3": "GET /users/<int:number> 2xx",
    "POST /users/3": "POST * 4xx",
    "GET /blue/users/3": "GET /blue/users/<int:number> 2xx",
    "GET /shop/users/3": "GET /shop/users/<int:number> 2xx",
    "GET /admin/users/3": "GET /admin/users/<int:number> 2xx",
    "GET /admin/fails": "GET /admin/fails 5xx",
    "GET /shop/nowhere": "GET * 4xx",
    "GET /nowhere/4711": "GET * 4xx",
}


def user(number: int) -> str:
    return str(number)


def fails() -> str:
    raise RuntimeError("on purpose")


def an_app() -> Flask:
    app, blue = Flask(__name__), Blueprint("blue", __name__, url_prefix="/blue")
    app.logger.disabled = True
    app.add_url_rule("/users/<int:number>", view_func=user)
    app.add_url_rule("/fails", view_func=fails)
    blue.add_url_rule("/users/<int:number>", view_func=user)
    app.register_blueprint(blue)
    return app


def run(ledger: Ledger) -> None:
    app = DispatcherMiddleware(an_app(), {"/shop": an_app(), "/admin": an_app()})
    over_wsgi(TimingMiddleware(app, ledger, status_class=True), *SENT)
