"""Two real workers on the session's Kafka, with some data, for the tests that ask over HTTP what a client would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from metrics_app.kafka.ports import free_port
from tests.faults.process import Process
from tests.query.asking import record


@pytest.fixture(scope="session")
def workers(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Base URLs of two workers, of which the first takes samples as well."""
    folder, name = tmp_path_factory.mktemp("workers"), f"workers-{time.time_ns()}"
    environment = {"METRICS_KAFKA": kafka.bootstrap, "METRICS_NAME": name, "METRICS_SAMPLES_TOPIC": name}
    environment |= {"METRICS_DEAD_LETTER_TOPIC": f"{name}-dead", "METRICS_QUERY_DEADLINE_S": "10"}
    both = []
    for role in ("all", "aggregator"):
        port = free_port()
        arguments = [role, "--port", str(port), "--data-dir", str(folder / role)]
        both.append(Process(role, arguments, port, folder, environment))
    try:
        for each in both:
            each.start()
        for each in both:
            each.await_ready()
        yield [each.url for each in both]
    finally:
        for each in both:
            each.end()


@pytest.fixture(scope="session")
def asked(workers: list[str]) -> list[str]:
    """Base URLs of workers that hold what the page says."""
    record(workers[0])
    return workers
