"""What each topic must be like.

samples       deleted after `samples_retention_hours`; stamped by the broker (LogAppendTime), as the aggregator takes a
              record's timestamp for the moment it was accepted, and the brokers' clock is the one all collectors share.
changelog     compacted, and deleted when no row in it can still be visible: a row is written in its hour or later, so
              two days past `retention_days` suffice. Without a retention of its own it would get the broker's 7 days.
              Compaction leaves the newest hour alone: who has read nearly to the end finds every offset after that.
dead letters  deleted after 30 days.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from metrics_app.settings import Settings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DEAD_LETTER_DAYS = 30
SAFE_REPLICATION = 3  # from here on a write needs two replicas, so that one broker may be lost without losing it
EXACT = ("cleanup.policy", "message.timestamp.type")
AT_LEAST = ("retention.ms", "min.compaction.lag.ms", "min.insync.replicas")
SAFE = {"unclean.leader.election.enable": "false"}  # a replica that lags, made leader, loses what was acknowledged
FOREVER = "-1"  # a retention without end


class Topic(NamedTuple):
    """One topic. `setting` is the variable that renames it; its number of partitions must match where `fixed`."""

    name: str
    setting: str
    partitions: int
    fixed: bool
    config: dict[str, str]

    def conflicts(self, found: Mapping[str, str]) -> list[str]:
        """Keys of a found configuration that differ and may only be changed by who knows why they do."""
        return [key for key in EXACT if _parts(found[key]) != _parts(self.config[key])]

    def too_low(self, found: Mapping[str, str]) -> list[str]:
        """Keys of a found configuration that promise less than needed."""
        bounds = [key for key in AT_LEAST if key in self.config and found[key] != FOREVER]
        unsafe = [key for key in SAFE if found[key] != self.config[key]]
        return unsafe + [key for key in bounds if int(found[key]) < int(self.config[key])]


def _parts(value: str) -> set[str]:
    return {part.strip() for part in value.split(",")}


def topics(settings: Settings) -> list[Topic]:
    """All topics this configuration uses."""
    common = {"message.timestamp.type": "LogAppendTime", **SAFE}
    common["min.insync.replicas"] = "2" if settings.replication >= SAFE_REPLICATION else "1"
    samples = {"cleanup.policy": "delete", "retention.ms": str(settings.samples_retention_hours * HOUR_MS)}
    changelog = {
        "cleanup.policy": "compact,delete",
        "retention.ms": str((settings.retention_days + 2) * DAY_MS),
        # an older state that is last is written over within seconds, and at the latest when its hour has closed
        "min.compaction.lag.ms": str(2 * HOUR_MS),
        "segment.ms": str(HOUR_MS),
    }
    dead = {"cleanup.policy": "delete", "retention.ms": str(DEAD_LETTER_DAYS * DAY_MS)}
    count = settings.partitions
    return [
        Topic(settings.samples_topic, "METRICS_SAMPLES_TOPIC", count, True, common | samples),
        Topic(settings.changelog_topic, "METRICS_NAME", count, True, common | changelog),
        Topic(settings.dead_letter_topic, "METRICS_DEAD_LETTER_TOPIC", 1, False, common | dead),
    ]
