"""All settings, their limits and defaults.

Called by `app`, `logs`, `serving`, `worker`, `aggregator` and others.

Each is read from `METRICS_<NAME>`, else from a `.env` file in the working folder, else its default; secrets also from
the file named by `METRICS_<NAME>_FILE`. This module and `configuration`, which reads them, are the service's only
readers of the environment; everything else gets values.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from metrics_app.accepted import KEY_TEMPLATE, ORIGINS, STATSD, TOPIC, URL, Named, checked_host, checked_servers

PREFIX = "METRICS_"
SECRET_NAMES = ("kafka_password", "cluster_token")

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


class Settings(BaseSettings):
    """One immutable set of values for one process. The field descriptions are the reference (docs/settings.md)."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True
    )

    # where things are
    host: Annotated[str, AfterValidator(checked_host)] = Field(
        "127.0.0.1", description="Address the HTTP server binds to."
    )
    port: int = Field(8080, ge=1, le=65535, description="Port the HTTP server listens on.")
    advertised_url: str = Field("", description="URL other workers reach this one by; empty: http(s)://<host>:<port>.")
    collector_url: str = Field("", pattern=URL, description="Where an aggregator sends those with samples.")
    aggregator_url: str = Field("", pattern=URL, description="Where a collector sends those with questions.")
    data_dir: Named = Field(Path("data"), description="Folder for RocksDB and, embedded, for Kafka's log.")
    name: str = Field(
        "metrics", pattern=r"^[a-z][a-z0-9-]{0,40}$", description="Prefix of consumer groups and changelog topics."
    )

    # Kafka
    kafka: Annotated[str, AfterValidator(checked_servers)] = Field(
        "127.0.0.1:9092", description="Bootstrap servers, host:port separated by commas."
    )
    kafka_cluster_id: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="The only cluster to work with; empty: the one that the data folder met first.",
    )
    kafka_protocol: Protocol = Field("PLAINTEXT", description="Security protocol towards the brokers.")
    kafka_ca_file: Named | None = Field(None, description="CA certificates for SSL; none: the system's.")
    kafka_mechanism: Mechanism = Field("PLAIN", description="SASL mechanism.")
    kafka_username: str = Field("", description="SASL user name.")
    kafka_password: SecretStr = Field(SecretStr(""), description="SASL password; or METRICS_KAFKA_PASSWORD_FILE.")
    samples_topic: str = Field("samples", pattern=TOPIC, description="Topic the collectors produce to.")
    dead_letter_topic: str = Field("samples-dead-letters", pattern=TOPIC, description="Topic of unusable records.")
    partitions: int = Field(8, ge=1, le=512, description="Partitions of the samples topic; fixed once created.")
    replication: int = Field(1, ge=1, le=9, description="Replicas of each topic; 3 in production.")
    weak_kafka: Literal["warn", "refuse"] = Field(
        "warn",
        description="What a role does at its start where Kafka has several brokers and keeps a topic of ours, or the "
        "offsets of groups, on one of them alone: warn, or refuse to start.",
    )
    topics_check_s: float = Field(
        2.0, gt=0, le=60, description="How often a process looks whether Kafka and its topics are still the same."
    )
    samples_retention_hours: int = Field(72, ge=1, description="How long raw records stay in Kafka.")

    # clocks
    clock_tolerance_s: float = Field(
        10.0,
        ge=1,
        le=600,
        description="How far Kafka's clock and a worker's own may differ before nothing is decided by them (ADR 9).",
    )

    # collection
    linger_ms: int = Field(25, ge=0, le=1000, description="How long samples are gathered into one record.")
    request_deadline_s: float = Field(1.8, gt=0, le=60, description="Longest wait for the broker's ack, then 503.")
    body_timeout_s: float = Field(10.0, gt=0, le=300, description="Longest time a client may take to send a body.")
    max_body_bytes: int = Field(1 << 20, ge=1024, description="Largest request body as sent.")
    max_incoming_bytes: int = Field(
        64 << 20,
        ge=1024,
        description="Bytes of bodies over 64 KiB that are still to come, of one client half of it, "
        "but at least one body of each of two clients; beyond: 503.",
    )
    small_request_lane: bool = Field(
        True,
        description="Whether a small POST /samples that arrives whole, and a plain question about one hour, are "
        "answered past aiohttp's own machinery.",
    )
    max_inflated_bytes: int = Field(8 << 20, ge=1024, description="Largest request body after decompression.")
    max_items: int = Field(100_000, ge=1, description="Most samples in one request.")
    max_pending_bytes: int = Field(64 << 20, ge=1 << 20, description="Samples held unacknowledged; beyond: 503.")
    max_rows: int = Field(20_000, ge=1, description="Most rows in one request: a row is a key in an hour; beyond: 413.")
    max_rows_an_hour: int = Field(
        2_000_000,
        ge=1,
        description="New rows that one collector takes in an hour; values that would begin more are rejected.",
    )
    max_rows_of_a_client: int = Field(
        2_000_000, ge=1, description="The same for one client, by its address (GET /admin/top-senders names them)."
    )
    max_pending_rows: int = Field(
        40_000,
        ge=1,
        description="Rows held unacknowledged; a histogram counts as 8, and 4 ids as one; beyond: 503.",
    )
    max_record_bytes: int = Field(
        512 << 10,
        ge=1024,
        le=900 << 10,
        description="Largest Kafka record, and batch of records, produced; below the broker's message.max.bytes.",
    )
    max_connections: int = Field(
        2048,
        ge=1,
        description="Open HTTP connections per process, or what the limit of open files leaves; beyond: one that has "
        "asked nothing yet is closed, else 503.",
    )
    max_remembered_keys: int = Field(65_536, ge=1, description="Idempotency keys whose bodies a collector remembers.")
    max_ahead_s: int = Field(300, ge=0, description="How far ahead of the clock a timestamp may be.")

    # what else than POST /samples is taken
    statsd: str = Field("", pattern=STATSD, description="Address for statsd timings: udp://host:port or unix:///path.")
    statsd_key: str = Field("{name}", pattern=KEY_TEMPLATE, description="Key of one: its name and tags, in braces.")
    otlp_span_kinds: str = Field(
        "server,consumer",
        pattern=r"^(internal|server|client|producer|consumer)(,(internal|server|client|producer|consumer))*$",
        description="Kinds of spans whose durations are taken at /v1/traces, separated by commas.",
    )
    otlp_key: str = Field(
        "{service.name} {http.route|name}",
        pattern=KEY_TEMPLATE,
        max_length=500,
        description="Key of a span: attributes of it or its resource in braces, the first that is there of several "
        "divided by |; besides them name, kind and status (ok or error).",
    )

    # aggregation
    retention_days: int = Field(31, ge=1, le=3660, description="How long an hour stays queryable.")
    id_horizon_hours: int = Field(
        24, ge=1, le=8784, description="How long ids and idempotency keys are remembered; at most as long as hours."
    )
    flush_interval_s: float = Field(1.0, gt=0, le=60, description="Time between flushes of folded rows.")
    max_dirty_rows: int = Field(20_000, ge=1, description="Rows changed in memory that force a flush.")
    max_cached_rows: int = Field(50_000, ge=1, description="Clean rows kept in memory for folding and queries.")
    exact_distinct: int = Field(1000, ge=0, le=10_000, description="Distinct values up to which quantiles are exact.")
    dead_letters_in_row: int = Field(100, ge=1, description="Dead letters in a row that stop a partition.")
    dead_letters_percent: float = Field(
        1.0, gt=0, le=100, description="Share of the last 10,000 records of a partition beyond which it stops as well."
    )
    stall_timeout_s: float = Field(
        60.0, ge=10, description="Standstill, while Kafka answers, after which a worker ends itself to be restarted."
    )
    standby_replicas: int = Field(1, ge=0, le=8, description="Copies of each partition on other workers.")
    session_timeout_s: int = Field(10, ge=6, le=300, description="Silence after which a worker's partitions move.")
    instance_id: str = Field(
        "",
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Name of an aggregator that its restarts share: no partition moves if it is back in time (ADR 7).",
    )
    stop_delay_s: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Time a worker goes on when told to stop, not ready, so that a proxy lets go of it.",
    )
    stop_grace_s: float = Field(20.0, gt=0, description="Time a worker has to drain and stop after that.")

    # query
    unit: str = Field("ms", max_length=16, description="Unit of the values, repeated in every answer.")
    query_deadline_s: float = Field(2.0, gt=0, le=60, description="Longest wait for other workers' answers, then 503.")
    ranking_deadline_s: float = Field(30.0, gt=0, le=600, description="Longest time to rank all keys, then 503.")
    max_range_hours: int = Field(744, ge=1, le=100_000, description="Most hours in one question; beyond: 400.")
    max_page: int = Field(1000, ge=1, le=10_000, description="Most hours, or keys, listed in one answer.")
    connect_timeout_s: float = Field(0.2, gt=0, le=10, description="Longest time to connect to another worker.")

    # who may come in (docs/access.md)
    tokens_file: Named | None = Field(
        None, description="Tokens and what each allows, made by `metrics-app token new`; none: nobody needs one."
    )
    allow_anybody: bool = Field(
        False, description="Whether a worker may listen beyond loopback and ask nobody for a token or certificate."
    )
    allowed_hosts: str = Field(
        "",
        description="Names by which clients call this service, besides those of METRICS_HOST and "
        "METRICS_ADVERTISED_URL, separated by commas.",
    )
    allowed_origins: str = Field(
        "",
        pattern=ORIGINS,
        description="Origins of the web pages that may use this service, separated by commas; empty: no page.",
    )
    tls_client_ca_file: Named | None = Field(
        None, description="Authorities of client certificates, which everybody must show then; none: nobody."
    )
    peers: str = Field(
        "",
        description="Base URLs (https://a.example:8080, https://*.example) and networks (10.0.0.0/8) in which other "
        "workers may be, separated by commas; empty: anywhere.",
    )
    cluster_token_accept_old: bool = Field(
        False, description="Whether answers of workers of the release before, which prove nothing, are taken."
    )

    # between workers, and in front of them
    tls_cert_file: Named | None = Field(
        None, description="Certificate chain of the HTTP server, read again at SIGHUP; none: plain HTTP."
    )
    tls_key_file: Named | None = Field(None, description="Its private key (PEM).")
    tls_ca_file: Named | None = Field(None, description="Authorities to trust in other workers; none: the system's.")
    cluster_token: SecretStr = Field(
        SecretStr(""),
        description="What workers show each other with a query they pass on; or METRICS_CLUSTER_TOKEN_FILE.",
    )

    # `metrics-app up`
    silence_timeout_s: float = Field(
        30.0, ge=1, description="Time without an answer of /livez after which `up` starts a worker again; also Kafka."
    )
    min_free_mb: int = Field(
        64, ge=0, description="Disk space without which `up` starts no process again, but waits and says so."
    )

    # logging
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
    log_format: Literal["text", "json"] = Field("text", description="Form of a log line.")

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in SECRET_NAMES:
            path = os.environ.get(f"{PREFIX}{name}_FILE".upper())
            if path and not values.get(name):
                values[name] = _secret(Path(path))
        return values

    @model_validator(mode="after")
    def _bodies_fit(self) -> Self:
        if self.max_inflated_bytes < self.max_body_bytes:
            raise ValueError("max_inflated_bytes must be at least max_body_bytes")
        if self.id_horizon_hours > 24 * self.retention_days:
            raise ValueError("id_horizon_hours must be at most 24 times retention_days")
        if self.samples_topic == self.dead_letter_topic:
            raise ValueError("samples_topic and dead_letter_topic must differ")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file")
        return self

    @property
    def url(self) -> str:
        """Base URL under which other workers reach this process, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "http" if self.tls_cert_file is None else "https"
        return self.advertised_url.rstrip("/") or f"{scheme}://{host}:{self.port}"

    @property
    def aggregator_id(self) -> str:
        """Faust app id, and so the consumer group, of the aggregator workers."""
        return f"{self.name}-aggregator"

    @property
    def collector_id(self) -> str:
        """Faust app id of the collectors; another group, so that they never rebalance the tables."""
        return f"{self.name}-collector"

    @property
    def changelog_topic(self) -> str:
        """Compacted topic that replicates the table of hours."""
        return f"{self.aggregator_id}-hours-changelog"


def _secret(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
