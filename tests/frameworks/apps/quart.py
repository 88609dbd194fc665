from __future__ import annotations

from quart import Blueprint, Quart

from metrics_app.client.quart import time_requests
from tests.frameworks.sending import Ledger, over_asgi

SENT = {
    "GET /users/3": "GET /users/<int:number> 2xx",
    "GET /blue/users/3": "GET /blue/users/<int:number> 2xx",
    "POST /users/3": "POST * 4xx",
    "GET /nowhere/4711": "GET * 4xx",
}


async def user(number: int) -> str:
    return str(number)


def run(ledger: Ledger) -> None:
    app, blue = Quart(__name__), Blueprint("blue", __name__, url_prefix="/blue")
    app.add_url_rule("/users/<int:number>", view_func=user)
    blue.add_url_rule("/users/<int:number>", view_func=user)
    app.register_blueprint(blue)
    time_requests(app, ledger, status_class=True)
    over_asgi(app, *SENT)
