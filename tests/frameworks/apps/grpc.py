"""Calls of each kind to an asyncio server of gRPC, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import grpc

from metrics_app.client.grpc import timing_interceptor
from tests.frameworks.sending import Ledger

SENT = {name: f"/shop.Cart/{name}" for name in ("Add", "Sync", "Fail", "List", "SyncList", "Written", "Sum", "Talk")}


async def add(request: bytes, context: Any) -> bytes:
    return request


def sync(request: bytes, context: Any) -> bytes:
    return request


async def fail(request: bytes, context: Any) -> bytes:
    await context.abort(grpc.StatusCode.NOT_FOUND, "on purpose")
    return b""


async def listed(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield request
    yield request


def sync_listed(request: bytes, context: Any) -> Iterator[bytes]:
    yield request
    yield request


async def written(request: bytes, context: Any) -> None:
    await context.write(request)
    await context.write(request)


async def total(requests: AsyncIterator[bytes], context: Any) -> bytes:
    return b"".join([request async for request in requests])


async def talk(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


HANDLERS = {
    "Add": grpc.unary_unary_rpc_method_handler(add),
    "Sync": grpc.unary_unary_rpc_method_handler(sync),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "List": grpc.unary_stream_rpc_method_handler(listed),
    "SyncList": grpc.unary_stream_rpc_method_handler(sync_listed),
    "Written": grpc.unary_stream_rpc_method_handler(written),
    "Sum": grpc.stream_unary_rpc_method_handler(total),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
}


def run(ledger: Ledger) -> None:
    asyncio.run(_run(ledger))


async def _run(ledger: Ledger) -> None:
    server = grpc.aio.server(interceptors=[timing_interceptor(ledger)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary("/shop.Cart/Add")(b"x") == b"x"
        assert await channel.unary_unary("/shop.Cart/Sync")(b"x") == b"x"
        for absent in ("/shop.Cart/Fail", "/shop.Cart/Absent"):
            with suppress(grpc.aio.AioRpcError):
                await channel.unary_unary(absent)(b"x")
        for name in ("List", "SyncList", "Written"):
            assert [one async for one in channel.unary_stream(f"/shop.Cart/{name}")(b"x")] == [b"x", b"x"]
        assert await channel.stream_unary("/shop.Cart/Sum")(iter([b"a", b"b"])) == b"ab"
        assert [one async for one in channel.stream_stream("/shop.Cart/Talk")(iter([b"a", b"b"]))] == [b"a", b"b"]
    await server.stop(None)
