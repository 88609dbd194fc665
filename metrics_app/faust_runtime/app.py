"""Starts and stops a Faust app in our order: the web server first, Kafka when it is usable, tables last.

Called by `app`, which says what is started at each point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, cast

import faust
from faust.app import base
from faust.types import ConsumerT, ServiceT

from metrics_app.faust_runtime.consumer import RunConsumer
from metrics_app.faust_runtime.web_server import BoundedWeb


class OrderedApp(faust.App):
    """A Faust app whose roles decide what starts before Kafka and after the tables; Faust stops in the reverse order.

    Args:
        folds: whether it has tables; an app without them never joins a group.
        gate: started before everything that needs Kafka, which waits until it has started.
        samples_topic: the topic that is handed on in runs, see `RunConsumer`.
        max_connections: of the web server.
        close_s: how long the web server waits for open requests when it stops.
    Attributes:
        before_kafka, after_tables: services started at these points.
        committable: the offset up to which a partition of the samples topic is durably folded, to be committed.
    """

    class BootStrategy(base.BootStrategy):
        """Order of start."""

        def server(self) -> Iterable[ServiceT]:
            """Web, then the gate, then what needs Kafka."""
            app = cast(OrderedApp, self.app)
            if not app.folds:
                return chain(self.web_server(), app.before_kafka)
            return chain(
                self.web_server(),
                app.before_kafka,
                [app.gate],
                self.kafka_producer(),
                self.kafka_consumer(),
                self.agents(),
                self.kafka_conductor(),
                self.tables(),
                app.after_tables,
            )

    def __init__(
        self,
        name: str,
        *,
        folds: bool,
        gate: ServiceT,
        samples_topic: str,
        max_connections: int,
        close_s: float,
        **options: Any,
    ) -> None:
        self.folds, self.gate, self.samples_topic = folds, gate, samples_topic
        self.max_connections, self.close_s = max_connections, close_s
        self.before_kafka: list[ServiceT] = []
        self.after_tables: list[ServiceT] = []
        self.committable: Callable[[int], int | None] = lambda partition: None
        super().__init__(name, **options)

    @property
    def bounded_web(self) -> BoundedWeb:
        """The web server."""
        return cast(BoundedWeb, self.web)

    def _new_web(self) -> BoundedWeb:
        return BoundedWeb(self, self.max_connections, self.close_s)

    def _new_consumer(self) -> ConsumerT:
        cast(Any, self.transport).Consumer = RunConsumer
        consumer = cast(RunConsumer, super()._new_consumer())
        consumer.topic, consumer.committable = self.samples_topic, self.committable
        return consumer

    async def _wait_for_table_recovery_completed(self) -> bool:
        # without tables Faust would wait here for ever
        return await super()._wait_for_table_recovery_completed() if self.folds else False
