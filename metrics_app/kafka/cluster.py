"""Several embedded Kafka nodes as one cluster, each of them broker and controller.

Called by tests: what is promised of a node that is lost can only be tried where there are others.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import free_ports
from metrics_app.kafka.properties import Member
from metrics_app.kafka.storage import new_cluster_id


class EmbeddedCluster:
    """Nodes 1 to `count`, in a folder each. Start, stop or kill any of them any number of times; ports and data stay.

    Args:
        folder: of all; made when missing. It is for one life of this object: its nodes' ports are new each time.
        count: number of nodes. A majority must run for the cluster to change anything.
        fenced_after_s: silence after which a node counts as dead (`broker.session.timeout.ms`); Kafka's default is 9.
        heap_mb: bound of each Java heap in MiB.
    """

    def __init__(self, folder: Path, count: int = 3, *, fenced_after_s: float = 3.0, heap_mb: int = 256) -> None:
        ports = free_ports(2 * count)
        cluster_id = new_cluster_id()
        self.nodes = {
            number: EmbeddedKafka(
                folder / f"node-{number}",
                ports[number - 1],
                heap_mb=heap_mb,
                member=Member(number, tuple(ports[count:]), cluster_id, fenced_after_s),
            )
            for number in range(1, count + 1)
        }

    @property
    def bootstrap(self) -> str:
        """Addresses for clients: "host:port,host:port"."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    @property
    def logs(self) -> list[Path]:
        """The log files of all nodes."""
        return [node.log for node in self.nodes.values()]

    def start(self) -> None:
        """Starts the nodes that do not run, all at once: none answers before most of them do.

        Raises:
            BrokerError: of a node that did not come up.
        """
        self._all(EmbeddedKafka.start)

    def stop(self) -> None:
        """Ends all nodes cleanly, by force after a while: the last ones have no majority to take leave of."""
        self._all(lambda node: node.stop(timeout_s=10.0))

    def kill(self) -> None:
        """Ends all nodes with SIGKILL."""
        self._all(EmbeddedKafka.kill)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill() if kind is not None else self.stop()

    def _all(self, what: Callable[[EmbeddedKafka], None]) -> None:
        with ThreadPoolExecutor(len(self.nodes)) as together:
            list(together.map(what, self.nodes.values()))
