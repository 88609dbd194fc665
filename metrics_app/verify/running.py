"""Runs a command of ours as one process with a log and an environment of its own, and stops it again.

Called by `private_up`, and by the tests and benchmarks that need a running worker.

A process that has ended stays ended: `cli.child` is for one that is kept running, with probes and a pace of restarts.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from metrics_app.cli.reasons import TAIL_LINES, size_of, tail, why_it_ended
from metrics_app.errors import ProcessError
from metrics_app.settings import PREFIX

READY_S = 120.0
STOP_S = 60.0
LOOK_S = 0.05
ANSWER_S = 1.0


class RunningProcess:
    """One command, which may be started more than once; all its runs append to one log.

    Args:
        command: what is run from the next start on, as is `settings`.
        settings: added to our environment, of which no setting of the product is handed on.
        url: where it answers; empty for one that is not asked.

    Attributes:
        starts: how often it was started.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, settings: Mapping[str, str], url: str = ""
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.settings = {**settings}
        self.url = url
        self.starts = 0
        self._log_from = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, stdout: int | None = None, **options: Any) -> subprocess.Popen[bytes]:
        """Starts it and returns at once; `stdout` is its log by default, `options` are those of Popen."""
        self.starts += 1
        self._log_from = size_of(self.log)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with self.log.open("ab") as log:
            to, env = log if stdout is None else stdout, inherited | self.settings
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=to, stderr=log, env=env, **options
            )
        return self._process

    @contextmanager
    def running(self, path: str = "/readyz") -> Iterator[Self]:
        """Started and ready when entered, stopped when left."""
        self.start()
        try:
            self.await_ready(path=path)
            yield self
        finally:
            self.stop()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of its last run."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Of its last run; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def answers(self, path: str) -> bool:
        """Whether it answers 200 there."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=ANSWER_S) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def allowed_s(self, within_s: float) -> float:
        """How long a wait of so many seconds may take on this machine now."""
        return within_s

    def await_ready(self, within_s: float = READY_S, path: str = "/readyz") -> float:
        """Waits until it answers 200 at the path, and returns for how long, in seconds.

        Raises:
            ProcessError: it has ended, or does not answer in time; with the end of its log.
        """
        started = time.monotonic()
        while not self.answers(path):
            if not self.is_running:
                raise self.failure(f"{self.name} ended at its start")
            if (waited_s := time.monotonic() - started) >= self.allowed_s(within_s):
                raise self.failure(f"{self.name} is not ready after {waited_s:.0f} s")
            time.sleep(LOOK_S)
        return time.monotonic() - started

    def failure(self, what: str) -> ProcessError:
        """The error that says so, with the reason and the end of the log."""
        reason = why_it_ended(self.log, self._log_from)
        return ProcessError(what, self.exit_code, reason, self.log, tail(self.log, self._log_from))

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to a process that runs."""
        assert self.is_running, f"{self.name} is not running: {self.tail()}"
        os.kill(self.pid, number)

    def wait(self, within_s: float) -> int:
        """The exit code once it has ended; TimeoutExpired when it has not."""
        assert self._process is not None
        return self._process.wait(within_s)

    def stop(self, within_s: float = STOP_S) -> int:
        """SIGTERM, then SIGKILL when it is still there; the exit code, `-SIGKILL` when it had to be killed."""
        try:
            if self.is_running:
                self.send_signal(signal.SIGTERM)
            return self.wait(within_s)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
            return self.wait(within_s)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its log."""
        return "\n".join(tail(self.log, lines=lines))

    @property
    def said(self) -> str:
        """All of its log since it was started last."""
        return self.log.read_bytes()[self._log_from :].decode(errors="replace")
