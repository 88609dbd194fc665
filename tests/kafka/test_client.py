import shutil
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust import SASLCredentials

from metrics_app.errors import BrokerError
from metrics_app.kafka import topics
from metrics_app.kafka.connections import client_options, faust_broker, producer
from tests import certificates
from tests.conftest import MakeSettings


def test_plain_options_name_every_server_and_no_credentials(make_settings: MakeSettings) -> None:
    options = client_options(make_settings(kafka="one:9092, two:9093"))
    assert options == {
        "bootstrap_servers": ["one:9092", "two:9093"],
        "security_protocol": "PLAINTEXT",
        "ssl_context": None,
    }


def test_credentials_and_tls_reach_aiokafka_and_faust_alike(make_settings: MakeSettings) -> None:
    settings = make_settings(
        kafka="one:9093,two:9093",
        kafka_protocol="SASL_SSL",
        kafka_mechanism="SCRAM-SHA-512",
        kafka_username="ann",
        kafka_password="secret",
    )
    options = client_options(settings)
    urls, credentials = faust_broker(settings)
    assert options["ssl_context"].check_hostname
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("ann", "secret")
    assert [str(url) for url in urls] == ["kafka://one:9093", "kafka://two:9093"]
    assert isinstance(credentials, SASLCredentials)
    assert credentials.protocol.value == options["security_protocol"] == "SASL_SSL"
    assert credentials.mechanism.value == options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert "secret" not in repr(credentials)


def test_an_unreadable_ca_file_is_named(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(kafka_protocol="SSL", kafka_ca_file=tmp_path / "absent.pem")
    with pytest.raises(BrokerError, match=r"METRICS_KAFKA_CA_FILE .*absent\.pem"):
        client_options(settings)


def test_the_ca_file_is_read_once_and_again_only_after_it_could_not_be(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    settings = make_settings(kafka_protocol="SSL", kafka_ca_file=file)
    with pytest.raises(BrokerError):
        client_options(settings)
    shutil.copy(certificates.make(tmp_path)["tls_ca_file"], file)
    context = client_options(settings)["ssl_context"]
    file.unlink()  # as it is without a descriptor to open it with
    assert client_options(settings)["ssl_context"] is context


@pytest.mark.kafka
async def test_a_record_of_the_largest_size_is_produced_and_read_back(settings: MakeSettings) -> None:
    here = settings(partitions=2, max_record_bytes=900 << 10)
    await topics.ensure(here)
    value = bytes(i * i % 251 for i in range(here.max_record_bytes))
    async with producer(here) as sender:
        sent = await sender.send_and_wait(here.samples_topic, value, partition=1)
    async with AIOKafkaConsumer(**client_options(here), auto_offset_reset="earliest") as reader:
        reader.assign([TopicPartition(here.samples_topic, 1)])
        record = await reader.getone()
    assert (record.offset, record.value) == (sent.offset, value)
    assert record.timestamp_type == 1  # the broker's clock
