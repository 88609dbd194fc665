"""A role as a real process of its own, which tests may kill, freeze and start again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metrics_app.verify.running import RunningProcess
from tests.faults.pace import stretched

READY_S = 60.0


class Process(RunningProcess):
    """`python -m <module> <arguments>`; its port, its folder and its log stay over restarts.

    Attributes:
        module: what is run; `metrics_app`, or a module that runs it with something broken.
        interpreter: what runs it, another installation's Python for another release.
        is_paused: whether it is frozen.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], port: int, folder: Path, environment: dict[str, str]
    ) -> None:
        super().__init__(name, (), folder / f"{name}.log", environment, f"http://127.0.0.1:{port}")
        self.module = "metrics_app"
        self.interpreter: tuple[str, ...] = (sys.executable,)
        self.is_paused = False
        self._arguments = arguments

    def start(self, stdout: int | None = None, **options: Any) -> subprocess.Popen[bytes]:
        self.command = [*self.interpreter, "-m", self.module, *self._arguments]
        return super().start(stdout, **options)

    def is_ready(self) -> bool:
        """Whether /readyz answers 200."""
        return self.answers("/readyz")

    def is_listening(self) -> bool:
        """Whether it answers at all."""
        return self.answers("/livez")

    def allowed_s(self, within_s: float) -> float:
        return stretched(within_s)

    def await_ready(self, within_s: float = READY_S, path: str = "/readyz") -> float:
        return super().await_ready(within_s, path)

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
        """SIGTERM; returns the exit code, and fails when it has to be killed."""
        code = super().stop(within_s)
        assert code != -signal.SIGKILL, f"{self.name} did not stop within {within_s:g} s: {self.tail()}"
        return code

    def end(self) -> None:
        """Makes sure that it has ended, whatever state it is in."""
        if self.is_running:
            self.kill()
