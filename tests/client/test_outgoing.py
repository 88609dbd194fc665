"""What an app sends is timed without the app noticing, whatever is wrong with the timing."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from metrics_app.client.outgoing import host_key, time_sending
from tests.frameworks.answering import Answering
from tests.frameworks.sending import Ledger


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://api.example.com/users/4711?token=x", "GET api.example.com"),
        ("http://user:secret@api.example.com:8443/", "GET api.example.com:8443"),
        ("http://[::1]:80/", "GET [::1]:80"),
        ("/relative", "GET *"),
    ],
)
def test_a_key_has_the_host_and_nothing_that_is_secret_or_endless(url: str, key: str) -> None:
    assert host_key("GET", url) == key


def test_a_key_function_that_fails_does_not_fail_the_request() -> None:
    def fails(method: str, url: str) -> Any:
        raise RuntimeError("on purpose")

    ledger = Ledger()
    with Answering() as server, time_sending(requests.Session(), ledger, key=fails) as session:
        assert session.get(server.url).status_code == 200
    assert ledger.keys == ["GET *"]
