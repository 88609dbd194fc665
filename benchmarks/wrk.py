"""Drives a server with wrk, a load generator in C, so that the sender's own cost does not bound what is measured.

Called by `benchmarks.single_post`. It is a package of the system (`apt-get install wrk`); without it `available` is
False, and the closed loop of `benchmarks.flood` takes its place.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3}
_RATE = re.compile(r"Requests/sec: +([0-9.]+)")
_ANSWERED = re.compile(r"(\d+) requests in ")
_P99 = re.compile(r"99% +([0-9.]+)(us|ms|s|m)\b")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)|Socket errors: (.+)")


WrkRequest = tuple[str, str, bytes]


class Driven(NamedTuple):
    """Requests a second, how many in all, and the 99th percentile of their latency, in milliseconds."""

    per_s: int
    answered: int
    p99_ms: float


def available() -> bool:
    """Whether it is installed."""
    return shutil.which("wrk") is not None


def drive(
    url: str, requests: Sequence[tuple[str, str, bytes]], seconds: float, connections: int, folder: Path
) -> Driven:
    """Sends the requests in turn, one at a time on each connection, for some seconds.

    Args:
        requests: method, path and JSON body of each; empty: none.
        folder: for the script.

    Raises:
        RuntimeError: one was not answered with 2xx.
    """
    script = folder / "wrk.lua"
    script.write_text(_script(requests))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return parsed(said)


def parsed(said: str) -> Driven:
    """What wrk says of a run.

    Raises:
        RuntimeError: one was not answered with 2xx.
    """
    rate, answered, p99 = _RATE.search(said), _ANSWERED.search(said), _P99.search(said)
    if rate is None or answered is None or p99 is None or _BAD.search(said) is not None:
        raise RuntimeError(said)
    return Driven(round(float(rate[1])), int(answered[1]), float(p99[1]) * _UNITS[p99[2]])


def _script(requests: Sequence[WrkRequest]) -> str:
    formatted = [
        f"wrk.format([[{method}]], [[{path}]], nil, [==[{body.decode()}]==])" for method, path, body in requests
    ]
    return (
        'wrk.headers["Content-Type"] = "application/json"\n'
        "local requests, at = {}, 0\n"
        "function init(args)\n  requests = {" + ",\n".join(formatted) + "}\nend\n"
        "function request()\n  at = at % #requests + 1\n  return requests[at]\nend\n"
    )
