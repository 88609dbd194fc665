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
from typing import Self

from metrics_app.cli.child import dies_with_parent
from metrics_app.cli.reasons import tail, why_it_ended
from metrics_app.cli.terminal import err, say
from metrics_app.errors import ProcessError, SettingsError
from metrics_app.kafka.ports import PORTS_TRIED, free_from
from metrics_app.settings import PREFIX

FIRST_PORT = 20_000
STOP_S = 60.0


class PrivateUp:
    """Started when entered, stopped when left. Its folder, with all logs, is then deleted unless `is_kept`."""

    def __init__(self, workers: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="metrics-app-"))
        self.is_kept = True
        self._workers = workers
        self._log = self.folder / "up.log"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        say(f"starting an installation of {self._workers} workers and a Kafka in {self.folder}")
        try:
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    self._command(),
                    cwd=self.folder,  # no .env of somebody's there
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,  # Ctrl-C reaches only us; we stop it
                    preexec_fn=dies_with_parent(),
                )
            self._await_ready(self._process)
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
        flags = ["--workers", str(self._workers), "--port", str(port), "--data-dir", str(self.folder)]
        return [sys.executable, "-m", "metrics_app", "up", *flags]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        # a group of its own: its Kafka may be at the default address, where workers of others may look for theirs
        return kept | {f"{PREFIX}NAME": f"private-{os.getpid()}"}

    def _await_ready(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with err.status("waiting until it is ready; the first time it downloads its Kafka"):
            first = process.stdout.readline()
        if not first.startswith("ready"):
            raise ProcessError("up ended", process.wait(), why_it_ended(self._log), self._log, tail(self._log))
        say(first.strip())

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            say(f"it did not stop within {STOP_S:g} s; killed")
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
