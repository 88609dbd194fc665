"""The product's own metrics in one list: name, type, labels, meaning. /metrics serves them in Prometheus' text format.

Called by `app`, `clocks`, `aggregator`, `collector`, `http` and `query`. `docs/metrics.md` is made of the list.

The counters close: after a drain, received = accepted + rejected + refused (collectors) and accepted = folded +
duplicate + expired + overfull (aggregators), counted in values, if no process was killed: they start at 0 with it. Of
values refused for want of an ack some may be in Kafka, and then are folded too: those refused for another reason than
memory or stopping. Records put aside are counted as records; what was in them nobody can tell.
"""

from __future__ import annotations

from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for every counter, that nobody asked for

PREFIX = "metrics_app_"
DELAY_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
FRESH_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class Listed(NamedTuple):
    """A metric as the list has it.

    Attributes:
        name: as Prometheus shows it; of a histogram, without `_bucket`, `_sum` and `_count`.
        kind: counter, gauge or histogram.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class MetricList:
    """The metrics of one role, made in a registry and listed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.listed: list[Listed] = []
        self._registry = registry

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        """What only grows, from 0 at the start of the process."""
        self.listed.append(Listed(f"{PREFIX}{name}_total", "counter", labels, meaning))
        return Counter(PREFIX + name, meaning, labels, registry=self._registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """What goes up and down."""
        self.listed.append(Listed(PREFIX + name, "gauge", labels, meaning))
        return Gauge(PREFIX + name, meaning, labels, registry=self._registry)

    def histogram(self, name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        """How often a duration was at most so many seconds, for each of the buckets."""
        self.listed.append(Listed(PREFIX + name, "histogram", labels, meaning))
        return Histogram(PREFIX + name, meaning, labels, buckets=buckets, registry=self._registry)


class Telemetry:
    """Metrics of one process, in a registry of their own.

    Attributes:
        lists: what is measured, by the role that does; a process shows the metrics of all of them.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.lists = {title: MetricList(registry) for title in ("Every role", "Collection", "Aggregation", "Questions")}
        self._of_every_role(self.lists["Every role"])
        self._of_collection(self.lists["Collection"])
        self._of_aggregation(self.lists["Aggregation"])
        self._of_questions(self.lists["Questions"])

    def _of_every_role(self, both: MetricList) -> None:
        self.clock_difference = both.gauge(
            "clock_difference_seconds",
            "Kafka's clock minus that of this process, the greatest that a role knows; 0 when they may be equal.",
            "role",
        )
        self.clock_disagreements = both.counter(
            "clock_disagreements",
            "Stamps of Kafka that differ from the clock of this process by more than METRICS_CLOCK_TOLERANCE_S.",
            "kafka",
        )
        self.loop_delay = both.histogram(
            "event_loop_delay_seconds",
            "How late the event loop comes back to a task that waited: what every request waits, at each of its steps.",
            DELAY_S,
        )
        self.ready = both.gauge("ready", "Whether /readyz says 200, 1 or 0.")

    def _of_collection(self, collector: MetricList) -> None:
        self.received = collector.counter("received_values", "Values read from request bodies.")
        self.accepted = collector.counter("accepted_values", "Values acknowledged by Kafka and answered 202.")
        self.rejected = collector.counter("rejected_values", "Values refused as unusable, by reason.", "reason")
        self.refused = collector.counter("refused_values", "Values not kept for want of Kafka or memory.", "reason")
        self.requests = collector.counter("http_requests", "HTTP requests answered.", "route", "status")
        self.client_dropped = collector.counter(
            "client_dropped_values", "Values that clients say they could not send, by reason.", "reason"
        )
        self.statsd_packets = collector.counter("statsd_packets", "Packets read from the socket of METRICS_STATSD.")
        self.statsd_dropped = collector.counter(
            "statsd_dropped_packets", "Packets that the kernel dropped because this process was too slow."
        )
        self.produced = collector.counter("produced_records", "Kafka records acknowledged.")
        self.pending = collector.gauge("pending_bytes", "Samples held until Kafka acknowledges.")
        self.ack_latency = collector.histogram("ack_seconds", "From a gathered batch to the broker's ack.", LATENCY_S)
        self.unacknowledged = collector.counter(
            "unacknowledged_records", "Kafka records sent of which no ack came; some may be in Kafka."
        )

    def _of_aggregation(self, aggregator: MetricList) -> None:
        self.folded = aggregator.counter("folded_values", "Values merged into hourly rows and durable.")
        self.folded_by_partition = aggregator.counter(
            "partition_values", "Values merged into hourly rows and durable, by partition.", "partition"
        )
        self.folded_records = aggregator.counter("folded_records", "Kafka records folded.")
        self.duplicate = aggregator.counter(
            "duplicate_values", "Values already counted and left out, by fence.", "fence"
        )
        self.replayed = aggregator.counter("replayed_records", "Records delivered again and skipped.")
        self.late = aggregator.counter("late_values", "Values folded after their hour had closed.")
        self.unfenced = aggregator.counter(
            "unfenced_values",
            "Values folded whose repetition would count again: their row has no room for more senders or gaps.",
        )
        self.ahead = aggregator.counter(
            "ahead_values",
            "Values folded into an hour that had not begun when Kafka took them: a collector's clock is ahead.",
        )
        self.expired = aggregator.counter("expired_values", "Values beyond retention when folded, left out.")
        self.overfull = aggregator.counter(
            "overfull_values", "Values left out because their key has 2^62 in that hour already."
        )
        self.holes = aggregator.counter("offset_holes", "Skipped offsets sought back.")
        self.lost = aggregator.counter("lost_records", "Records deleted by Kafka's retention before being folded.")
        self.log_truncated = aggregator.counter(
            "log_truncated", "Partitions of the samples topic that were found to be another log, or cut."
        )
        self.state_rebuilds = aggregator.counter(
            "state_rebuilds", "Local copies of a partition given up for the changelog.", "reason"
        )
        self.bad_rows = aggregator.counter(
            "bad_changelog_records",
            "Records of the changelog that are no whole rows of their partition and were not taken in.",
        )
        self.sealed_rows = aggregator.counter(
            "sealed_rows", "Rows written to the changelog once more: their hour had closed, or an older state was last."
        )
        self.dead_lettered = aggregator.counter(
            "dead_lettered_records", "Records moved to the dead-letter topic.", "reason"
        )
        self.stopped = aggregator.gauge(
            "stopped_partitions",
            "Partitions of which nothing more is folded until a restart: too many of their records were put aside.",
        )
        self.rebalances = aggregator.counter("rebalances", "Times partitions were assigned to this worker anew.")
        self.id_horizon = aggregator.gauge(
            "id_horizon_seconds",
            "How long ago an id or idempotency key may have come and is known, in every partition of this worker.",
        )
        self.flushes = aggregator.counter("flushes", "Flushes acknowledged by the changelog.")
        self.flushed_rows = aggregator.counter("flushed_rows", "Rows written by flushes.")
        self.flush_latency = aggregator.histogram("flush_seconds", "Duration of a flush, acks included.", LATENCY_S)
        self.rows_in_memory = aggregator.gauge("rows_in_memory", "Rows of the overlay.")
        self.lag = aggregator.gauge("lag_records", "Records of the partition not yet folded.", "partition")
        self.flush_failures = aggregator.counter(
            "flush_failures", "Flushes that Kafka did not acknowledge; their rows go out with the next one."
        )
        self.fold_time = aggregator.counter(
            "fold_seconds", "CPU time of the event loop in which records were read and merged into rows."
        )
        self.freshness = aggregator.histogram(
            "freshness_seconds",
            "From Kafka's stamp of a record, which a collector's ack follows, until questions see its values.",
            FRESH_S,
        )
        self.round_trip = aggregator.histogram(
            "kafka_round_trip_seconds",
            "Until Kafka has said where the samples topic ends, which is asked each second.",
            LATENCY_S,
        )
        self.partitions = aggregator.gauge("partitions", "Partitions of the samples topic, by METRICS_PARTITIONS.")
        self.owned = aggregator.gauge("owned_partitions", "Partitions of the samples topic that this worker folds.")
        self.recovering = aggregator.gauge(
            "recovering_records", "Records of the changelog to be read before the partitions of this worker are whole."
        )
        self.suspicion = aggregator.gauge(
            "watchdog_suspicion", "Whether the watchdog sees something stand still, 1 or 0."
        )

    def _of_questions(self, query: MetricList) -> None:
        self.query_latency = query.histogram(
            "query_seconds",
            "From a question about a key to its answer, by the role of the copy that gave it.",
            LATENCY_S,
            "role",
            "asker",
        )
        self.forwards = query.counter("forwards", "Queries passed to another worker, by outcome.", "outcome")

    def exposition(self) -> bytes:
        """All values in the Prometheus text format."""
        return generate_latest(self.registry)
