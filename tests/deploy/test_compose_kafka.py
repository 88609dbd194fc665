"""Three real brokers take the settings of the compose file, and our topics become what they should be on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from metrics_app.kafka import topics
from metrics_app.kafka.cluster import EmbeddedCluster
from metrics_app.kafka.storage import Storage
from tests.conftest import MakeSettings
from tests.deploy.manifests import DOCKER, documents, understood

SERVICES = documents(DOCKER / "compose.yaml")[0]["services"]
# where each broker is differs here, and by which names the listeners go
ADDRESSES = ("LISTENER", "VOTERS", "LOG_DIRS", "HEAP_OPTS")


def properties(broker: str) -> dict[str, str]:
    """What the image of Kafka makes of its KAFKA_ variables."""
    variables = {name: str(value) for name, value in SERVICES[broker]["environment"].items() if name[:6] == "KAFKA_"}
    taken = {name: value for name, value in variables.items() if not any(part in name for part in ADDRESSES)}
    return {name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in taken.items()}


class ComposeStorage(Storage):
    """Adds the settings of the compose file, which win over ours."""

    def write_properties(self, port: int, controller_port: int, advertised: str, run: str) -> None:
        """As ever, and the lines of the broker with this number."""
        super().write_properties(port, controller_port, advertised, run)
        lines = [f"{name}={value}\n" for name, value in properties(f"kafka-{self.member.node_id}").items()]
        with self.server_properties.open("a") as file:
            file.writelines(lines)


@pytest.mark.kafka
@pytest.mark.slow
async def test_the_settings_of_the_brokers_are_taken_and_the_workers_are_content(
    tmp_path: Path, make_settings: MakeSettings
) -> None:
    cluster = EmbeddedCluster(tmp_path / "kafka")
    for node in cluster.nodes.values():
        node.storage = ComposeStorage(node.storage.folder, node.storage.member)
    theirs = understood(SERVICES["collector-1"]["environment"])
    with cluster:
        here = make_settings(kafka=cluster.bootstrap, replication=theirs.replication, weak_kafka=theirs.weak_kafka)
        await topics.ensure(here)
        async with topics.admin_client(here) as admin:
            (found,) = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")])
            (topic,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, here.samples_topic)])
    said = {entry[0]: entry[1] for entry in found.resources[0][4]}
    assert properties("kafka-1").items() <= said.items()
    ours = {entry[0]: entry[1] for entry in topic.resources[0][4]}
    assert (ours["min.insync.replicas"], ours["unclean.leader.election.enable"]) == ("2", "false")
