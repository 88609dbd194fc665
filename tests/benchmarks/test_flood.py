"""The client that counts replies, against a real server."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestServer

from benchmarks.flood import flood, post


async def serving(statuses):
    """A server that answers with these statuses in turn, and the bodies it got."""
    got = []

    async def take(request):
        got.append(await request.read())
        return web.json_response({"answer": "x" * 5_000}, status=statuses[(len(got) - 1) % len(statuses)])

    app = web.Application()
    app.add_routes([web.post("/samples", take)])
    server = TestServer(app)
    await server.start_server()
    return server, got


async def test_every_request_is_sent_once_and_its_reply_counted():
    server, got = await serving([202])
    url = str(server.make_url("")).rstrip("/")
    bodies = [b"%d" % number for number in range(50)]
    waiting = iter(bodies)

    def feed(_connection):
        body = next(waiting, None)
        return None if body is None else post(url, body)

    done = await flood(url, feed, connections=4)
    await server.close()
    assert (done.accepted, done.failed) == (50, 0)
    assert sorted(got) == sorted(bodies)


async def test_a_refused_request_is_not_counted_as_accepted():
    server, got = await serving([202, 503])
    url = str(server.make_url("")).rstrip("/")
    left = iter(range(10))
    done = await flood(url, lambda _connection: None if next(left, None) is None else post(url, b"{}"), connections=1)
    await server.close()
    assert (done.accepted, done.failed, len(got)) == (5, 5, 10)


async def test_a_connection_that_is_closed_leaves_a_failure():
    async def cut(request):
        request.transport.close()
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/samples", cut)])
    server = TestServer(app)
    await server.start_server()
    url = str(server.make_url("")).rstrip("/")
    done = await flood(url, lambda _connection: post(url, b"{}"), connections=2)
    await server.close()
    assert (done.accepted, done.failed) == (0, 2)
