from __future__ import annotations

from bottle import Bottle

from metrics_app.client.wsgi import TimingMiddleware
from tests.frameworks.sending import Ledger, over_wsgi

SENT = {
    "GET /users/3": "GET /users/<number:int>",
    "POST /users/3": "POST *",
    "GET /shop/carts/3": "GET /shop/carts/<number>",
    "GET /nowhere/4711": "GET *",
}


def run(ledger: Ledger) -> None:
    app, shop = Bottle(), Bottle()
    app.get("/users/<number:int>")(lambda number: str(number))
    shop.get("/carts/<number>")(lambda number: str(number))
    app.mount("/shop/", shop)
    over_wsgi(TimingMiddleware(app, ledger), *SENT)
