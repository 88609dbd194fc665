"""What the commands that run one worker share: their options, and the step from settings to a running app."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

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

    from metrics_app import settings
    from metrics_app.app import create_app  # takes a second: only here
    from metrics_app.serving import serve

    effective = settings.load(port=port, host=host, data_dir=data_dir)
    serve(create_app(effective, role), effective)
