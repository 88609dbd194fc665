"""The processes of `metrics-app up`: which, on which ports, and how each tells that it is ready."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path

from metrics_app.broker.embedded import DEFAULT_PORT
from metrics_app.broker.ports import answers, free_from, is_free
from metrics_app.broker.storage import Storage
from metrics_app.cli.supervisor import Program
from metrics_app.errors import SettingsError
from metrics_app.last_resort import EXIT_UNUSABLE
from metrics_app.settings import Settings

PROBE_TIMEOUT_S = 2.0
OURSELVES = (sys.executable, "-m", "metrics_app")


def plan(settings: Settings, workers: int, embedded: bool) -> list[list[Program]]:
    """The programs, by stage: Kafka, if it is ours, then the workers.

    Raises:
        SettingsError: a port is taken, or there is no such port.
    """
    ports = [settings.port + i for i in range(workers)]
    folder = settings.data_dir.absolute()  # so that a process tells by its command whose it is
    refuse_taken(settings.host, ports)
    if not embedded:
        return [[worker(settings, folder, i, settings.kafka, workers) for i in range(workers)]]
    kafka_port = port_of_kafka(avoid=ports)
    bootstrap = f"127.0.0.1:{kafka_port}"
    return [[kafka(folder, kafka_port)], [worker(settings, folder, i, bootstrap, workers) for i in range(workers)]]


def kafka(data_dir: Path, port: int) -> Program:
    """The embedded Kafka; ready when it answers."""
    command = (*OURSELVES, "kafka", "--port", str(port), "--data-dir", str(data_dir / "kafka"))
    return Program("kafka", command, answers_kafka(Storage(data_dir / "kafka"), port))


def worker(settings: Settings, folder: Path, i: int, bootstrap: str, workers: int) -> Program:
    """Worker number i, with a port and a data folder of its own; ready when /readyz says so."""
    port, name = settings.port + i, f"worker-{i}"
    command = (*OURSELVES, "all", "--host", settings.host, "--port", str(port))
    environment = {"METRICS_KAFKA": bootstrap}
    if workers > 1:
        environment["METRICS_ADVERTISED_URL"] = ""  # one URL for all of them would send every query to one
    scheme = "http" if settings.tls_cert_file is None else "https"
    base = f"{scheme}://{'127.0.0.1' if settings.host == '0.0.0.0' else settings.host}:{port}"
    return Program(
        name, (*command, "--data-dir", str(folder / name)), answers_ready(base), environment, hopeless=EXIT_UNUSABLE
    )


def answers_kafka(storage: Storage, port: int) -> Callable[[], Awaitable[bool]]:
    """A probe: does the Kafka of that folder run, and answer there? Another one that answers there is not it."""

    async def probe() -> bool:
        return storage.runs() and await asyncio.to_thread(answers, port)

    return probe


def answers_ready(base: str) -> Callable[[], Awaitable[bool]]:
    """A probe of a program of our own: does /readyz answer 200 under that URL?"""
    import aiohttp

    async def probe() -> bool:
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                # whose certificate it is does not matter: nothing is told to it, and nothing believed but its status
                session.get(f"{base}/readyz", ssl=False) as reply,
            ):
                return reply.status == HTTPStatus.OK
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    return probe


def refuse_taken(host: str, ports: Sequence[int]) -> None:
    """Raises SettingsError for the ports that cannot be listened on."""
    taken = [port for port in ports if not is_free(port, host)]
    if taken:
        listed = ", ".join(map(str, taken))
        raise SettingsError([f"port {listed} on {host}: cannot be listened on; choose another with --port"])


def port_of_kafka(avoid: Sequence[int]) -> int:
    """The lowest free port from Kafka's own on.

    Raises:
        SettingsError: there is none.
    """
    port = free_from(DEFAULT_PORT, avoid=avoid)
    if port is None:
        raise SettingsError([f"no free port for Kafka from {DEFAULT_PORT} on"])
    return port
