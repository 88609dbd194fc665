"""The Kafka of `metrics-app up`: one broker, or several that are one cluster, each a process that is kept alive.

Called by `stages`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from metrics_app.cli.child import Probe, Program
from metrics_app.errors import SettingsError
from metrics_app.kafka.embedded import DEFAULT_PORT
from metrics_app.kafka.ports import broker_at, free_from, free_ports
from metrics_app.kafka.storage import Storage, found_in, new_cluster_id
from metrics_app.process import EXIT_SETTINGS, EXIT_UNUSABLE

HOPELESS = (EXIT_UNUSABLE, EXIT_SETTINGS)
OURSELVES = (sys.executable, "-m", "metrics_app")
HEAP_MB = 256  # of each of several


def storages(folder: Path, count: int) -> list[Storage]:
    """The folders of so many brokers in the folder of an installation.

    Raises:
        SettingsError: it holds a Kafka of another number.
    """
    found = [storage for storage in found_in(folder) if storage.log.exists()]
    if found and (len(found), found[0].folder.name == "kafka") != (count, count == 1):
        kafka = f"{folder / 'kafka'} holds a Kafka of {len(found)} {'broker' if len(found) == 1 else 'brokers'}"
        raise SettingsError([f"{kafka}, not of {count}: say --brokers {len(found)}, or choose another --data-dir"])
    if count == 1:
        return [Storage(folder / "kafka")]
    return [Storage(folder / "kafka" / f"node-{number}") for number in range(1, count + 1)]


def programs(kafka: Sequence[Storage], avoid: Sequence[int]) -> list[Program]:
    """One program for each folder. A single broker takes a port that is free, and writes down which."""
    if len(kafka) == 1:
        avoided = [option for port in avoid for option in ("--avoid", str(port))]
        return [_program("kafka", kafka[0], avoided)]
    ports = _ports(2 * len(kafka), avoid)
    cluster_id = next(filter(None, (storage.cluster_id() for storage in kafka)), "") or new_cluster_id()
    shared = ["--cluster-id", cluster_id, "--heap-mb", str(HEAP_MB)]
    shared += [option for port in ports[len(kafka) :] for option in ("--controller-port", str(port))]
    return [
        _program(f"kafka-{number}", storage, ["--node", str(number), "--port", str(port), *shared])
        for number, (storage, port) in enumerate(zip(kafka, ports[: len(kafka)], strict=True), start=1)
    ]


def _program(name: str, storage: Storage, options: Sequence[str]) -> Program:
    command = (*OURSELVES, "kafka", *options, "--data-dir", str(storage.folder))
    return Program(name, command, is_ready=answers(storage), is_alive=is_alive(storage), hopeless=HOPELESS)


def _ports(count: int, avoid: Sequence[int]) -> list[int]:
    """Ports that the brokers keep while `up` runs: below the range that the system gives to clients, if it can be."""
    first = free_from(DEFAULT_PORT, count, avoid)
    return free_ports(count) if first is None else list(range(first, first + count))


def address_of(kafka: Sequence[Storage]) -> dict[str, str]:
    """The settings that connect a worker to the brokers of these folders, and not to others on their ports."""
    addresses = [address for storage in kafka if (address := storage.address())]
    if not addresses:
        return {}
    return {
        "METRICS_KAFKA": ",".join(address.bootstrap for address in addresses),
        "METRICS_KAFKA_CLUSTER_ID": addresses[0].broker.cluster_id,
        "METRICS_KAFKA_PROTOCOL": "PLAINTEXT",
    }


def answers(storage: Storage) -> Probe:
    """A probe: does the Kafka of that folder run, and answer? Another one that answers in its place is not it."""

    async def probe(_pid: int) -> bool:
        address = storage.address()
        return (
            storage.runs()
            and address is not None
            and await asyncio.to_thread(broker_at, address.port) == address.broker
        )

    return probe


def is_alive(storage: Storage) -> Probe:
    """A probe: as `answers`, but true while no Kafka runs yet, as it may still be downloading."""
    answers_now = answers(storage)

    async def probe(pid: int) -> bool:
        return not storage.runs() or await answers_now(pid)

    return probe
