"""The processes of `metrics-app up`: which they are, on which ports, and how to ask each whether it is ready.

Called by `up`, and by `machine`, which asks who listens on a port.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

import msgspec

from metrics_app.cli import brokers
from metrics_app.cli.brokers import HOPELESS, OURSELVES
from metrics_app.cli.child import Probe, Program
from metrics_app.errors import SettingsError
from metrics_app.kafka import belonging
from metrics_app.kafka.ports import is_free
from metrics_app.kafka.storage import Storage
from metrics_app.settings import Settings

PROBE_TIMEOUT_S = 5.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def plan(settings: Settings, workers: int, embedded: bool, count: int = 1) -> list[list[Program]]:
    """The programs, by stage: Kafka, if it is ours, of `count` brokers, then the workers.

    Raises:
        SettingsError: a port is taken, or there is no such port; or more replicas are asked for than our Kafka has; or
            a certificate cannot be read.
    """
    ports = [settings.port + i for i in range(workers)]
    folder = settings.data_dir.absolute()  # so that a process tells by its command whose it is
    refuse_taken(settings.host, ports)
    if not embedded:
        share_note(folder, workers)
        return [[worker(settings, folder, i, workers) for i in range(workers)]]
    if settings.replication > count:
        problem = (
            f"METRICS_REPLICATION: {settings.replication} replicas need as many brokers, and the embedded Kafka is"
        )
        raise SettingsError([f"{problem} of {count}: see --brokers, or name a Kafka of that size in METRICS_KAFKA"])
    kafka = brokers.storages(folder, count)
    return [brokers.programs(kafka, ports), [worker(settings, folder, i, workers, kafka) for i in range(workers)]]


def worker(settings: Settings, folder: Path, i: int, workers: int, kafka: Sequence[Storage] = ()) -> Program:
    """Worker number i, with a port and a data folder of its own, at the Kafka of folders or that of the settings."""
    port, name = settings.port + i, f"worker-{i}"
    command = (*OURSELVES, "all", "--host", settings.host, "--port", str(port), "--data-dir", str(folder / name))
    # one URL for all of them would send every query to one
    common = {"METRICS_ADVERTISED_URL": ""} if workers > 1 else {}
    if i:
        common["METRICS_STATSD"] = ""  # one of them has the socket
    if secret := settings.cluster_token.get_secret_value():
        common["METRICS_CLUSTER_TOKEN"] = secret

    def environment() -> Mapping[str, str]:
        if not kafka:
            return common | {"METRICS_KAFKA": settings.kafka}
        return common | {"METRICS_REPLICATION": str(settings.replication)} | brokers.address_of(kafka)

    base, shown = base_url(settings, port), shown_to(settings)
    ready, alive = (answers(f"{base}{path}", shown) for path in ("/readyz", "/livez"))
    return Program(name, command, ready, alive, environment, HOPELESS)


def share_note(folder: Path, workers: int) -> None:
    """Copies the note of the Kafka that the workers belong to into the folder of a new worker."""
    if cluster_id := belonging.noted_in_any(folder):
        for each in (folder / f"worker-{i}" for i in range(workers)):
            if not belonging.noted(each):
                belonging.note(each, cluster_id)


def base_url(settings: Settings, port: int) -> str:
    """The URL at which a worker is reached from this machine."""
    host = ANY_ADDRESS.get(settings.host, settings.host)
    scheme = "http" if settings.tls_cert_file is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def answers(url: str, shown: ssl.SSLContext | bool = False) -> Probe:
    """A probe of a worker: does it, and no other process, answer 200 under that URL?

    Args:
        shown: TLS of the connection; False takes any certificate.
    """

    async def probe(pid: int) -> bool:
        return await pid_at(url, shown) == pid

    return probe


async def pid_at(url: str, shown: ssl.SSLContext | bool = False) -> int | None:
    """The process id of the worker that answers 200 under that URL; None when none does."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, ssl=shown) as reply:
            pid = msgspec.json.decode(await reply.read())["pid"] if reply.status == HTTPStatus.OK else None
            return pid if isinstance(pid, int) else None
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError, LookupError, TypeError):
        return None


def shown_to(settings: Settings) -> ssl.SSLContext | bool:
    """TLS with which a worker of this machine is asked.

    Whose certificate the worker has does not matter: nothing is told to it, and it says its process id.

    Raises:
        SettingsError: a file cannot be read.
    """
    from metrics_app.http import tls

    return False if settings.tls_client_ca_file is None else tls.unchecking(settings)


def refuse_taken(host: str, ports: Sequence[int]) -> None:
    """Raises SettingsError for the ports that cannot be listened on."""
    taken = [port for port in ports if not is_free(port, host)]
    if taken:
        listed = ", ".join(map(str, taken))
        raise SettingsError([f"port {listed} on {host}: cannot be listened on; choose another with --port"])
