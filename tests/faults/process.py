"""A role as a real process of its own, which tests may kill, freeze and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tests.faults.pace import stretched

READY_S = 60.0


class Process:
    """`python -m <module> <arguments>` with a log of its own; its port and folder stay over restarts.

    Args:
        name: also the name of its log.
        folder: where the log goes.
    Attributes:
        module: what is run; `metrics_app`, or a module that runs it with something broken.
        settings: environment of the next start.
        is_paused: whether it is frozen.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], port: int, folder: Path, environment: dict[str, str]
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"{name}.log"
        self.starts = 0
        self.module = "metrics_app"
        self.settings = environment
        self.is_paused = False
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and returns at once."""
        self.starts += 1
        with self.log.open("ab") as log:
            log.write(f"--- start {self.starts}\n".encode())
            log.flush()
            command = [sys.executable, "-m", self.module, *self._arguments]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **self.settings})

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
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

    def is_ready(self) -> bool:
        """Whether /readyz answers 200."""
        return self._is_ok("/readyz")

    def is_listening(self) -> bool:
        """Whether it answers at all."""
        return self._is_ok("/livez")

    def _is_ok(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=1.0) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def await_ready(self, within_s: float = READY_S) -> float:
        """Waits until it is ready, and returns for how long, in seconds."""
        started = time.monotonic()
        while not self.is_ready():
            assert self.is_running, (
                f"{self.name} ended with {self._process and self._process.returncode}: {self.tail()}"
            )
            waited_s = time.monotonic() - started
            assert waited_s < stretched(within_s), f"{self.name} is not ready after {waited_s:.0f} s: {self.tail()}"
            time.sleep(0.1)
        return time.monotonic() - started

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.send_signal(signal.SIGKILL)
        self.is_paused = False
        self.wait(10.0)

    def pause(self) -> None:
        """SIGSTOP: it holds its connections and does nothing, as a machine that hangs."""
        self.send_signal(signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.send_signal(signal.SIGCONT)
        self.is_paused = False

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        if self.is_running:
            self.send_signal(signal.SIGTERM)
        return self.wait(within_s)

    def end(self) -> None:
        """Makes sure that it has ended, whatever state it is in."""
        if self.is_running:
            self.kill()

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    @property
    def said(self) -> str:
        """All of its log since it was started last."""
        return self.log.read_text(errors="replace").rpartition("--- start")[2]

    def send_signal(self, number: signal.Signals) -> None:
        assert self.is_running, f"{self.name} is not running: {self.tail()}"
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, within_s: float) -> int:
        assert self._process is not None
        return self._process.wait(within_s)
