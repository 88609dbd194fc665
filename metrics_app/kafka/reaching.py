"""Finds a Kafka that answers and is ours.

Called by `topics`, `collector.producer` and whoever waits for Kafka before it uses a topic.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from metrics_app.errors import BrokerError
from metrics_app.kafka import belonging, connections
from metrics_app.settings import Settings

SAY_INTERVAL_S = 5.0
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 0.5
REQUEST_TIMEOUT_MS = 5000

Say = Callable[[str], None]


async def wait(settings: Settings, say: Say, patience_s: float = math.inf) -> None:
    """Return once a bootstrap server answers; says at once, then every 5 s, what is waited for.

    Raises:
        BrokerError: a server refuses our credentials, speaks another protocol or belongs to another cluster than our
            data folder, so that waiting will not help; or none has answered for `patience_s`.
    """
    backoff_s, said, started = FIRST_BACKOFF_S, -math.inf, time.monotonic()
    while problem := await _unreachable(settings):
        if time.monotonic() - started >= patience_s:
            raise BrokerError(f"Kafka at {settings.kafka} has not answered for {patience_s:g} s ({problem})")
        if time.monotonic() - said >= SAY_INTERVAL_S:
            say(f"waiting for Kafka at {settings.kafka} ({problem})")
            said = time.monotonic()
        await asyncio.sleep(backoff_s)
        backoff_s = min(2 * backoff_s, LAST_BACKOFF_S)


async def meet(settings: Settings) -> str:
    """The first bootstrap server, "host:port", that answers and is of the cluster that our data folder belongs to.

    All are asked at once: one that is down without a word holds up nobody.

    Raises:
        BrokerError: none does.
    """
    server, problem = await _first_to_answer(settings)
    if problem:
        raise BrokerError(problem)
    return server


async def _unreachable(settings: Settings) -> str:
    """Why no server of our cluster answers; empty when one does."""
    return (await _first_to_answer(settings))[1]


async def _first_to_answer(settings: Settings) -> tuple[str, str]:
    server, problem = "", "no server is named"
    hosts = collect_hosts(connections.servers(settings))
    asking = [asyncio.create_task(_problem_at(settings, host, port)) for host, port, _family in hosts]
    try:
        for answer in asyncio.as_completed(asking):
            server, problem = await answer
            if not problem:
                break
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return server, problem


async def _problem_at(settings: Settings, host: str, port: int) -> tuple[str, str]:
    """A server, and why it is not to be used; empty when it is one of ours."""
    options = connections.client_options(settings) | {"request_timeout_ms": REQUEST_TIMEOUT_MS}
    del options["bootstrap_servers"]
    try:
        problem = await _objection(settings, await create_conn(host, port, **options))
    except (
        AuthenticationFailedError,
        SaslAuthenticationFailed,
        UnsupportedSaslMechanismError,
        IllegalSaslStateError,
    ) as error:
        hint = "METRICS_KAFKA_USERNAME, _PASSWORD, _MECHANISM"
        raise BrokerError(f"Kafka at {host}:{port} refuses the credentials: {error}; see {hint}") from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        problem = f"the connection is closed during the TLS handshake: {error}"
    except ssl.SSLError as error:
        hint = "METRICS_KAFKA_PROTOCOL and METRICS_KAFKA_CA_FILE"
        raise BrokerError(f"Kafka at {host}:{port}: no TLS connection: {error}; see {hint}") from error
    except (OSError, TimeoutError, KafkaError) as error:
        problem = str(error) or "no answer"
    return f"{host}:{port}", problem


async def _objection(settings: Settings, connection: Any) -> str:
    """Why the cluster that was reached is not to be used; empty when it is ours.

    Where the id was set, ours may still come: `up` knows that its Kafka will, on another port if need be.
    """
    try:
        problem = belonging.objection(settings, await belonging.cluster_of(connection))
    except (OSError, TimeoutError, KafkaError) as error:
        return str(error) or "no answer"
    finally:
        connection.close()
    if problem and not settings.kafka_cluster_id:
        raise BrokerError(f"Kafka at {settings.kafka} is not ours: {problem}")
    return problem
