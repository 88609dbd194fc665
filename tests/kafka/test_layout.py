from metrics_app.kafka.topics import topics
from tests.conftest import MakeSettings

HOUR_MS = 3_600_000


def test_the_changelog_outlives_every_hour_that_is_still_visible(make_settings: MakeSettings) -> None:
    _samples, changelog, _dead = topics(make_settings(retention_days=40))
    assert set(changelog.config["cleanup.policy"].split(",")) == {"compact", "delete"}
    assert int(changelog.config["retention.ms"]) == 42 * 24 * HOUR_MS
    assert int(changelog.config["min.compaction.lag.ms"]) == 2 * HOUR_MS


def test_samples_are_kept_for_their_time_and_stamped_by_the_broker(make_settings: MakeSettings) -> None:
    samples, _changelog, _dead = topics(make_settings(samples_retention_hours=5))
    assert samples.config["cleanup.policy"] == "delete"
    assert int(samples.config["retention.ms"]) == 5 * HOUR_MS
    assert samples.config["message.timestamp.type"] == "LogAppendTime"


def test_three_replicas_demand_two_acks_and_fewer_cannot(make_settings: MakeSettings) -> None:
    for replication, acks in ((1, "1"), (2, "1"), (3, "2"), (5, "2")):
        wanted = topics(make_settings(replication=replication))
        assert {topic.config["min.insync.replicas"] for topic in wanted} == {acks}


def test_the_order_of_policies_does_not_matter_but_a_missing_one_does(make_settings: MakeSettings) -> None:
    _samples, changelog, _dead = topics(make_settings())
    assert changelog.conflicts(changelog.config | {"cleanup.policy": "delete, compact"}) == []
    assert changelog.conflicts(changelog.config | {"cleanup.policy": "compact"}) == ["cleanup.policy"]


def test_only_a_shorter_retention_is_too_low(make_settings: MakeSettings) -> None:
    samples, _changelog, _dead = topics(make_settings(samples_retention_hours=5))
    for hours, low in ((4, ["retention.ms"]), (5, []), (6, [])):
        assert samples.too_low(samples.config | {"retention.ms": str(hours * HOUR_MS)}) == low
    assert samples.too_low(samples.config | {"retention.ms": "-1"}) == []
