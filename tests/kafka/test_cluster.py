"""Three embedded nodes are one cluster, which outlives each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_app.kafka import topics
from metrics_app.kafka.cluster import EmbeddedCluster
from tests.conftest import MakeSettings
from tests.kafka.leaders import leaders, until_led_by

pytestmark = [pytest.mark.kafka, pytest.mark.slow]  # tests/collector/test_lost_broker.py kills one in every run


async def test_topics_have_three_replicas_and_a_node_that_is_killed_comes_back(
    tmp_path: Path, make_settings: MakeSettings
) -> None:
    with EmbeddedCluster(tmp_path / "kafka") as cluster:
        here = make_settings(kafka=cluster.bootstrap, replication=3, partitions=6)
        await topics.ensure(here)
        assert set((await leaders(cluster.nodes[2], here.samples_topic)).values()) == {1, 2, 3}
        cluster.nodes[1].kill()
        await until_led_by(cluster.nodes[2], here.samples_topic, {2, 3})
        cluster.nodes[1].start()
        await topics.ensure(here)
