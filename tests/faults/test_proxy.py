"""The proxy does what it says, or the tests that use it would prove nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from metrics_app.kafka.ports import HOST
from tests.faults.proxy import BLACK_HOLE, FAIR, Proxy, Weather


@pytest.fixture
async def echo() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that sends back what it gets: its port, and what it got."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1000):
                got.append(part)
                writer.write(part)
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1], got
    await asyncio.sleep(0.05)  # both ends see that the other is gone


async def answer(proxy: Proxy, sent: bytes = b"hello", within_s: float = 0.3) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    try:
        writer.write(sent)
        async with asyncio.timeout(within_s):
            return await reader.readexactly(len(sent))
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_fair_weather_passes_bytes_both_ways(echo):
    async with Proxy(echo[0], seed=1) as proxy:
        assert await answer(proxy) == b"hello"
        assert dict(proxy.did) == {"connected": 1, "sliced": 0}


async def test_latency_delays_both_ways(echo):
    async with Proxy(echo[0], seed=1, weather=Weather(latency_s=0.05)) as proxy:
        started = time.monotonic()
        assert await answer(proxy) == b"hello"
        assert time.monotonic() - started >= 0.1
        assert proxy.did["delayed"] == 2


async def test_slices_arrive_whole(echo):
    async with Proxy(echo[0], seed=1, weather=Weather(slice_bytes=1)) as proxy:
        assert await answer(proxy) == b"hello"
        assert proxy.did["sliced"] >= 5


async def test_a_lost_part_is_repeated_after_200_ms_and_what_is_behind_it_waits(echo):
    async with Proxy(echo[0], seed=1, weather=Weather(loss=0.5)) as proxy:
        started = time.monotonic()
        for _ in range(4):
            assert await answer(proxy, within_s=60) == b"hello"
        assert proxy.did["repeated"] > 0
        assert time.monotonic() - started >= 0.2 * proxy.did["repeated"]


async def test_a_thin_link_passes_so_many_bytes_a_second(echo):
    async with Proxy(echo[0], seed=1, weather=Weather(bytes_per_s=50_000)) as proxy:
        started = time.monotonic()
        sent = bytes(10_000)
        assert await answer(proxy, sent, within_s=5) == sent
        assert time.monotonic() - started >= 0.2


async def test_what_was_sent_on_a_cut_link_arrives_when_it_is_whole_again(echo):
    async with Proxy(echo[0], seed=1, weather=Weather(is_cut=True)) as proxy:
        asked = asyncio.create_task(answer(proxy, within_s=5))
        await asyncio.sleep(0.1)
        assert not echo[1]
        proxy.weather = FAIR
        assert await asked == b"hello"
        assert proxy.did["held"] == 1


async def test_a_connection_that_has_lost_bytes_stays_half_open_and_the_server_is_not_told_of_its_end(echo):
    async with Proxy(echo[0], seed=1, weather=BLACK_HOLE) as proxy:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writer.write(b"hello")
        await asyncio.sleep(0.05)
        proxy.weather = FAIR
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        assert await answer(proxy) == b"hello", "another connection"
        writer.close()
        await asyncio.sleep(0.05)
        assert len(proxy.connections) == 1
        assert echo[1] == [b"hello"]


@pytest.mark.parametrize(("weather", "arrived"), [(BLACK_HOLE, False), (Weather(mute=True), True)])
async def test_what_is_swallowed_gets_no_answer_on_an_open_connection(echo, weather, arrived):
    async with Proxy(echo[0], seed=1, weather=weather) as proxy:
        with pytest.raises(TimeoutError):
            await answer(proxy)
        assert bool(echo[1]) is arrived
        assert proxy.did["swallowed"] == 1


@pytest.mark.parametrize(("weather", "arrived"), [(Weather(reset_share=1.0), False), (Weather(lost_replies=1.0), True)])
async def test_a_reset_before_the_server_and_a_lost_reply_after_it(echo, weather, arrived):
    async with Proxy(echo[0], seed=1, weather=weather) as proxy:
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await answer(proxy)
        assert bool(echo[1]) is arrived
        assert proxy.did["lost"] + proxy.did["reset"] == 1


async def test_a_server_that_is_down_is_a_reset(echo):
    async with Proxy(1, seed=1) as proxy:
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await answer(proxy)
        assert proxy.did["refused"] == 1
