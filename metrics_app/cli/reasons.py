"""Finds in the log of a process why it ended.

Called by `child`, `up` and `verify.running`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

MAX_LOG_BYTES = 20 << 20  # a log larger than this is set aside as <name>.log.1 when its child is next started
TAIL_LINES = 15
TAIL_BYTES = 16 << 10
READ_BYTES = 256 << 10  # a reason is looked for in so much of the end of a log
MAX_REASON = 600
TRACEBACK = "Traceback (most recent call last):"
RAISED = re.compile(r"[A-Za-z_][\w.]*(?:: .*)?")
CRITICAL = re.compile(r"\S+ \[critical *\] (?P<event>.*?)(?: +\[[\w.]+\])? *")


def why_it_ended(log: Path, since: int = 0) -> str:
    """The reason that a process logged for its end from a position of its log on; empty when there is none.

    That is what it called critical first, else what the command line called an error, else what was raised.
    """
    lines = _lines(log, since, READ_BYTES)
    found = _critical(lines) or _errors(lines) or _raised(lines)
    return found[:MAX_REASON]


def tail(log: Path, since: int = 0, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log, from a position on; empty when there is none."""
    return _lines(log, since, TAIL_BYTES)[-lines:]


def rotate(log: Path) -> None:
    """Sets a log that has grown too large aside, over the one set aside before."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))


def size_of(log: Path) -> int:
    """Size of a log in bytes; 0 when there is no log."""
    return log.stat().st_size if log.exists() else 0


def _lines(log: Path, since: int, at_most: int) -> list[str]:
    if not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(max(since, log.stat().st_size - at_most))
        return stream.read().decode(errors="replace").splitlines()


def _critical(lines: Sequence[str]) -> str:
    return next(filter(None, map(_event, lines)), "")


def _event(line: str) -> str:
    """The message of a critical log line in either format (METRICS_LOG_FORMAT); empty for another line."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return ""
        return str(entry.get("event", "")) if entry.get("level") == "critical" else ""
    found = CRITICAL.fullmatch(line)
    return found["event"].strip() if found else ""


def _errors(lines: Sequence[str]) -> str:
    return "; ".join(line.removeprefix("error: ") for line in lines if line.startswith("error: "))


def _raised(lines: Sequence[str]) -> str:
    """The last line of the last traceback."""
    if TRACEBACK not in lines:
        return ""
    begin = len(lines) - 1 - list(reversed(lines)).index(TRACEBACK)
    return next((line for line in lines[begin + 1 :] if RAISED.fullmatch(line)), "")
