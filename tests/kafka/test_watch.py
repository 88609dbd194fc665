"""What a look at the topics leads to; the cluster is a fake, for it must change at a time."""

from __future__ import annotations

import pytest

from metrics_app.errors import BrokerError
from metrics_app.kafka import topics, watch
from metrics_app.kafka.identity import ClusterIdentity, TopicIdentity
from metrics_app.kafka.topics import LateBrokerError
from metrics_app.kafka.topics import topics as topics_of
from metrics_app.kafka.watch import CHECK_LOOKS, TopicsWatch
from metrics_app.settings import Settings
from tests.conftest import MakeSettings


class Kafka:
    """A cluster, and what `topics.ensure` makes of it."""

    def __init__(self, settings: Settings) -> None:
        self.id = "one"
        self.topics = {topic.name: TopicIdentity("a", topic.partitions) for topic in topics_of(settings)}
        self.ensured = 0
        self.conflict: str | None = None
        self.is_late = False
        self.names = list(self.topics)

    async def identity(self, _settings: Settings) -> ClusterIdentity:
        return ClusterIdentity(self.id, dict(self.topics))

    async def ensure(self, _settings: Settings) -> None:
        self.ensured += 1
        if self.conflict:
            raise (LateBrokerError if self.is_late else BrokerError)(self.conflict)
        for name in self.names:
            self.topics.setdefault(name, TopicIdentity("made by us", 1))


class Seen:
    """A watch, and what it told."""

    def __init__(self, settings: Settings) -> None:
        self.watch = TopicsWatch(settings)
        self.remade: list[set[str]] = []
        self.unusable: list[str] = []
        self.watch.on_remade.append(self._note)
        self.watch.on_unusable.append(self.unusable.append)

    async def _note(self, names: set[str]) -> None:
        self.remade.append(names)

    async def look(self, times: int = 1) -> str | None:
        for _ in range(times):
            await self.watch.look()
        return self.watch.problem()


@pytest.fixture
def here(make_settings: MakeSettings) -> Settings:
    return make_settings()


@pytest.fixture
def kafka(here: Settings, monkeypatch: pytest.MonkeyPatch) -> Kafka:
    kafka = Kafka(here)
    monkeypatch.setattr(watch, "cluster_identity", kafka.identity)
    monkeypatch.setattr(topics, "ensure", kafka.ensure)
    return kafka


@pytest.fixture
async def seen(here: Settings, kafka: Kafka) -> Seen:
    seen = Seen(here)
    assert await seen.look(2) is None
    return seen


async def test_nothing_is_said_while_nothing_changes_and_settings_are_checked_now_and_then(seen: Seen, kafka: Kafka):
    assert await seen.look(CHECK_LOOKS) is None
    assert (seen.remade, seen.unusable, kafka.ensured) == ([], [], 1)


async def test_a_topic_made_anew_is_told_at_once(seen: Seen, kafka: Kafka, here: Settings):
    kafka.topics[here.samples_topic] = TopicIdentity("b", here.partitions)
    assert await seen.look() is None
    assert seen.remade == [{here.samples_topic}]
    assert await seen.look(2) is None
    assert len(seen.remade) == 1


async def test_a_topic_that_is_gone_is_made_again_at_the_second_look(seen: Seen, kafka: Kafka, here: Settings):
    del kafka.topics[here.changelog_topic]
    assert here.changelog_topic in (await seen.look() or "")
    assert kafka.ensured == 0
    assert await seen.look() is None
    assert seen.remade == [{here.changelog_topic}]


async def test_what_cannot_be_used_is_told_when_it_is_seen_twice_and_forgotten_when_it_is_mended(
    seen: Seen, kafka: Kafka, here: Settings
):
    kafka.topics[here.samples_topic] = TopicIdentity("a", here.partitions + 1)
    kafka.conflict = "it has too many"
    assert await seen.look() == "it has too many"
    assert seen.unusable == []
    assert await seen.look() == "it has too many"
    assert seen.unusable == ["it has too many"]
    kafka.conflict = None
    assert await seen.look() is None
    assert seen.remade == []


async def test_a_kafka_that_is_late_is_no_reason_to_end(seen: Seen, kafka: Kafka, here: Settings):
    kafka.topics[here.samples_topic] = TopicIdentity("b", here.partitions)
    kafka.conflict, kafka.is_late = "a broker is away", True
    assert here.samples_topic in (await seen.look(5) or "")
    assert seen.unusable == []
    kafka.conflict = None
    assert await seen.look() is None
    assert seen.remade == [{here.samples_topic}]


async def test_a_topic_that_is_not_trusted_is_treated_as_made_anew(seen: Seen, here: Settings):
    seen.watch.distrust(here.changelog_topic, "it gives offsets again")
    await seen.look(2)
    assert seen.remade == [{here.changelog_topic}]


async def test_what_could_not_be_told_is_told_again(seen: Seen, kafka: Kafka, here: Settings):
    failing = [TimeoutError(), None]

    async def fail_once(_names: set[str]) -> None:
        if error := failing.pop(0):
            raise error

    seen.watch.on_remade.insert(0, fail_once)
    kafka.topics[here.samples_topic] = TopicIdentity("b", here.partitions)
    with pytest.raises(TimeoutError):
        await seen.look()
    await seen.look()
    assert seen.remade == [{here.samples_topic}]
