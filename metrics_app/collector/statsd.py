"""Takes the timings of statsd and DogStatsD clients from a datagram socket, where METRICS_STATSD names one.

Called by `app`.

    socket -> lines -> values by key, for a moment -> publisher -> Kafka

Nothing can be acknowledged to a statsd client. So what is lost is counted: what the kernel dropped because this process
was too slow, what could not be read, and what Kafka did not take in time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import mode

from metrics_app.collector.senders import Admits
from metrics_app.collector.views import BYTES_A_VALUE, Sink
from metrics_app.errors import OverloadedError, SettingsError
from metrics_app.settings import Settings
from metrics_app.sources import statsd
from metrics_app.sources.key_template import KeyTemplate
from metrics_app.telemetry import Telemetry
from metrics_app.wire.chunk import VALUE_BYTES, Chunk

logger = logging.getLogger(__name__)

PACKETS_A_TURN = 200  # about a millisecond; then others have the event loop
PACKET_BYTES = 65_536
BUFFER_BYTES = 8 << 20  # what the kernel may hold for us; it gives what it has
SO_RXQ_OVFL = 40  # of Linux: each packet tells how many were dropped before it
GATHERED_S = 0.05
MOST_VALUES = 200_000  # that wait for the publisher; what comes beyond is counted as lost
HOUR_S = 3600
SAY_AGAIN_S = 60.0


class StatsdListener(mode.Service):
    """The socket of one collector.

    Args:
        admission: at a time, tells which of some keys, each with its hour, no values are taken for.

    Attributes:
        address: where it listens, as METRICS_STATSD has it; the port is filled in when it was 0.
    """

    def __init__(
        self, settings: Settings, telemetry: Telemetry, sink: Sink, admission: Callable[[float], Admits]
    ) -> None:
        super().__init__()
        self._telemetry = telemetry
        self._sink = sink
        self._admission = admission
        self._chunk_bytes = VALUE_BYTES * max(1, settings.max_record_bytes // BYTES_A_VALUE)
        self._template = KeyTemplate.of(settings.statsd_key)
        self._waiting: defaultdict[bytes, array[float]] = defaultdict(lambda: array("d"))
        self._values = 0
        self._dropped = 0
        self._said_s = -SAY_AGAIN_S
        self.address = settings.statsd
        self._socket = bound(settings.statsd)

    async def on_start(self) -> None:
        """Begins to read."""
        if self._socket.family != socket.AF_UNIX:
            host, port = self._socket.getsockname()[:2]
            self.address = f"udp://[{host}]:{port}" if ":" in host else f"udp://{host}:{port}"
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        logger.info("statsd: listening on %s", self.address)

    async def on_stop(self) -> None:
        """Reads no more, and publishes what is there."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._close()
        await self._publish()

    def _close(self) -> None:
        if self.address.startswith("unix://"):  # first: once it is closed another process may have the path
            Path(urlsplit(self.address).path).unlink(missing_ok=True)
        self._socket.close()

    def _read(self) -> None:
        """Takes what has come, a bounded part of it in this turn; the first packet tells what was dropped before it."""
        packets = []
        try:
            packet, ancillary, _, _ = self._socket.recvmsg(PACKET_BYTES + 1, socket.CMSG_SPACE(4))
            packets.append(packet)
            for _level, kind, payload in ancillary:
                if kind == SO_RXQ_OVFL:
                    self._note_dropped(struct.unpack("I", payload)[0])
            while len(packets) < PACKETS_A_TURN:
                packets.append(self._socket.recv(PACKET_BYTES + 1))
        except BlockingIOError:
            pass
        self._telemetry.statsd_packets.inc(len(packets))
        self._take(packets)

    def _note_dropped(self, dropped: int) -> None:
        """Counts what the kernel has dropped since the last packet; its counter wraps at 2**32."""
        self._telemetry.statsd_dropped.inc((dropped - self._dropped) % 2**32)
        self._dropped = dropped

    def _take(self, packets: list[bytes]) -> None:
        received = 0
        for packet in packets:
            whole = len(packet) <= PACKET_BYTES  # else the kernel has cut it off, perhaps within a number
            for found in statsd.lines(packet, self._template) if whole else [statsd.UnusableLine("size")]:
                received += self._keep(found)
        self._telemetry.received.inc(received)

    def _keep(self, found: statsd.Timing | statsd.UnusableLine) -> int:
        """Keeps the values of a line until they are published; how many it had."""
        if isinstance(found, statsd.UnusableLine):
            self._telemetry.rejected.labels(f"statsd-{found.reason}").inc(found.values)
            return found.values
        count = len(found.values)
        if self._values + count > MOST_VALUES:
            self._refuse("statsd-memory", count)
        else:
            self._waiting[found.key].extend(found.values)
            self._values += count
        return count

    @mode.Service.task
    async def _publishing(self) -> None:
        while not self.should_stop:
            await self.sleep(GATHERED_S)
            await self._publish()

    async def _publish(self) -> None:
        """Publishes what has come; what Kafka does not take in time is lost, and counted."""
        if not self._waiting:
            return
        taken, self._waiting, self._values = self._waiting, defaultdict(lambda: array("d")), 0
        chunks = self._chunks(taken)
        count = sum(chunk.count for chunk in chunks)
        try:
            await self._sink.publish(chunks)
        except OverloadedError as error:
            self._refuse(error.reason, count)
            self._say(f"statsd: {count:,} values are lost, for nobody can be told to send them again: {error}")
        else:
            self._telemetry.accepted.inc(count)

    def _chunks(self, taken: Mapping[bytes, array[float]]) -> list[Chunk]:
        """The values in pieces that fit into a record, but for those that would begin too many rows."""
        chunks: list[Chunk] = []
        now_s = time.time()
        hour = int(now_s // HOUR_S)
        too_many = {*self._admission(now_s)([(key, hour) for key in taken])}
        for at, (key, values) in enumerate(taken.items()):
            if at not in too_many:
                whole = values.tobytes()
                pieces = range(0, len(whole), self._chunk_bytes)
                chunks += [Chunk(key, hour, whole[start : start + self._chunk_bytes]) for start in pieces]
            else:
                self._telemetry.rejected.labels("statsd-keys").inc(len(values))
        return chunks

    def _refuse(self, reason: str, count: int) -> None:
        self._telemetry.refused.labels(reason).inc(count)

    def _say(self, line: str) -> None:
        if time.monotonic() - self._said_s >= SAY_AGAIN_S:
            self._said_s = time.monotonic()
            logger.error("%s", line)


def bound(address: str) -> socket.socket:
    """The socket of an address, udp://host:port or unix:///path.

    Raises:
        SettingsError: nothing can listen there.
    """
    try:
        return _bound(urlsplit(address))
    except (OSError, ValueError) as error:  # of a port or a name that cannot be one: ValueError
        raise SettingsError([f"METRICS_STATSD {address}: nothing can listen there: {error}"]) from None


def _bound(parts: SplitResult) -> socket.socket:
    made = socket.socket(_family(parts.hostname or ""), socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        made.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        if parts.scheme == "unix":
            _bind_path(made, Path(parts.path))
        else:
            made.bind((parts.hostname, parts.port))
    except (OSError, ValueError):
        made.close()
        raise
    return made


def _family(host: str) -> socket.AddressFamily:
    if not host:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _bind_path(made: socket.socket, path: Path) -> None:
    """Binds to a path; a socket that a dead process has left there gives way, any other file does not."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _is_read(path):
        path.unlink()
    made.bind(str(path))
    os.chmod(path, 0o660)


def _is_read(path: Path) -> bool:
    """Whether a process has the socket of a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True
