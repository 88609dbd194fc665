"""The processes of `metrics-app up`: which, on which ports, and how each tells that it is ready."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path

from metrics_app.cli.supervisor import Program
from metrics_app.errors import SettingsError
from metrics_app.settings import Settings

KAFKA_PORT = 9092
PORTS_TRIED = 100
PROBE_TIMEOUT_S = 2.0
OURSELVES = (sys.executable, "-m", "metrics_app")


def plan(settings: Settings, workers: int, embedded: bool) -> list[list[Program]]:
    """The programs, by stage: Kafka, if it is ours, then the workers.

    Raises:
        SettingsError: a port is taken, or there is no such port.
    """
    ports = [settings.port + i for i in range(workers)]
    refuse_taken(settings.host, ports)
    if not embedded:
        return [[worker(settings, i, settings.kafka, workers) for i in range(workers)]]
    kafka_port = free_port(KAFKA_PORT, ports)
    bootstrap = f"127.0.0.1:{kafka_port}"
    return [[kafka(settings.data_dir, kafka_port)], [worker(settings, i, bootstrap, workers) for i in range(workers)]]


def kafka(data_dir: Path, port: int) -> Program:
    """The embedded Kafka; ready when it answers."""
    command = (*OURSELVES, "kafka", "--port", str(port), "--data-dir", str(data_dir / "kafka"))
    return Program("kafka", command, answers_kafka(port))


def worker(settings: Settings, i: int, bootstrap: str, workers: int) -> Program:
    """Worker number i, with a port and a data folder of its own; ready when /readyz says so."""
    port, name = settings.port + i, f"worker-{i}"
    command = (*OURSELVES, "all", "--host", settings.host, "--port", str(port))
    environment = {"METRICS_KAFKA": bootstrap}
    if workers > 1:
        environment["METRICS_ADVERTISED_URL"] = ""  # one URL for all of them would send every query to one
    reachable = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
    return Program(
        name, (*command, "--data-dir", str(settings.data_dir / name)), answers_ready(reachable, port), environment
    )


def answers_kafka(port: int) -> Callable[[], Awaitable[bool]]:
    """A probe: does a Kafka answer there?"""
    from metrics_app.broker.ports import answers

    async def probe() -> bool:
        return await asyncio.to_thread(answers, port)

    return probe


def answers_ready(host: str, port: int) -> Callable[[], Awaitable[bool]]:
    """A probe: does /readyz answer 200 there?"""
    import aiohttp

    async def probe() -> bool:
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(f"http://{host}:{port}/readyz") as reply,
            ):
                return reply.status == HTTPStatus.OK
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    return probe


def refuse_taken(host: str, ports: Sequence[int]) -> None:
    """Raises SettingsError for the ports that cannot be listened on."""
    taken = [port for port in ports if not is_free(host, port)]
    if taken:
        listed = ", ".join(map(str, taken))
        raise SettingsError([f"port {listed} on {host}: cannot be listened on; choose another with --port"])


def free_port(first: int, avoid: Sequence[int]) -> int:
    """The lowest port from `first` on that is free on the loopback address and not in `avoid`."""
    for port in range(first, first + PORTS_TRIED):
        if port not in avoid and is_free("127.0.0.1", port):
            return port
    raise SettingsError([f"no free port for Kafka from {first} to {first + PORTS_TRIED - 1}"])


def is_free(host: str, port: int) -> bool:
    """Whether a server may listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError):
            return False
    return True
