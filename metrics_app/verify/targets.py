"""Finds the processes that a drill may kill, by their pid files; signals only those that are proven to be ours.

Called by `course` and `cli.drill`.

Proof is the command that a process runs: a worker of ours whose --data-dir lies in the folder of the installation, or a
Kafka whose configuration does.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from metrics_app.errors import DrillError

ROLES = ("all", "collector", "aggregator")
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
SHOWN = 120


class Kind(StrEnum):
    """What can be killed; the names of --faults."""

    WORKER = "worker"
    KAFKA = "kafka"


@dataclass(frozen=True)
class Target:
    """One process of an installation, whichever incarnation of it runs now.

    Attributes:
        folder: data folder of the whole installation.
        url: where it listens; empty for Kafka.
        role: a name of `ROLES`, or kafka.
    """

    name: str
    kind: Kind
    folder: Path
    pid_file: Path
    url: str = ""
    role: str = Kind.KAFKA

    def pid(self) -> int | None:
        """Process id of the running process; None when none is provably ours."""
        pid = pid_in(self.pid_file)
        return pid if pid is not None and is_ours(command_of(pid), self.kind, self.folder) else None

    def kill(self) -> int:
        """Sends SIGKILL and returns the process id.

        Raises:
            DrillError: it does not run, or what runs under its number is not ours.
        """
        pid = pid_in(self.pid_file)
        if pid is None:
            raise DrillError(f"{self.name} is not running: {self.pid_file} names no process")
        if sys.platform != "linux":
            prove(pid, self)
            os.kill(pid, signal.SIGKILL)
            return pid
        try:
            handle = os.pidfd_open(pid)  # from here on the number cannot become another's before the signal
        except ProcessLookupError:
            raise DrillError(f"{self.name} is not running: there is no process {pid}") from None
        try:
            prove(pid, self)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
        return pid


def find(folder: Path) -> list[Target]:
    """Every process that has a pid file in the data folder, the workers first. Nothing is killed.

    Raises:
        DrillError: there is none, or one cannot be proven to be ours.
    """
    folder = folder.absolute()
    files = sorted((folder / "run").glob("*.pid"))
    if not files:
        raise DrillError(f"nothing runs in {folder}: start it with `metrics-app up`, or name another --data-dir")
    kafka = [file for file in files if file.stem.partition("-")[0] == Kind.KAFKA]
    return [*(_worker(folder, file) for file in files if file not in kafka), *(_kafka(folder, file) for file in kafka)]


def _worker(folder: Path, file: Path) -> Target:
    target = Target(file.stem, Kind.WORKER, folder, file)
    command = prove(pid_in(file), target)
    role = _role(command) or ""
    return Target(file.stem, Kind.WORKER, folder, file, url_of(command), role)


def _kafka(folder: Path, file: Path) -> Target:
    """A Kafka, or of several the one with the number in the name of its file."""
    _, several, number = file.stem.partition("-")
    own = folder / "kafka" / f"node-{number}" if several else folder / "kafka"
    # not run/kafka.pid: that is the process that watches the JVM, and its death would stop Kafka in good order
    target = Target(file.stem, Kind.KAFKA, folder, own / "kafka.pid")
    prove(pid_in(target.pid_file), target)
    return target


def prove(pid: int | None, target: Target) -> Sequence[str]:
    """Checks that the process is ours, and returns its command.

    Raises:
        DrillError: there is no such process, or it is not the one the target stands for.
    """
    command = [] if pid is None else command_of(pid)
    if not command:
        raise DrillError(f"{target.name} is not running: {target.pid_file} names no process that does")
    if not is_ours(command, target.kind, target.folder):
        wanted = "a `metrics-app` worker" if target.kind is Kind.WORKER else "the Kafka"
        raise DrillError(
            f"{target.name}: process {pid}, named by {target.pid_file}, is not {wanted} of {target.folder}; "
            f"it runs {' '.join(command)[:SHOWN]}"
        )
    return command


def pid_in(file: Path) -> int | None:
    """The number in a pid file; None when it has none now."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def command_of(pid: int) -> list[str]:
    """Program and arguments of a process; empty when it has ended or cannot be looked at."""
    if sys.platform != "linux":
        shown = subprocess.run(
            ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return shown.stdout.split()
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def is_ours(command: Sequence[str], kind: Kind, folder: Path) -> bool:
    """Whether a command is that of a worker, or of a Kafka, of the installation in `folder`."""
    if kind is Kind.KAFKA:
        kafka = folder / "kafka"
        ours = [kafka, *kafka.glob("node-*")]
        return "kafka.Kafka" in command and any(_is_same(command[-1], own / "server.properties") for own in ours)
    data = option(command, "--data-dir")
    return _role(command) is not None and _is_absolute(data) and folder.resolve() in Path(data).resolve().parents


def _role(command: Sequence[str]) -> str | None:
    for program, role in itertools.pairwise(command):
        if (program == "metrics_app" or Path(program).name == "metrics-app") and role in ROLES:
            return role
    return None


def url_of(command: Sequence[str]) -> str:
    """Where a worker with that command listens; empty when the command does not say."""
    host, port = option(command, "--host") or "127.0.0.1", option(command, "--port")
    host = ANY_ADDRESS.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}" if port else ""


def option(command: Sequence[str], name: str) -> str:
    """The value of an option, given as `--name value` or `--name=value`; empty when it is not there."""
    for given, following in itertools.pairwise([*command, ""]):
        if given == name:
            return following
        if given.startswith(f"{name}="):
            return given.removeprefix(f"{name}=")
    return ""


def _is_absolute(path: str) -> bool:
    return bool(path) and Path(path).is_absolute()


def _is_same(path: str, other: Path) -> bool:
    return _is_absolute(path) and Path(path).resolve() == other.resolve()
