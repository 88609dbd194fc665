"""What every test may use: one real Kafka for the whole session, and settings of its own for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metrics_app.kafka.embedded import EmbeddedKafka
from metrics_app.kafka.ports import free_port
from metrics_app.settings import PREFIX, Settings

ARTIFACTS = Path(__file__).parent / "artifacts"
numbers = itertools.count(1)

# A shell that starts the tests in the background (`nohup make test &`) has them ignore these, and children inherit it.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[EmbeddedKafka]:
    """A running broker; its log is kept in tests/artifacts when a test of the session failed."""
    folder = tmp_path_factory.mktemp("kafka")
    with EmbeddedKafka(folder, port=0) as broker:
        yield broker
    if request.session.testsfailed:
        ARTIFACTS.mkdir(exist_ok=True)
        for log in folder.glob("*.log"):
            shutil.copy(log, ARTIFACTS)


def pytest_make_parametrize_id(val: object) -> str | None:
    """A gzip body holds the second of its making: in a test's name, no two workers would collect the same tests."""
    return "gzip" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Makes settings with topics, a group, a port and a folder of their own, whatever the developer's environment says.

    Without an address given, Kafka is one that does not run.
    """
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)

    def make(**overrides: Any) -> Settings:
        name = f"test-{os.getpid()}-{next(numbers)}"
        unique = {
            "name": name,
            "samples_topic": f"{name}-samples",
            "dead_letter_topic": f"{name}-dead-letters",
            "port": free_port(),
            "data_dir": tmp_path / name,
            "kafka": f"127.0.0.1:{free_port()}",
        }
        return Settings(_env_file=None, **(unique | overrides))  # type: ignore[call-arg, arg-type]

    return make


@pytest.fixture
def settings(kafka: EmbeddedKafka, make_settings: MakeSettings) -> MakeSettings:
    """Makes settings as `make_settings` does, on the session's Kafka: `settings(partitions=2)`."""

    def make(**overrides: Any) -> Settings:
        return make_settings(**{"kafka": kafka.bootstrap, **overrides})

    return make
