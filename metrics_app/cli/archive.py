"""`metrics-app archive`: keeps each closed hour as Parquet, for longer than the service does.

Called by `main`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metrics_app.cli.dlq import PATIENCE_S, where_kafka_is
from metrics_app.cli.terminal import examples, print_json, print_line, say

if TYPE_CHECKING:
    from metrics_app.archive.following import ArchivePass, Follower

EXAMPLES = examples(
    "metrics-app archive --to /srv/metrics-archive",
    "metrics-app archive --to /srv/metrics-archive --once --json",
)
MIB = 1 << 20


def archive(
    to: Annotated[str, typer.Option(help="Folder to archive to; it is made if need be.")],
    once: Annotated[bool, typer.Option("--once", help="Archive what is closed now, and end.")] = False,
    interval: Annotated[float, typer.Option(min=1, max=3600, help="Seconds from one pass to the next.")] = 60.0,
    memory: Annotated[
        int, typer.Option(min=1, max=65536, help="MiB of rows to hold at a time, of each partition.")
    ] = 512,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Archive each closed hour of each partition as a Parquet file, with a manifest; late values bring newer versions.

    It reads the changelog in Kafka, asks no worker, and may be killed and started again at any time.
    """
    from metrics_app.archive.folder import Folder
    from metrics_app.archive.following import Follower
    from metrics_app.archive.keeping import Archive
    from metrics_app.archive.parquet import pyarrow

    if "://" in to:
        raise typer.BadParameter(f"{to}: expected a folder", param_hint="--to")
    pyarrow()
    folder = Folder(Path(to))
    with folder.locked():
        follower = Follower(where_kafka_is(), Archive(folder), say, memory * MIB)
        asyncio.run(_follow(follower, None if once else interval, json))


async def _follow(follower: Follower, interval_s: float | None, json: bool) -> None:
    """One pass, or with an interval one after another, also while Kafka is away."""
    from aiokafka.errors import KafkaError

    from metrics_app.errors import BrokerError
    from metrics_app.kafka import reaching

    await reaching.wait(follower.settings, say, PATIENCE_S)
    while True:
        try:
            _tell(await follower.once(), json, always=interval_s is None)
        except (KafkaError, OSError, TimeoutError) as error:
            if interval_s is None:
                raise BrokerError(f"Kafka at {follower.settings.kafka} does not answer: {error!r}") from error
            say(f"Kafka at {follower.settings.kafka} does not answer: {error!r}")
        if interval_s is None:
            return
        await asyncio.sleep(interval_s)


def _tell(done: ArchivePass, json: bool, always: bool) -> None:
    if not always and not any(done):
        return
    if json:
        print_json(done._asdict())
        return
    print_line(f"{done.hours} hours archived, {done.corrected} corrected: {done.rows:,} rows, {done.values:,} values")
