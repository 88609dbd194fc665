"""Our own processes as they are run in production, one role each, and what they say of themselves."""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.bench import Bench
from metrics_app.kafka.ports import free_port
from metrics_app.settings import PREFIX
from metrics_app.verify.running import RunningProcess

Role = Literal["all", "collector", "aggregator"]

ANSWER_S = 60.0


@dataclass(frozen=True)
class Service:
    """A running process of ours: its base URL, itself, its data folder and its log."""

    url: str
    process: psutil.Process
    data_dir: Path
    log: Path

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels, from /metrics; 0 when it is not there.

        Raises:
            RuntimeError: the process does not answer; with the end of its log.
        """
        try:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=ANSWER_S) as reply:
                lines = reply.read().decode().splitlines()
        except OSError as error:
            raise RuntimeError(f"{self.url} does not answer ({error}): {self.log.read_text()[-20000:]}") from error
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


@contextmanager
def service(
    bench: Bench,
    role: Role,
    name: str,
    *,
    data_dir: Path | None = None,
    answers: str = "/readyz",
    **settings: object,
) -> Iterator[Service]:
    """A process of that role, stopped cleanly at the end.

    Args:
        name: those with the same name work on the same topics.
        data_dir: its folder; None: a new one.
        answers: the path that answers 200 when it has started; /livez does long before /readyz.
        settings: any others, by their names in settings.py.
    """
    port, data_dir = free_port(), data_dir or bench.folder / bench.name(role)
    log = bench.folder / f"{bench.name(role)}.log"
    values = {
        "kafka": bench.kafka.bootstrap,
        "name": name,
        "samples_topic": name,
        "dead_letter_topic": f"{name}-dead",
        **settings,
    }
    command = [sys.executable, "-m", "metrics_app", role, "--port", str(port), "--data-dir", str(data_dir)]
    environment = {f"{PREFIX}{key}".upper(): str(value) for key, value in values.items()}
    url = f"http://127.0.0.1:{port}"
    with RunningProcess(role, command, log, environment, url).running(answers) as worker:
        yield Service(url, psutil.Process(worker.pid), data_dir, log)
