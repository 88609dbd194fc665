"""Runs a `metrics-app up` for a while: in a temporary folder, on free ports, without settings of the environment.

Called by `cli.drill`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from metrics_app.cli.child import dies_with_parent
from metrics_app.cli.terminal import err, say
from metrics_app.errors import SettingsError
from metrics_app.kafka.ports import PORTS_TRIED, free_from
from metrics_app.settings import PREFIX
from metrics_app.verify.running import RunningProcess

FIRST_PORT = 20_000
STOP_S = 60.0


class PrivateUp:
    """Started when entered, stopped when left. Its folder, with all logs, is then deleted unless `is_kept`."""

    def __init__(self, workers: int, brokers: int = 1) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="metrics-app-"))
        self.is_kept = True
        self._workers = workers
        self._brokers = brokers
        self._up: RunningProcess | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> Self:
        brokers = "a Kafka" if self._brokers == 1 else f"a Kafka of {self._brokers} brokers"
        say(f"starting an installation of {self._workers} workers and {brokers} in {self.folder}")
        try:
            # a group of its own: its Kafka may be at the default address, where workers of others may look for theirs
            name = {f"{PREFIX}NAME": f"private-{os.getpid()}"}
            self._up = RunningProcess("up", self._command(), self.folder / "up.log", name)
            self._await_ready(self._up)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if kind is not None or self.is_kept:
            say(f"data and logs are kept in {self.folder}")
        else:
            shutil.rmtree(self.folder)

    def _command(self) -> list[str]:
        # ports differ from one of us to the next, so that two at a time seldom want the same
        port = free_from(FIRST_PORT + os.getpid() % PORTS_TRIED * PORTS_TRIED, self._workers)
        if port is None:
            raise SettingsError([f"no {self._workers} free ports in a row"])
        flags = [
            "--workers",
            str(self._workers),
            "--brokers",
            str(self._brokers),
            "--port",
            str(port),
            "--data-dir",
            str(self.folder),
        ]
        return [sys.executable, "-m", "metrics_app", "up", *flags]

    def _await_ready(self, up: RunningProcess) -> None:
        process = up.start(
            cwd=self.folder,  # no .env of somebody's there
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only us; we stop it
            preexec_fn=dies_with_parent(),
        )
        self._said = process.stdout  # open until it has ended: it may print more
        assert self._said is not None
        with err.status("waiting until it is ready; the first time it downloads its Kafka"):
            first = self._said.readline().decode()
        if not first.startswith("ready"):
            process.wait()
            raise up.failure("up ended")
        say(first.strip())

    def _stop(self) -> None:
        if self._up is not None and self._up.is_running and self._up.stop(STOP_S) == -signal.SIGKILL:
            say(f"it did not stop within {STOP_S:g} s; killed")
        if self._said is not None:
            self._said.close()
