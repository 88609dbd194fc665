"""`metrics-app kafka`: a real Apache Kafka on this machine, in the foreground.

Called by `main`.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from metrics_app.cli.terminal import print_line, say


def kafka(
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port for clients; when not given that of the last start, else 9092, else the next that is free.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of Kafka's log; when not given the folder kafka in METRICS_DATA_DIR."),
    ] = None,
    avoid: Annotated[list[int], typer.Option(hidden=True, help="Ports not to be chosen.")] = [],  # noqa: B006
    node: Annotated[int, typer.Option(hidden=True, help="Number among several, from 1 on.")] = 1,
    controller_port: Annotated[list[int], typer.Option(hidden=True, help="Second port of each of several.")] = [],  # noqa: B006
    cluster_id: Annotated[str, typer.Option(hidden=True, help="Which several share.")] = "",
    heap_mb: Annotated[int, typer.Option(min=128, help="Bound of the Java heap, in MiB.")] = 384,
) -> None:
    """Run a Kafka of our own: one node, data kept on disk, on the loopback address.

    Needs no Java: the first start downloads 45 MB of jars, checked against their sha256. Ctrl-C stops it cleanly.
    """
    from metrics_app import configuration
    from metrics_app.errors import BrokerDiedError
    from metrics_app.kafka.embedded import DEFAULT_PORT, EmbeddedKafka
    from metrics_app.kafka.properties import Member

    folder = configuration.load(data_dir=data_dir).data_dir
    folder = folder if data_dir else folder / "kafka"
    member = Member(node, tuple(controller_port), cluster_id)
    broker = EmbeddedKafka(folder, port, avoid=avoid, heap_mb=heap_mb, member=member)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        broker.start()
        if port is None and broker.port != DEFAULT_PORT:
            say(f"Kafka listens on {broker.port}, not on {DEFAULT_PORT}: set METRICS_KAFKA={broker.bootstrap}")
        print_line(f"Kafka is ready on {broker.bootstrap} (pid {broker.pid}); its data and log are in {folder}")
        status = broker.wait()
        raise BrokerDiedError(f"Kafka ended with code {status}: {broker.failure()}")
    except KeyboardInterrupt:
        say("stopping Kafka")
    finally:
        broker.stop()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
