"""Whether two clocks agree is found at once, however many partitions there are, and said of each role."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.clocks import ClockReading, Clocks, Instant
from metrics_app.collector import producer
from metrics_app.collector.producer import LOG_APPEND_TIME, Connection
from metrics_app.kafka import connections, reaching, topics
from metrics_app.telemetry import Telemetry
from tests.collector.fakes import until
from tests.conftest import MakeSettings

TOLERANCE_S = 10.0
NOON_S = 1_795_651_200.0


class Told(Clocks):
    """Of a machine on which it is the time it is told to be."""

    instant = Instant(NOON_S, 0.0)

    def now(self) -> Instant:
        return self.instant


def appended(clocks: Told, partition: int, kafka_ahead_s: float) -> None:
    clocks.appended(partition, round((clocks.instant.own_s + kafka_ahead_s) * 1000), clocks.instant)


@given(
    st.lists(st.floats(-30, 30), max_size=5),
    st.lists(st.tuples(st.floats(0, 100), st.floats(-30, 30)), min_size=1, max_size=4),
)
def test_whether_all_agree_is_what_every_reading_says(aheads: list[float], steps: list[tuple[float, float]]) -> None:
    clocks = Told(TOLERANCE_S, Telemetry())
    for partition, ahead_s in enumerate(aheads):
        appended(clocks, partition, ahead_s)
    for passed_s, step_s in steps:
        own_s, monotonic_s = clocks.instant
        clocks.instant = Instant(own_s + passed_s + step_s, monotonic_s + passed_s)
        worst_s = abs(clocks.difference_s)
        if abs(worst_s - TOLERANCE_S) > 1e-6:
            assert clocks.all_agree(clocks.instant) == (worst_s <= TOLERANCE_S)


def test_each_request_asks_for_it_and_does_not_go_through_all_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Told(TOLERANCE_S, Telemetry())
    for partition in range(512):
        appended(clocks, partition, 0.0)
    assert clocks.doubt() is None
    monkeypatch.setattr(ClockReading, "stamp_s", property(lambda _: pytest.fail("a reading is looked at")))
    assert clocks.doubt() is None


def test_the_difference_of_one_role_does_not_hide_that_of_the_other() -> None:
    telemetry = Telemetry()
    collector, aggregator = Told(TOLERANCE_S, telemetry, "collector"), Told(TOLERANCE_S, telemetry)
    appended(collector, 0, 3600.0)
    appended(aggregator, 0, 0.0)
    assert b'metrics_app_clock_difference_seconds{role="collector"} 3600.0' in telemetry.exposition()


def test_who_is_not_written_to_any_more_does_not_keep_up_a_difference() -> None:
    clocks = Told(TOLERANCE_S, Telemetry())
    appended(clocks, 0, 0.0)
    appended(clocks, 1, 3600.0)
    assert clocks.disputed
    clocks.keep({0, 2})
    assert not clocks.disputed
    assert clocks.both_s(0, clocks.instant) is not None
    assert clocks.both_s(1, clocks.instant) is None


class Broker:
    """A producer that is connected to one broker, which leads all partitions and stamps by its own clock."""

    def __init__(self) -> None:
        self.ahead_s = 3600.0
        cluster = SimpleNamespace(leader_for_partition=lambda tp: 1)
        self.client = SimpleNamespace(cluster=cluster)

    async def start(self) -> None:
        pass

    async def partitions_for(self, topic: str) -> set[int]:
        return set(range(8))

    async def send_and_wait(self, topic: str, record: bytes, partition: int) -> SimpleNamespace:
        stamp_ms = round((time.time() + self.ahead_s) * 1000)
        return SimpleNamespace(topic=topic, timestamp=stamp_ms, timestamp_type=LOG_APPEND_TIME)


async def test_a_broker_that_is_set_right_is_believed_though_only_one_partition_shows_it(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def done(*_: object) -> None:
        pass

    broker = Broker()
    monkeypatch.setattr(producer, "ASK_AGAIN_S", 0.01)
    monkeypatch.setattr(producer, "abandon", done)
    monkeypatch.setattr(reaching, "meet", done)
    monkeypatch.setattr(topics, "ensure", done)
    monkeypatch.setattr(connections, "producer", lambda *_, **__: broker)
    connection = Connection(make_settings(), Telemetry())
    async with connection:
        await until(lambda: connection.problem() is None)
        assert [await connection.send(partition, b"") for partition in range(8)] == [None] * 8
        assert connection.clocks.doubt() is not None
        broker.ahead_s = 0.0
        await until(lambda: connection.clocks.doubt() is None and not connection.clocks.disputed)
