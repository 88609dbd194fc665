"""An installation each of whose links passes a proxy of its own: to the collector, to Kafka, between aggregators.

Called by `test_links`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import HOST, free_port
from metrics_app.kafka.storage import Storage
from metrics_app.verify.plan import Plan
from tests.faults.installation import Installation
from tests.faults.proxy import FAIR, Proxy

APP, COLLECTOR, AGGREGATOR, PEERS = "app-collector", "collector-kafka", "aggregator-kafka", "worker-worker"
WORKERS = {"c": "collector", "a": "aggregator", "b": "aggregator"}


class ListenersStorage(Storage):
    """Gives Kafka a listener for each proxy before it: it tells the clients of each the address of their proxy."""

    proxied: dict[int, int]  # port of the proxy by port of the listener

    def write_properties(self, port: int, controller_port: int, advertised: str, run: str) -> None:
        """As for one listener, and lines that win over those."""
        super().write_properties(port, controller_port, advertised, run)
        names = {f"LINK{listener}": (listener, proxy) for listener, proxy in self.proxied.items()}
        listeners = [f"{name}://{HOST}:{own}" for name, (own, _) in names.items()]
        told = [f"{name}://{HOST}:{proxy}" for name, (_, proxy) in names.items()]
        safe = [f"{name}:PLAINTEXT" for name in ("CLIENTS", "CONTROLLER", *names)]
        usual = [f"CLIENTS://{HOST}:{port}", f"CONTROLLER://{HOST}:{controller_port}"]
        with self.server_properties.open("a") as file:
            file.write(f"listeners={','.join(usual + listeners)}\n")
            file.write(f"advertised.listeners={','.join([f'CLIENTS://{advertised}', *told])}\n")
            file.write(f"listener.security.protocol.map={','.join(safe)}\n")


class Links:
    """The proxies by link, and what runs behind them.

    The collector `c` and the aggregator `a` each have a link to Kafka of their own; the aggregator `b` has none that
    is ever disturbed. `worker-worker` is the way to `a` and to `b` alike.
    """

    def __init__(self, installation: Installation, proxies: dict[str, list[Proxy]]) -> None:
        self.installation = installation
        self.proxies = proxies

    def weather(self, link: str, **weather: Any) -> None:
        """Fair weather everywhere but for what is named, on one link."""
        for name, proxies in self.proxies.items():
            for proxy in proxies:
                proxy.weather = dataclasses.replace(FAIR, **(weather if name == link else {}))

    def did(self, link: str, what: str) -> int:
        """How often the proxies of a link did something."""
        return sum(proxy.did[what] for proxy in self.proxies[link])

    def plan(self, rate: float) -> Plan:
        """Load that comes by the proxy before the collector."""
        (proxy,) = self.proxies[APP]
        return dataclasses.replace(self.installation.plan(rate, batch=20), urls=(proxy.url,))


@contextlib.asynccontextmanager
async def links(folder: Path, settings: dict[str, str]) -> AsyncIterator[Links]:
    """All of it, ready."""
    installation = Installation(folder, WORKERS, settings)
    ports = {name: int(worker.url.rpartition(":")[2]) for name, worker in installation.workers.items()}
    targets = {APP: [ports["c"]], COLLECTOR: [free_port()], AGGREGATOR: [free_port()], PEERS: [ports["a"], ports["b"]]}
    async with contextlib.AsyncExitStack() as stack:
        proxies = {
            link: [await stack.enter_async_context(Proxy(port, installation.seed)) for port in behind]
            for link, behind in targets.items()
        }
        installation.kafka = _kafka(installation.kafka, [*proxies[COLLECTOR], *proxies[AGGREGATOR]])
        for name, link in (("c", COLLECTOR), ("a", AGGREGATOR)):
            installation.workers[name].settings["METRICS_KAFKA"] = f"{HOST}:{proxies[link][0].port}"
        for name, proxy in zip("ab", proxies[PEERS], strict=True):
            installation.workers[name].settings["METRICS_ADVERTISED_URL"] = proxy.url
        await asyncio.to_thread(installation.__enter__)  # the proxies pass on what the workers need to become ready
        stack.push_async_exit(lambda *failure: asyncio.to_thread(installation.__exit__, *failure))
        yield Links(installation, proxies)


def _kafka(kafka: EmbeddedKafka, proxies: list[Proxy]) -> EmbeddedKafka:
    storage = ListenersStorage(kafka.storage.folder)
    storage.proxied = {proxy.target_port: proxy.port for proxy in proxies}
    kafka.storage = storage
    return kafka
