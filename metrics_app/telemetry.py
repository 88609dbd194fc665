"""The product's own metrics in one list: name, labels, meaning. /metrics serves them in Prometheus' text format.

Called by `app`, `clocks`, `aggregator`, `collector`, `http` and `query`.

The counters close: after a drain, received = accepted + rejected + refused (collectors) and accepted = folded +
duplicate + expired + overfull (aggregators), counted in values, if no process was killed: they start at 0 with it. Of
values refused for want of an ack some may be in Kafka, and then are folded too: those refused for another reason than
memory or stopping. Records put aside are counted as records; what was in them nobody can tell.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for every counter, that nobody asked for

DELAY_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Telemetry:
    """Counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        # both
        self.clock_difference = Gauge(
            "metrics_app_clock_difference_seconds",
            "Kafka's clock minus that of this process, the greatest that a role knows; 0 when they may be equal.",
            ["role"],
            registry=registry,
        )
        self.clock_disagreements = Counter(
            "metrics_app_clock_disagreements",
            "Stamps of Kafka that differ from the clock of this process by more than METRICS_CLOCK_TOLERANCE_S.",
            ["kafka"],
            registry=registry,
        )
        self.loop_delay = Histogram(
            "metrics_app_event_loop_delay_seconds",
            "How late the event loop comes back to a task that waited: what every request waits, at each of its steps.",
            buckets=DELAY_S,
            registry=registry,
        )
        # collection
        self.received = Counter("metrics_app_received_values", "Values read from request bodies.", registry=registry)
        self.accepted = Counter(
            "metrics_app_accepted_values", "Values acknowledged by Kafka and answered 202.", registry=registry
        )
        self.rejected = Counter(
            "metrics_app_rejected_values", "Values refused as unusable, by reason.", ["reason"], registry=registry
        )
        self.refused = Counter(
            "metrics_app_refused_values", "Values not kept for want of Kafka or memory.", ["reason"], registry=registry
        )
        self.requests = Counter(
            "metrics_app_http_requests", "HTTP requests answered.", ["route", "status"], registry=registry
        )
        self.client_dropped = Counter(
            "metrics_app_client_dropped_values",
            "Values that clients say they could not send, by reason.",
            ["reason"],
            registry=registry,
        )
        self.produced = Counter("metrics_app_produced_records", "Kafka records acknowledged.", registry=registry)
        self.pending = Gauge("metrics_app_pending_bytes", "Samples held until Kafka acknowledges.", registry=registry)
        self.ack_latency = Histogram(
            "metrics_app_ack_seconds",
            "From a gathered batch to the broker's ack.",
            buckets=LATENCY_S,
            registry=registry,
        )
        # aggregation
        self.folded = Counter(
            "metrics_app_folded_values", "Values merged into hourly rows and durable.", registry=registry
        )
        self.folded_records = Counter("metrics_app_folded_records", "Kafka records folded.", registry=registry)
        self.duplicate = Counter(
            "metrics_app_duplicate_values",
            "Values already counted and left out, by fence.",
            ["fence"],
            registry=registry,
        )
        self.replayed = Counter(
            "metrics_app_replayed_records", "Records delivered again and skipped.", registry=registry
        )
        self.late = Counter("metrics_app_late_values", "Values folded after their hour had closed.", registry=registry)
        self.unfenced = Counter(
            "metrics_app_unfenced_values",
            "Values folded whose repetition would count again: their row has no room for more senders or gaps.",
            registry=registry,
        )
        self.ahead = Counter(
            "metrics_app_ahead_values",
            "Values folded into an hour that had not begun when Kafka took them: a collector's clock is ahead.",
            registry=registry,
        )
        self.expired = Counter(
            "metrics_app_expired_values", "Values beyond retention when folded, left out.", registry=registry
        )
        self.overfull = Counter(
            "metrics_app_overfull_values",
            "Values left out because their key has 2^62 in that hour already.",
            registry=registry,
        )
        self.holes = Counter("metrics_app_offset_holes", "Skipped offsets sought back.", registry=registry)
        self.lost = Counter(
            "metrics_app_lost_records", "Records deleted by Kafka's retention before being folded.", registry=registry
        )
        self.log_truncated = Counter(
            "metrics_app_log_truncated",
            "Partitions of the samples topic that were found to be another log, or cut.",
            registry=registry,
        )
        self.state_rebuilds = Counter(
            "metrics_app_state_rebuilds",
            "Local copies of a partition given up for the changelog.",
            ["reason"],
            registry=registry,
        )
        self.bad_rows = Counter(
            "metrics_app_bad_changelog_records",
            "Records of the changelog that are no whole rows of their partition and were not taken in.",
            registry=registry,
        )
        self.sealed_rows = Counter(
            "metrics_app_sealed_rows",
            "Rows written to the changelog once more: their hour had closed, or an older state was last.",
            registry=registry,
        )
        self.dead_lettered = Counter(
            "metrics_app_dead_lettered_records",
            "Records moved to the dead-letter topic.",
            ["reason"],
            registry=registry,
        )
        self.stopped = Gauge(
            "metrics_app_stopped_partitions",
            "Partitions of which nothing more is folded until a restart: too many of their records were put aside.",
            registry=registry,
        )
        self.rebalances = Counter(
            "metrics_app_rebalances", "Times partitions were assigned to this worker anew.", registry=registry
        )
        self.id_horizon = Gauge(
            "metrics_app_id_horizon_seconds",
            "How long ago an id or idempotency key may have come and is known, in every partition of this worker.",
            registry=registry,
        )
        self.flushes = Counter("metrics_app_flushes", "Flushes acknowledged by the changelog.", registry=registry)
        self.flushed_rows = Counter("metrics_app_flushed_rows", "Rows written by flushes.", registry=registry)
        self.flush_latency = Histogram(
            "metrics_app_flush_seconds", "Duration of a flush, acks included.", buckets=LATENCY_S, registry=registry
        )
        self.rows_in_memory = Gauge("metrics_app_rows_in_memory", "Rows of the overlay.", registry=registry)
        self.lag = Gauge(
            "metrics_app_lag_records", "Records of the partition not yet folded.", ["partition"], registry=registry
        )
        # query
        self.forwards = Counter(
            "metrics_app_forwards", "Queries passed to another worker, by outcome.", ["outcome"], registry=registry
        )

    def exposition(self) -> bytes:
        """All values in the Prometheus text format."""
        return generate_latest(self.registry)
