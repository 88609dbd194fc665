"""Ties a data folder to one Kafka cluster. Another cluster may take over an address, but a cluster id never changes.

Called by `topics`, `cli.stages`, `serving` and `worker`.

An installation that dies leaves its ports to others, and METRICS_KAFKA may be mistyped: whoever connects to another
cluster takes half of its partitions and acknowledges values that nobody here will ever see. So the id is known before
anything is sent: METRICS_KAFKA_CLUSTER_ID, else the id of the cluster that this folder met first, noted in it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiokafka.client
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from metrics_app.settings import Settings

NOTE = "kafka-cluster"

logger = logging.getLogger(__name__)


def noted(folder: Path) -> str:
    """Id of the cluster that the folder belongs to; empty when it has met none."""
    try:
        return (folder / NOTE).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def note(folder: Path, cluster_id: str) -> None:
    """Notes to which cluster the folder belongs, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"{NOTE}.{os.getpid()}"
    try:
        new.write_text(f"{cluster_id}\n")
        new.replace(folder / NOTE)
    finally:
        new.unlink(missing_ok=True)


def noted_in_any(folder: Path) -> str:
    """The same of an installation with a folder for each worker."""
    return next(filter(None, map(noted, [folder, *sorted(folder.glob("*/"))])), "")


def objection(settings: Settings, cluster_id: str) -> str:
    """Why that cluster is not ours and what to do about it; empty if it is ours, or if we have met none so far.

    A broker too old to have an id is taken for ours.
    """
    ours = settings.kafka_cluster_id or noted(settings.data_dir)
    return _stranger(settings, cluster_id) if ours and cluster_id not in (ours, "") else ""


def _stranger(settings: Settings, cluster_id: str) -> str:
    if settings.kafka_cluster_id:
        return f"it is cluster {cluster_id}, METRICS_KAFKA_CLUSTER_ID says {settings.kafka_cluster_id}"
    return (
        f"it is cluster {cluster_id}, and {settings.data_dir} belongs to cluster {noted(settings.data_dir)}: see that "
        f"METRICS_KAFKA names the right one, or accept the new one with METRICS_KAFKA_CLUSTER_ID={cluster_id}"
    )


async def cluster_of(connection: Any) -> str:
    """Id of the cluster at the other end of an aiokafka connection; empty when the broker has none."""
    reply = await connection.send(MetadataRequest([]))
    return getattr(reply, "cluster_id", "") or ""


def guard(settings: Settings) -> None:
    """From now on no Kafka client of this process, Faust's included, gets a connection to another cluster.

    To each of them such a broker is one that cannot be reached. The first that is connected decides which is ours,
    unless that is known. aiokafka has no hook where a connection is made, and an idempotent producer that finds its
    broker's address again sends before it asks whose it is.
    """
    aiokafka.client.create_conn = _Guard(settings, aiokafka.client.create_conn)


class _Guard:
    def __init__(self, settings: Settings, connect: Callable[..., Awaitable[Any]]) -> None:
        self._settings = settings
        self._connect = connect

    async def __call__(self, host: str, port: int, **options: Any) -> Any:
        connection = await self._connect(host, port, **options)
        try:
            cluster_id = await cluster_of(connection)
            if problem := objection(self._settings, cluster_id):
                raise KafkaConnectionError(f"Kafka at {host}:{port} is not ours: {problem}")
            self._settle(cluster_id)
        except BaseException:
            connection.close()
            raise
        return connection

    def _settle(self, cluster_id: str) -> None:
        """Keeps to that cluster: by a note in the folder or, if that cannot be written, until this process ends."""
        folder, before = self._settings.data_dir, noted(self._settings.data_dir)
        if not cluster_id or cluster_id == before:
            return
        if before:
            logger.warning("%s belonged to Kafka cluster %s, and now to %s", folder, before, cluster_id)
        try:
            note(folder, cluster_id)
        except OSError as error:
            if not self._settings.kafka_cluster_id:
                logger.warning("the cluster id of Kafka cannot be noted, a restart will take any: %s", error)
            self._settings = self._settings.model_copy(update={"kafka_cluster_id": cluster_id})
