"""Where the roles meet: settings and a role make a Faust app.

Called by `serving`, `worker` and `cli.roles`.

    all         HTTP -> collector -> Kafka -> aggregator -> table -> query -> HTTP, behind one port
    collector   HTTP -> collector -> Kafka                       no tables, so its restarts rebalance nothing
    aggregator  Kafka -> aggregator -> table -> query -> HTTP
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any, Literal, cast

import mode
from faust.web.drivers.aiohttp import Web

from metrics_app.aggregator import letter_views
from metrics_app.aggregator import role as aggregator
from metrics_app.collector import otlp
from metrics_app.collector import views as collector
from metrics_app.collector.statsd import StatsdListener
from metrics_app.faust_runtime.app import OrderedApp
from metrics_app.faust_runtime.group import Assignor
from metrics_app.faust_runtime.small_requests import AT_ONCE, AtOnce
from metrics_app.faust_runtime.tables import Tables
from metrics_app.http import problems, tls
from metrics_app.http.access import Access, check_settings
from metrics_app.http.health import register_health
from metrics_app.http.problems import HANDLER_ARGS, Health, problem_middleware
from metrics_app.http.tokens import TokensWatch
from metrics_app.kafka import connections, reaching, topics
from metrics_app.kafka.watch import TopicsWatch
from metrics_app.query import views as query
from metrics_app.query.federated import PATH as FEDERATE_PATH
from metrics_app.query.keys import PATH as KEYS_PATH
from metrics_app.query.merged import PATH as MERGE_PATH
from metrics_app.settings import Settings
from metrics_app.system import views as system
from metrics_app.system.meter import Meter
from metrics_app.telemetry import Telemetry
from metrics_app.ui import pages

logger = logging.getLogger(__name__)

DELAY_INTERVAL_S = 0.02

Role = Literal["collector", "aggregator", "all"]


class KafkaGate(mode.Service):
    """Holds back everything that needs Kafka until it answers and the topics are as they should be."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.open = False
        self._said = f"waiting for Kafka at {settings.kafka}"

    def problem(self) -> str | None:
        """What is waited for; None once Kafka can be used."""
        return None if self.open else self._said

    async def on_start(self) -> None:
        """Returns when Kafka is there.

        Raises:
            BrokerError: it is there and cannot be used as configured.
        """
        await reaching.wait(self.settings, self._say)
        await topics.ensure(self.settings, self._say, patience_s=math.inf)
        self.open = True

    def _say(self, line: str) -> None:
        logger.info("%s", line)
        self._said = line


