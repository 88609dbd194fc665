"""Dead letters on a real Kafka, listed and brought back by the command."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from metrics_app.aggregator.dead_letters import headers_of
from metrics_app.cli.main import app
from metrics_app.kafka import connections, topics
from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.storage import Storage
from metrics_app.settings import PREFIX, Settings
from metrics_app.wire import record
from metrics_app.wire.chunk import Chunk
from tests.conftest import MakeSettings

pytestmark = pytest.mark.kafka

HOUR = 498_740
PARTITION = 1  # where keys d and f belong, of two
GOOD = record.encode([Chunk(b"d", HOUR, struct.pack("<2d", 1, 2)), Chunk(b"f", HOUR, struct.pack("<d", 4))])
LETTERS = [(3, "fold: RuntimeError('a bug')", GOOD), (5, "record: its checksum does not fit its bytes", GOOD[:-1])]
runner = CliRunner()


@pytest.fixture
def installation(settings: MakeSettings) -> Settings:
    """Settings whose dead-letter topic holds two letters, one of them twice, and something that is none."""
    here = settings(partitions=2)
    asyncio.run(fill(here))
    return here


async def fill(here: Settings) -> None:
    await topics.ensure(here)
    async with connections.producer(here) as producer:
        await producer.send_and_wait(here.dead_letter_topic, b"not a letter")
        for offset, reason, value in [*LETTERS, LETTERS[0]]:
            message = SimpleNamespace(
                topic=here.samples_topic, partition=PARTITION, offset=offset, timestamp=HOUR * 3_600_000
            )
            await producer.send_and_wait(here.dead_letter_topic, value, headers=headers_of(message, reason))


async def samples(here: Settings) -> list[Chunk]:
    sent = await connections.everything(here, here.samples_topic, [PARTITION])
    return [chunk for message in sent for chunk in record.decode(message.value)]


def dlq(here: Settings, *arguments: str, without: str = "") -> Any:
    names = ("kafka", "name", "samples_topic", "dead_letter_topic", "partitions")
    environment = {f"{PREFIX}{name.upper()}": str(getattr(here, name)) for name in names if name != without}
    result = runner.invoke(app, ["dlq", *arguments], env=environment)
    assert result.exit_code == 0, result.output
    return result


def test_letters_are_listed_once_with_origin_and_reason(installation: Settings) -> None:
    listed = json.loads(dlq(installation, "list", "--json").stdout)
    assert [(each["partition"], each["offset"], each["reason"]) for each in listed] == [
        (PARTITION, offset, reason) for offset, reason, _ in LETTERS
    ]
    assert [each["offset"] for each in json.loads(dlq(installation, "list", "--json", "--limit", "1").stdout)] == [5]
    assert f"{installation.samples_topic}-1 at 3  fold: RuntimeError" in dlq(installation, "list").stdout


def test_without_an_address_the_kafka_of_the_data_folder_is_asked(
    installation: Settings, kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = kafka.storage.address()
    assert address is not None
    (tmp_path / "kafka").mkdir()
    Storage(tmp_path / "kafka").write_address(address)
    monkeypatch.setenv("METRICS_DATA_DIR", str(tmp_path))
    result = dlq(installation, "list", "--json", without="kafka")
    assert f"asking the Kafka of {tmp_path} at {kafka.bootstrap}" in result.stderr
    assert len(json.loads(result.stdout)) == len(LETTERS)
    assert f"asking Kafka at {installation.kafka}" in dlq(installation, "list").stderr


def test_a_dry_run_and_a_reason_that_nothing_has_send_nothing(installation: Settings) -> None:
    said = dlq(installation, "replay", "--dry-run").stderr
    assert "1 would be replayed, 1 cannot be read and stay, 0 not asked for" in said
    assert "0 replayed, 0 cannot be read and stay, 2 not asked for" in dlq(
        installation, "replay", "--only", "other"
    ).stderr.replace("\n", " ")
    told = json.loads(dlq(installation, "replay", "--dry-run", "--json").stdout)
    assert told == {"dry_run": True, "replayed": 1, "unreadable": 1, "other": 0}
    assert asyncio.run(samples(installation)) == []


def test_what_can_be_read_is_replayed_once_with_ids_and_the_rest_stays(installation: Settings) -> None:
    assert "1 replayed, 1 cannot be read" in dlq(installation, "replay").stderr
    assert "0 replayed, 1 cannot be read" in dlq(installation, "replay").stderr
    found = asyncio.run(samples(installation))
    assert [(chunk.key, chunk.count) for chunk in found] == [(b"d", 2), (b"f", 1)]
    assert len({bytes(chunk.ids) for chunk in found} - {b""}) == 2
    assert [each["offset"] for each in json.loads(dlq(installation, "list", "--json").stdout)] == [5]
