"""`metrics-app all`."""

from __future__ import annotations

from metrics_app.cli.role import DataDir, Host, Port, serve_role
from metrics_app.cli.terminal import examples

EXAMPLES = examples("metrics-app all --port 8080 --data-dir data/worker-0")


def all_roles(port: Port = None, host: Host = None, data_dir: DataDir = None) -> None:
    """Run one worker that is collector and aggregator behind one port; `up` runs these."""
    serve_role("all", port, host, data_dir)
