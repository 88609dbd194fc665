"""What a Kafka keeps less safely than it could, in sentences that say what to do.

Called by `topics`, which raises min.insync.replicas and forbids an unclean election by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SAFE_REPLICATION = 3  # from so many replicas on a write needs two, so that it survives the loss of one broker
OFFSETS = "__consumer_offsets"


def weaknesses(brokers: int, partitions: Mapping[str, Sequence[Any]], ours: Sequence[str]) -> list[str]:
    """One sentence for each; none for a single broker, which can do no better.

    Args:
        brokers: how many there are.
        partitions: of each topic of the cluster, as its metadata has them.
        ours: names of our topics, all of which are there.
    """
    if brokers == 1:
        return []
    best = min(brokers, SAFE_REPLICATION)
    found = []
    if alone := [name for name in ours if _replicas(partitions[name]) == 1]:
        who = f"topic {alone[0]} has" if len(alone) == 1 else "the topics have"
        found.append(
            f"Kafka has {brokers} brokers, but {who} one replica: what is accepted is lost with one disk. Add "
            f"replicas, or set METRICS_REPLICATION={best} before the topics are made"
        )
    if OFFSETS in partitions and _replicas(partitions[OFFSETS]) == 1:
        found.append(
            f"Kafka has {brokers} brokers, but its own topic {OFFSETS} has one replica: while that broker is away, no "
            f"aggregator gets partitions. Add replicas, and set offsets.topic.replication.factor={best} on the brokers"
        )
    return found


def _replicas(partitions: Sequence[Any]) -> int:
    return min(len(partition["replicas"]) for partition in partitions)
