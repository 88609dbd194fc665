"""Both clients of httpx, over a real socket."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx

from metrics_app.client.outgoing import time_sending
from tests.frameworks.answering import Answering
from tests.frameworks.sending import Ledger

SENT = {
    "sync": "GET 127.0.0.1",
    "redirected": "GET 127.0.0.1",
    "async": "GET 127.0.0.1",
    "nobody there": "GET 127.0.0.1",
    "nobody there, async": "GET 127.0.0.1",
}


def run(ledger: Ledger) -> None:
    with Answering() as server, time_sending(httpx.Client(), ledger, key=server.key) as client:
        assert client.get(f"{server.url}/users/3").text == "/users/3"
        assert client.get(f"{server.url}/moved", follow_redirects=True).text == "/users/3"
        assert asyncio.run(_asked(server, ledger)) == "/users/3"
        server.close()
        with suppress(httpx.ConnectError):
            client.get(f"{server.url}/users/3")
        try:
            asyncio.run(_asked(server, ledger))
        except httpx.ConnectError:
            return
        raise AssertionError("nobody listens there")


async def _asked(server: Answering, ledger: Ledger) -> str:
    async with time_sending(httpx.AsyncClient(), ledger, key=server.key) as client:
        return str((await client.get(f"{server.url}/users/3")).text)
