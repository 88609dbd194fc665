"""`metrics-app collector`."""

from __future__ import annotations

from metrics_app.cli.role import DataDir, Host, Port, serve_role
from metrics_app.cli.terminal import examples

EXAMPLES = examples(
    "metrics-app collector", "METRICS_KAFKA=kafka:9092 metrics-app collector --host 0.0.0.0 --port 8080"
)


def collector(port: Port = None, host: Host = None, data_dir: DataDir = None) -> None:
    """Run one collector: takes samples by HTTP and answers once Kafka has them.

    Collectors keep nothing; run as many as you like behind a load balancer.
    """
    serve_role("collector", port, host, data_dir)