class LoopDelay(mode.Service):
    """Measures how late the event loop is, all the time."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self._telemetry = telemetry

    @mode.Service.task
    async def _measure(self) -> None:
        clock = asyncio.get_running_loop().time
        while not self.should_stop:
            due = clock() + DELAY_INTERVAL_S
            await asyncio.sleep(DELAY_INTERVAL_S)
            self._telemetry.loop_delay.observe(max(0.0, clock() - due))


class MetricsApp(OrderedApp):
    """The app of one role, which waits for Kafka and drains before it stops.

    Attributes:
        access: who may come in.
        health: readiness checks of this process.
        trusted: whom this process trusts to be another worker; None where it asks none.
    """

    def __init__(self, settings: Settings, role: Role, access: Access, **options: Any) -> None:
        self.settings = settings
        self.access = access
        self.health = Health()
        self.kafka_gate = KafkaGate(settings)
        self.trusted: ssl.SSLContext | None = None
        folds = role != "collector"
        super().__init__(
            settings.aggregator_id if folds else settings.collector_id,
            folds=folds,
            gate=self.kafka_gate,
            samples_topic=settings.samples_topic,
            max_connections=settings.max_connections,
            close_s=settings.stop_grace_s / 4,
            **options,
        )

    def renew(self) -> None:
        """Reads the files of METRICS_TLS_* and METRICS_TOKENS_FILE again; connections that are made stay as they are.

        Raises:
            SettingsError: one cannot be used; what was shown and trusted before still is.
        """
        if self.access.tokens is not None:
            self.access.tokens.read_again()
        shown = tls.server_side(self.settings)
        if self.trusted is not None:
            tls.trust_anew(self.trusted, self.settings)
        if shown is not None:
            self.bounded_web.show(shown)
            logger.info("SIGHUP: the certificates were read again")

    async def on_stop(self) -> None:
        """Takes the process out of service first, drains the roles while Kafka is connected, then stops Faust."""
        self.health.stopping = True
        for service in chain(self.before_kafka, self.after_tables):
            await service.stop()
        if self.folds and self.kafka_gate.open:
            await self.consumer.commit()
        await super().on_stop()


def create_app(settings: Settings, role: Role) -> MetricsApp:
    """A Faust app of one role, not started; nothing is contacted yet."""
    check_settings(settings, role)
    telemetry, access = Telemetry(), Access(settings)
    app = MetricsApp(settings, role, access, **_options(settings, telemetry, access))
    register_health(app, telemetry, app.health)
    watch = TopicsWatch(settings)
    app.health.checks["topics"] = watch.problem
    telemetry.ready.set_function(lambda: not app.health.problems())
    if role == "aggregator":
        app.health.checks["kafka"] = app.kafka_gate.problem
        problems.register(app, "POST", [collector.PATH, *otlp.PATHS], "collector", settings.collector_url)
    else:
        publisher, intake = collector.register(app, settings, telemetry, app.health, access, watch.problem)
        otlp.register(app, settings, intake)
        if settings.statsd:
            listener = StatsdListener(settings, telemetry, publisher, partial(intake.admission, "statsd"))
            app.before_kafka.append(listener)  # it stops before the publisher does
        app.health.checks["kafka"] = publisher.problem  # it knows more than the gate: also outages after the start
        app.before_kafka.append(publisher)
    is_dated = (lambda: True) if role == "aggregator" else (lambda: publisher.clocks.is_vouched_for)
    if role == "collector":
        problems.register(
            app,
            "GET",
            (*pages.PAGES, KEYS_PATH, FEDERATE_PATH, MERGE_PATH, *query.PATHS),
            "aggregator",
            settings.aggregator_url,
        )
        reader, router = None, None
    else:
        pages.register(app)
        letter_views.register(app, settings)
        parts = aggregator.register(app, settings, telemetry, app.health, watch)
        reader, router = parts.reader, query.register(app, settings, telemetry, parts.reader, parts.owners)
        app.trusted = router.peers.tls
        if settings.small_request_lane:
            answers = query.at_once(settings, telemetry, parts.reader, access)
            cast(Web, app.web).web_app[AT_ONCE] = AtOnce(answers.answer, is_dated)
        app.before_kafka.extend(parts.before_kafka)
        app.after_tables.extend(parts.services)
        app.committable = parts.committable
    meter = Meter(telemetry, settings.data_dir)
    here = system.Here(settings, role, version("metrics-app"), telemetry, app.health, meter, reader)
    system.register(app, here, router)
    app.before_kafka += [watch, LoopDelay(telemetry), meter]
    if access.tokens is not None:
        app.health.warnings["tokens"] = access.tokens.problem
        app.before_kafka.append(TokensWatch(access.tokens))
    return app


def _options(settings: Settings, telemetry: Telemetry, access: Access) -> dict[str, Any]:
    """Faust's settings; those that keep the promises are set here and nowhere else (docs/adr/0001)."""
    urls, credentials = connections.faust_broker(settings)
    return {
        "broker": urls,
        "broker_credentials": credentials,
        "datadir": str(settings.data_dir).replace("{", "{{").replace("}", "}}"),  # Faust takes it for a template
        "autodiscover": False,
        "processing_guarantee": "at_least_once",
        "topic_partitions": settings.partitions,
        "topic_replication_factor": settings.replication,
        "topic_allow_declare": False,  # ours are made and checked by kafka.topics
        "topic_disable_leader": True,
        "table_standby_replicas": settings.standby_replicas,
        "PartitionAssignor": Assignor,
        "TableManager": Tables,
        "consumer_group_instance_id": settings.instance_id or None,
        "broker_session_timeout": float(settings.session_timeout_s),
        "broker_heartbeat_interval": settings.session_timeout_s / 4,
        "broker_rebalance_timeout": 60.0,
        "broker_request_timeout": 90.0,
        "broker_commit_interval": 1.0,
        "stream_buffer_maxsize": 64,  # runs of records, each of which may be half a megabyte
        "stream_wait_empty": False,  # what is not flushed is replayed; waiting for it could last for ever
        "consumer_max_fetch_size": connections.READ_AHEAD_BYTES,
        "consumer_auto_offset_reset": "earliest",
        "producer_acks": -1,
        "producer_request_timeout": 0.8 * settings.session_timeout_s,
        "canonical_url": settings.url,
        "web_bind": settings.host,
        "web_port": settings.port,
        "web_ssl_context": tls.server_side(settings),
        "web_tables_enabled": False,
        "web_router_enabled": False,
        "web_application_options": {
            "client_max_size": settings.max_body_bytes,
            "middlewares": [problem_middleware(telemetry, access)],
            "handler_args": HANDLER_ARGS,
        },
    }
