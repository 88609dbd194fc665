"""Sends requests at a fixed rate by h2load, a load generator in C, so that the sender's own cost bounds nothing.

Called by `benchmarks.one_message` and `benchmarks.queries`. It is a package of the system (`apt-get install
nghttp2-client`); without it `available` is False.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TOLD = 1.04  # it begins each request a little late, and so stays about 2 % below the rate that it is told


class Rate(NamedTuple):
    """How much one process of it sends: so many requests a second, over so many connections, and how many in all.

    A connection has one request at a time; its next one waits for the reply, and its time counts from its start.
    """

    per_s: float
    connections: int
    total: int


class Replies(NamedTuple):
    """What came back, a number for each request.

    Attributes:
        statuses: of HTTP.
        took_ms: milliseconds from the start of a request to the end of its reply.
    """

    statuses: NDArray[np.int64]
    took_ms: NDArray[np.float64]


class Sending(NamedTuple):
    """One process that sends, and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def replies(self, within_s: float) -> Replies:
        """What came back, when all is sent.

        Raises:
            RuntimeError: it could not send.
        """
        if self.process.wait(within_s) != 0:
            raise RuntimeError(f"h2load ended with {self.process.returncode}")
        rows: NDArray[np.int64] = np.loadtxt(self.log, dtype=np.int64, ndmin=2)
        return Replies(rows[:, 1], rows[:, 2] / 1000)


def available() -> bool:
    """Whether it is installed."""
    return shutil.which("h2load") is not None


def post(folder: Path, name: str, url: str, body: str, rate: Rate) -> Sending:
    """Begins to post one JSON body again and again."""
    file = folder / f"{name}.json"
    file.write_text(body)
    return _started(folder, name, rate, ["-d", str(file), "-H", "Content-Type: application/json", url])


def get(folder: Path, name: str, url: str, paths: Sequence[str], rate: Rate) -> Sending:
    """Begins to ask for the paths in turn."""
    file = folder / f"{name}.urls"
    file.write_text("\n".join(url + path for path in paths))
    return _started(folder, name, rate, ["-i", str(file)])


def _started(folder: Path, name: str, rate: Rate, options: list[Any]) -> Sending:
    log = folder / f"{name}.log"
    each = f"--rps={TOLD * rate.per_s / rate.connections:g}"
    # a number of requests, as with a duration it gives up on the last replies
    command = ["h2load", "--h1", "-n", str(rate.total), "-c", str(rate.connections), each, "--log-file", str(log)]
    return Sending(subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL), log)
