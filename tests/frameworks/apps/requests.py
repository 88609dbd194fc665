"""A session of requests, over a real socket."""

from __future__ import annotations

import requests

from metrics_app.client.outgoing import time_sending
from tests.frameworks.answering import Answering
from tests.frameworks.sending import Ledger

SENT = {
    "/users/3": "GET 127.0.0.1",
    "/missing": "GET 127.0.0.1",
    "/moved": "GET 127.0.0.1",
    "nobody there": "GET 127.0.0.1",
}


def run(ledger: Ledger) -> None:
    with Answering() as server, time_sending(requests.Session(), ledger, key=server.key) as session:
        assert session.get(f"{server.url}/users/3").text == "/users/3"
        assert session.get(f"{server.url}/missing").status_code == 404
        assert session.get(f"{server.url}/moved").text == "/users/3"
        server.close()
        try:
            session.get(f"{server.url}/users/3")
        except requests.ConnectionError:
            return
        raise AssertionError("nobody listens there")
