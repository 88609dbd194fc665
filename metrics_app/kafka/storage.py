"""The folder of one embedded Kafka: who uses it, whether its contents are ours, and the files Kafka is configured by.

Called by `embedded`, and by `cli.dlq`, `cli.brokers` and `cli.stages`, which look up where it listens.

    <folder>/log/                Kafka's log: topics, metadata, meta.properties
    <folder>/kafka.pid           process id while it runs; locked by whoever started it
    <folder>/address             where it was ready last, and which cluster it is; stays after its end
    <folder>/kafka.log           what Kafka logs; jvm.log: what the JVM prints
    <folder>/*.properties        written anew at each start; Kafka runs in the folder, so paths in them are relative

Paths are relative because Kafka splits its list of folders at commas, Java properties take backslashes for themselves,
and log4j looks things up between braces. A folder may have any of these in its name.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import IO, NamedTuple

from metrics_app.errors import BrokerError
from metrics_app.kafka.ports import HOST, Broker
from metrics_app.kafka.properties import ALONE, LOGGING, Member, server_properties

FORMAT_VERSION = "1"  # of meta.properties, as Kafka in KRaft mode writes it
ORPHAN_GRACE_S = 8.0  # a Kafka whose starter was killed is given the time to end

PROC = Path("/proc/self/cmdline")


class ListenAddress(NamedTuple):
    """Where a Kafka listens, and which it is."""

    port: int
    broker: Broker

    @property
    def bootstrap(self) -> str:
        """For clients, "host:port"."""
        return f"{HOST}:{self.port}"


class Storage:
    """The folder of one Kafka, held for this process between `acquire` and `release`."""

    def __init__(self, folder: Path, member: Member = ALONE) -> None:
        self.folder = folder.absolute()
        self.member = member
        self.log = self.folder / "log"
        self.unfinished = self.folder / "log.unfinished"
        self.pid_file = self.folder / "kafka.pid"
        self.server_properties = self.folder / "server.properties"
        self.logging_properties = self.folder / "log4j2.properties"
        self.kafka_log = self.folder / "kafka.log"
        self.jvm_log = self.folder / "jvm.log"
        self.address_file = self.folder / "address"
        self._held: IO[str] | None = None
        self._logged_before = 0

    def acquire(self) -> None:
        """Hold the folder until `release`, or until this process ends.

        Raises:
            BrokerError: another Kafka uses it, or it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = self.pid_file.open("a+")
        except OSError as error:
            raise BrokerError(f"Kafka's data folder cannot be used: {error}; choose another --data-dir") from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._wait_for_orphan()
        except (BlockingIOError, BrokerError):
            held.close()
            raise self._in_use() from None
        self._held = held

    def release(self) -> None:
        """Let others use the folder; nothing to do when it is not held."""
        if self._held is not None:
            self._held.truncate(0)
            self._held.close()
            self._held = None

    def runs(self) -> bool:
        """Whether the Kafka of this folder runs now, whoever started it."""
        try:
            pid = int(self.pid_file.read_text())
            return b"kafka.Kafka" in Path(f"/proc/{pid}/cmdline").read_bytes() if PROC.exists() else _is_alive(pid)
        except (OSError, ValueError):
            return False

    def write_pid(self, pid: int) -> None:
        """Tell others which process uses the folder."""
        assert self._held is not None
        self._held.truncate(0)
        self._held.write(f"{pid}\n")
        self._held.flush()

    def _in_use(self) -> BrokerError:
        pid = self.pid_file.read_text().strip()
        who = f"another Kafka (pid {pid})" if pid else "another Kafka"
        stop = f"stop it (kill {pid})" if pid else "stop it"
        return BrokerError(f"{who} uses {self.folder}: {stop} or choose another --data-dir")

    def _wait_for_orphan(self) -> None:
        """Waits for a Kafka whose starter has ended: our lock ends with the starter, Kafka's own lock with Kafka."""
        deadline = time.monotonic() + ORPHAN_GRACE_S
        while _is_locked(self.log / ".lock"):
            if time.monotonic() > deadline:
                raise self._in_use()
            time.sleep(0.1)

    def mark_logs(self) -> None:
        """Has `newest_error` look from here on: errors of an earlier run do not explain this one."""
        self._logged_before = self.kafka_log.stat().st_size if self.kafka_log.exists() else 0

    def newest_error(self) -> str:
        """What Kafka or its JVM complained of last, with the innermost cause; empty when it did not."""
        if self.kafka_log.exists():
            with self.kafka_log.open("rb") as file:
                file.seek(self._logged_before if self.kafka_log.stat().st_size >= self._logged_before else 0)
                if found := _newest_error(file.read().decode(errors="replace").splitlines()):
                    return found
        printed = self.jvm_log.read_text(errors="replace").splitlines() if self.jvm_log.exists() else []
        return next((line for line in printed if line.startswith("Error")), "")

    def needs_format(self) -> bool:
        """Whether there is no log yet.

        Raises:
            BrokerError: there is something, but not the log of a Kafka started here. Nothing is deleted.
        """
        if not self.log.exists():
            return True
        problem = _problem_of(self.log / "meta.properties", self.member)
        if problem:
            raise BrokerError(
                f"{self.log} is not the log of a Kafka started here ({problem}): restore it, choose another "
                f"--data-dir, or move {self.log} away to start with an empty Kafka"
            )
        return False

    def cluster_id(self) -> str:
        """Id of the cluster whose log this is, given when it was formatted; empty when it was not."""
        try:
            return _properties(self.log / "meta.properties").get("cluster.id", "")
        except (OSError, UnicodeDecodeError):
            return ""

    def write_address(self, address: ListenAddress) -> None:
        """Tell others where the Kafka of this folder is, and how to know it."""
        new = self.folder / "address.new"
        new.write_text(f"{address.port} {address.broker.cluster_id} {address.broker.run}\n")
        new.replace(self.address_file)

    def address(self) -> ListenAddress | None:
        """Where the Kafka of this folder was ready last; None when it never was."""
        try:
            port, cluster_id, run = self.address_file.read_text().split()
            return ListenAddress(int(port), Broker(cluster_id, run))
        except (OSError, ValueError):
            return None

    def write_properties(self, port: int, controller_port: int, advertised: str, run: str) -> None:
        """Write what Kafka reads at its start."""
        text = server_properties(self.member, port, controller_port, advertised, self.log.name, run)
        self.server_properties.write_text(text)
        self.logging_properties.write_text(LOGGING)

    def begin_format(self) -> Path:
        """Properties for formatting a log that is put in place, whole, by `end_format`."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        properties = self.folder / "format.properties"
        text = self.server_properties.read_text()
        properties.write_text(text.replace(f"log.dirs={self.log.name}\n", f"log.dirs={self.unfinished.name}\n"))
        return properties

    def end_format(self) -> None:
        """Put the formatted log in its place."""
        self.unfinished.rename(self.log)
        (self.folder / "format.properties").unlink()


def found_in(folder: Path) -> list[Storage]:
    """The folders of the Kafka of an installation: its own, or one for each of several nodes."""
    nodes = sorted((folder / "kafka").glob("node-*"))
    return [Storage(node) for node in nodes] or [Storage(folder / "kafka")]


def new_cluster_id() -> str:
    """A random Kafka UUID; it starts with a letter, as a leading dash would be taken for an option."""
    return "M" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]


def _problem_of(meta: Path, member: Member) -> str:
    """What is wrong with a meta.properties, or nothing."""
    try:
        found = _properties(meta)
    except (OSError, UnicodeDecodeError) as error:
        return f"{meta.name} cannot be read: {error}"
    if found.get("version") != FORMAT_VERSION or not found.get("cluster.id"):
        return f"{meta.name} is of another format, or damaged"
    if found.get("node.id") != str(member.node_id) or member.cluster_id not in ("", found["cluster.id"]):
        return f"it belongs to node {found.get('node.id')} of another cluster"
    return ""


def _properties(file: Path) -> dict[str, str]:
    lines = file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _newest_error(lines: list[str]) -> str:
    starts = [number for number, line in enumerate(lines) if " ERROR " in line or " FATAL " in line]
    if not starts:
        return ""
    error, *trace = lines[starts[-1] :]
    thrown = [line for line in trace[:1] if ": " in line]
    causes = [line for line in trace if line.startswith("Caused by: ")]
    return ", ".join([error.split(" ", 2)[2], *thrown, *causes[-1:]])[:500]


def _is_locked(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
