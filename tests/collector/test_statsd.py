"""A statsd socket, real but for what its values go into; and one worker, with the clients that apps use."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from datadog.dogstatsd.base import DogStatsd
from statsd import StatsClient

from metrics_app.collector import statsd
from metrics_app.collector.publisher import not_kept
from metrics_app.collector.senders import Senders
from metrics_app.collector.statsd import StatsdListener, bound
from metrics_app.errors import SettingsError
from metrics_app.settings import Settings
from metrics_app.telemetry import Telemetry
from tests.conftest import MakeSettings
from tests.metrics import value_of

from .fakes import FakeSink, total, until

Start = Callable[..., "Listening"]


class Listening:
    """A listener and its counters."""

    def __init__(self, settings: Settings, telemetry: Telemetry, sink: FakeSink) -> None:
        senders = Senders(settings.max_rows_an_hour, settings.max_rows_of_a_client)
        self.settings = settings
        self.listener = StatsdListener(settings, telemetry, sink, partial(senders.admission, "statsd"))
        self.telemetry, self.sink = telemetry, sink

    def send(self, *packets: bytes) -> None:
        parts = urlsplit(self.listener.address)
        family = socket.AF_UNIX if parts.scheme == "unix" else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            for packet in packets:
                sender.sendto(packet, parts.path if parts.scheme == "unix" else (parts.hostname, parts.port))

    def kept(self) -> dict[bytes, list[float]]:
        found: dict[bytes, list[float]] = {}
        for chunk in self.sink.chunks:
            found.setdefault(chunk.key, []).extend(struct.unpack(f"<{chunk.count}d", chunk.values))
        return found

    def counted(self) -> dict[str, float]:
        return {name: total(getattr(self.telemetry, name)) for name in ("received", "accepted", "rejected", "refused")}


@pytest.fixture(params=["udp", "unix"])
async def listening(
    request: pytest.FixtureRequest, make_settings: MakeSettings, tmp_path: Path
) -> AsyncIterator[Listening]:
    address = "udp://127.0.0.1:0" if request.param == "udp" else f"unix://{tmp_path}/statsd"
    telemetry, sink = Telemetry(), FakeSink()
    listening = Listening(make_settings(statsd=address), telemetry, sink)
    await listening.listener.start()
    yield listening
    await listening.listener.stop()


async def test_values_reach_the_publisher_and_the_counters_close(listening: Listening) -> None:
    listening.send(b"checkout:12.5|ms\ncheckout:13:14|d", b"junk", b"pay:1|h|@0.5", b"hits:1|c")
    await until(lambda: listening.counted()["accepted"] == 3)
    assert listening.kept() == {b"checkout": [12.5, 13.0, 14.0]}
    assert listening.counted() == {"received": 5, "accepted": 3, "rejected": 2, "refused": 0}
    assert value_of(listening.telemetry.statsd_packets) == 4


async def test_what_kafka_does_not_take_is_counted_and_said_and_the_next_is_taken(
    listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    listening.sink.failure = not_kept("Kafka is away", "kafka")
    listening.send(b"a:1:2|ms")
    await until(lambda: listening.counted()["refused"] == 2)
    assert "2 values are lost" in caplog.text
    listening.sink.failure = None
    listening.send(b"a:3|ms")
    await until(lambda: listening.kept() == {b"a": [3.0]})


async def test_what_waits_is_bounded(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statsd, "MOST_VALUES", 2)
    listening.sink.hangs = True
    listening.send(b"a:1|ms")
    await listening.sink.entered.wait()
    listening.send(b"a:2:3|ms\na:4|ms")
    await until(lambda: listening.counted()["refused"] == 1)
    listening.sink.hangs = False


async def test_many_values_of_a_key_are_divided_so_that_each_piece_fits_into_a_record(
    make_settings: MakeSettings,
) -> None:
    listening = Listening(make_settings(statsd="udp://127.0.0.1:0"), Telemetry(), FakeSink())
    await listening.listener.start()
    most = listening.settings.max_record_bytes // 8
    listening.send(*[b"a" + b":1" * 20_000 + b"|ms"] * 5, b"b:2|ms")
    await until(lambda: listening.counted()["accepted"] == 100_001)
    assert {key: len(values) for key, values in listening.kept().items()} == {b"a": 100_000, b"b": 1}
    assert max(chunk.count for chunk in listening.sink.chunks) <= most
    await listening.listener.stop()


async def test_keys_that_would_begin_too_many_rows_are_rejected(make_settings: MakeSettings) -> None:
    telemetry, sink = Telemetry(), FakeSink()
    settings = make_settings(statsd="udp://127.0.0.1:0", max_rows_of_a_client=2)
    listening = Listening(settings, telemetry, sink)
    await listening.listener.start()
    listening.send(b"a:1|ms\nb:2|ms\nc:3:4|ms\na:5|ms")
    await until(lambda: listening.counted()["accepted"] == 3)
    assert listening.kept() == {b"a": [1.0, 5.0], b"b": [2.0]}
    assert listening.counted() == {"received": 5, "accepted": 3, "rejected": 2, "refused": 0}
    await listening.listener.stop()


async def test_a_packet_that_was_cut_off_is_rejected_whole(make_settings: MakeSettings, tmp_path: Path) -> None:
    """What is left of its last line could say another number than was sent."""
    telemetry, sink = Telemetry(), FakeSink()
    settings = make_settings(statsd=f"unix://{tmp_path}/statsd")
    listening = Listening(settings, telemetry, sink)
    await listening.listener.start()
    listening.send(b"a:1234567|ms\n" * 6000, b"b:1|ms")
    await until(lambda: listening.counted()["accepted"] == 1)
    assert listening.kept() == {b"b": [1.0]}
    assert listening.counted()["rejected"] == 1
    await listening.listener.stop()


async def test_at_the_end_what_has_come_is_published(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statsd, "GATHERED_S", 60.0)
    telemetry, sink = Telemetry(), FakeSink()
    listening = Listening(make_settings(statsd="udp://127.0.0.1:0"), telemetry, sink)
    await listening.listener.start()
    listening.send(b"a:1|ms")
    await until(lambda: listening.counted()["received"] == 1)
    await listening.listener.stop()
    assert listening.kept() == {b"a": [1.0]}


async def test_what_the_kernel_drops_is_counted(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the event loop is held up, more comes than the socket may hold."""
    monkeypatch.setattr(statsd, "BUFFER_BYTES", 4096)
    telemetry, sink = Telemetry(), FakeSink()
    listening = Listening(make_settings(statsd="udp://127.0.0.1:0"), telemetry, sink)
    await listening.listener.start()
    listening.send(*[b"a:1|ms"] * 500)
    await until(lambda: value_of(telemetry.statsd_packets) > 0)
    listening.send(b"a:1|ms")  # it tells how many were dropped before it
    await until(lambda: value_of(telemetry.statsd_packets) + value_of(telemetry.statsd_dropped) == 501)
    assert value_of(telemetry.statsd_dropped) > 0
    await listening.listener.stop()


