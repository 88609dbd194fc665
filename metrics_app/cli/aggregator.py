"""`metrics-app aggregator`."""

from __future__ import annotations

from metrics_app.cli.role import DataDir, Host, Port, serve_role
from metrics_app.cli.terminal import examples

EXAMPLES = examples(
    "metrics-app aggregator --port 8081 --data-dir data/aggregator",
    "METRICS_KAFKA=kafka:9092 metrics-app aggregator --host 0.0.0.0 --data-dir /data",
)


def aggregator(port: Port = None, host: Host = None, data_dir: DataDir = None) -> None:
    """Run one aggregator: folds samples into hours and answers queries.

    Aggregators share the partitions among themselves; each needs a data folder of its own.
    """
    serve_role("aggregator", port, host, data_dir)
