"""The commands that run one worker: `collector`, `aggregator` and `all`.

Called by `main`, `settings` and `up`.

`metrics-app aggregator`.

`metrics-app all`.

`metrics-app collector`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from metrics_app.cli.terminal import examples

Port = Annotated[int | None, typer.Option(help="Port to listen on.", show_default="METRICS_PORT, else 8080")]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", show_default="METRICS_HOST, else 127.0.0.1")]
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of this worker alone.", show_default="METRICS_DATA_DIR, else data")
]


def serve_role(
    role: Literal["collector", "aggregator", "all"], port: int | None, host: str | None, data_dir: Path | None
) -> NoReturn:
    """Never: runs the role until the process is told to stop."""
    # read when numpy comes in: its threads would only wait for each other with products as small as ours
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    from metrics_app import configuration
    from metrics_app.app import create_app  # takes a second: only here
    from metrics_app.serving import serve

    effective = configuration.load(port=port, host=host, data_dir=data_dir)
    serve(create_app(effective, role), effective)


AGGREGATOR_EXAMPLES = examples(
    "metrics-app aggregator --port 8081 --data-dir data/aggregator",
    "METRICS_KAFKA=kafka:9092 METRICS_TOKENS_FILE=tokens metrics-app aggregator --host 0.0.0.0",
)


def aggregator(port: Port = None, host: Host = None, data_dir: DataDir = None) -> None:
    """Run one aggregator: folds samples into hours and answers queries.

    Aggregators share the partitions among themselves; each needs a data folder of its own.
    """
    serve_role("aggregator", port, host, data_dir)


ALL_EXAMPLES = examples("metrics-app all --port 8080 --data-dir data/worker-0")


def all_roles(port: Port = None, host: Host = None, data_dir: DataDir = None) -> None:
    """Run one worker that is collector and aggregator behind one port; `up` runs these."""
    serve_role("all", port, host, data_dir)


COLLECTOR_EXAMPLES = examples(
    "metrics-app collector", "METRICS_KAFKA=kafka:9092 METRICS_TOKENS_FILE=tokens metrics-app collector --host 0.0.0.0"
)


def collector(port: Port = None, host: Host = None, data_dir: DataDir = None) -> None:
    """Run one collector: takes samples by HTTP and answers once Kafka has them.

    Collectors keep nothing; run as many as you like behind a load balancer.
    """
    serve_role("collector", port, host, data_dir)
