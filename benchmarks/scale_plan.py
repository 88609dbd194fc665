"""From what a load takes to machines and money. Every assumption is a field of `Assumptions`, with a default.

Called by `scale_model`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MONTH_H = 730
GB = 1e9


def _of(default: float, help_text: str) -> Any:
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True)
class Assumptions:
    """What is not measured. Prices are round figures near the list prices of the large clouds; put in your own."""

    busy: float = _of(0.5, "share of a core that is planned to be used")
    replication: float = _of(3, "copies of each record in Kafka")
    samples_hours: float = _of(72, "hours that raw records stay, METRICS_SAMPLES_RETENTION_HOURS")
    row_hours: float = _of(744, "hours that rows stay: 24 times METRICS_RETENTION_DAYS")
    broker_cores: float = _of(4, "cores of a broker")
    broker_write: float = _of(100e6, "bytes a second that a broker's disk takes in")
    broker_disk: float = _of(8e12, "bytes on a broker's disk")
    core_hour: float = _of(0.04, "dollars an hour for a core with 4 GB")
    disk_month: float = _of(0.08, "dollars a month for a GB of disk")
    zone_gb: float = _of(0.02, "dollars for a GB from one zone to another, both directions together")
    zones: float = _of(3, "zones that everything is spread over")


@dataclass(frozen=True)
class Fleet:
    """What carries a load. Cores are those planned for, at `busy`; disk is Kafka's, all copies."""

    collectors: int
    aggregators: int
    partitions: int
    brokers: int
    network_bytes_per_s: float
    disk_bytes: float
    compute_month: float
    disk_month: float
    network_month: float

    @property
    def month(self) -> float:
        """Dollars a month."""
        return self.compute_month + self.disk_month + self.network_month

    def lines(self) -> Iterator[tuple[str, str]]:
        """Names and figures, for people."""
        yield "collectors, of a core each", f"{self.collectors:,}"
        yield "aggregators, of a core each", f"{self.aggregators:,}"
        yield "partitions", f"{self.partitions:,}"
        yield "brokers", f"{self.brokers:,}"
        yield "network within, MB/s", f"{self.network_bytes_per_s / 1e6:,.1f}"
        yield "Kafka's disk, all copies, GB", f"{self.disk_bytes / GB:,.0f}"
        yield "dollars a month: machines", f"{self.compute_month:,.0f}"
        yield "dollars a month: disk", f"{self.disk_month:,.0f}"
        yield "dollars a month: between zones", f"{self.network_month:,.0f}"
        yield "dollars a month", f"{self.month:,.0f}"


def fleet(taken: dict[str, float], keys: float, assumed: Assumptions) -> Fleet:
    """The machines for what a load takes.

    Args:
        taken: cores of `collector`, `aggregator` and `kafka`; `samples_bytes` and `changelog_bytes` a second, one copy;
            `row_bytes` of a row.
        keys: that get values in an hour.
    """
    collectors = max(2, math.ceil(taken["collector"] / assumed.busy))
    aggregators = max(2, math.ceil(taken["aggregator"] / assumed.busy))
    written = (taken["samples_bytes"] + taken["changelog_bytes"]) * assumed.replication
    disk = _kept(taken, keys, assumed) * assumed.replication
    brokers = _brokers(taken["kafka"] * assumed.replication, written, disk, assumed)
    network = written + taken["samples_bytes"] + 2 * taken["changelog_bytes"]  # to brokers, to aggregators and standbys
    cores = collectors + aggregators + brokers * assumed.broker_cores
    return Fleet(
        collectors,
        aggregators,
        max(8, 2 * aggregators),
        brokers,
        network,
        disk,
        cores * assumed.core_hour * MONTH_H,
        disk / GB * assumed.disk_month,
        network * (1 - 1 / assumed.zones) * 3600 * MONTH_H / GB * assumed.zone_gb,
    )


def _brokers(cores: float, written: float, disk: float, assumed: Assumptions) -> int:
    """At least as many as there are copies; then what is short first: cores, the disk's speed, or its size."""
    wanted = (
        cores / (assumed.broker_cores * assumed.busy),
        written / (assumed.broker_write * assumed.busy),
        disk / (assumed.broker_disk * assumed.busy),
    )
    return max(math.ceil(assumed.replication), *map(math.ceil, wanted))


def _kept(taken: dict[str, float], keys: float, assumed: Assumptions) -> float:
    """Bytes of one copy: raw records for some hours, and each key's row of each hour."""
    return taken["samples_bytes"] * 3600 * assumed.samples_hours + taken["row_bytes"] * keys * assumed.row_hours