async def test_the_clients_that_apps_use_are_understood(make_settings: MakeSettings) -> None:
    telemetry, sink = Telemetry(), FakeSink()
    listening = Listening(make_settings(statsd="udp://127.0.0.1:0"), telemetry, sink)
    await listening.listener.start()
    port = urlsplit(listening.listener.address).port
    plain = StatsClient("127.0.0.1", port, prefix="shop")
    plain.timing("pay", 12.5)
    plain.incr("hits")
    plain.close()
    dog = DogStatsd("127.0.0.1", port, disable_telemetry=True, disable_buffering=True)
    for take in (dog.timing, dog.histogram, dog.distribution):
        take("dog.pay", 3.5, tags=["env:prod"])
    dog.increment("hits")
    dog.event("deployed", "v2")
    dog.stop()
    await until(lambda: listening.counted()["accepted"] == 4)
    assert listening.kept() == {b"shop.pay": [12.5], b"dog.pay": [3.5] * 3}
    assert listening.counted()["rejected"] == 0
    await listening.listener.stop()


def test_a_socket_that_another_process_reads_is_not_taken_from_it(tmp_path: Path) -> None:
    path = tmp_path / "statsd"
    with bound(f"unix://{path}") as first, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        with pytest.raises(SettingsError, match="nothing can listen there"):
            bound(f"unix://{path}")
        sender.sendto(b"a:1|ms", str(path))
        assert first.recv(100) == b"a:1|ms"


@pytest.mark.parametrize("address", ["udp://127.0.0.1:99999", f"udp://{'x' * 70}.example:1", "unix:///" + "x" * 200])
def test_an_address_that_cannot_be_one_is_said(address: str) -> None:
    with pytest.raises(SettingsError, match="METRICS_STATSD"):
        bound(address)


async def test_an_address_of_ipv6_is_told_as_it_is_set(make_settings: MakeSettings) -> None:
    listening = Listening(make_settings(statsd="udp://[::1]:0"), Telemetry(), FakeSink())
    await listening.listener.start()
    assert urlsplit(listening.listener.address).hostname == "::1"
    await listening.listener.stop()


def test_a_socket_left_behind_gives_way_and_another_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "statsd"
    bound(f"unix://{path}").close()
    bound(f"unix://{path}").close()
    path.unlink()
    path.write_text("mine")
    with pytest.raises(SettingsError, match="nothing can listen there"):
        bound(f"unix://{path}")
    assert path.read_text() == "mine"


@pytest.mark.parametrize("address", ["udp://127.0.0.1", "tcp://127.0.0.1:1", "8125", "unix://", "udp://127.0.0.1:x"])
def test_an_address_that_is_none_is_refused(make_settings: MakeSettings, address: str) -> None:
    with pytest.raises(ValueError, match="statsd"):
        make_settings(statsd=address)


def test_an_address_that_is_taken_is_said(make_settings: MakeSettings) -> None:
    with bound("udp://127.0.0.1:0") as taken, pytest.raises(SettingsError, match="METRICS_STATSD udp://"):
        bound(f"udp://127.0.0.1:{taken.getsockname()[1]}")
