"""The reason of an end is found among everything else that a log says."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics_app.cli.reasons import why_it_ended
from metrics_app.errors import ProcessError

STOPPING = [f"2026-11-26T01:36:30.99Z [info     ] [^-Service{i}]: Stopping... [metrics_app.x]" for i in range(20)]
CRITICAL = "2026-11-26T01:36:30.9Z [critical ] topic a has 1 replicas: set [this] [metrics_app.serving]"
TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "a.py", line 1, in b',
    "    f()",
    "OSError: [Errno 98] in use",
]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], ""),
        (STOPPING, ""),
        ([CRITICAL, *STOPPING], "topic a has 1 replicas: set [this]"),
        ([CRITICAL, *TRACEBACK, CRITICAL.replace("1", "2")], "topic a has 1 replicas: set [this]"),
        (['{"event": "no \u00e9", "level": "critical"}', *STOPPING, '{"event": 1, "level": "info"}', "{"], "no \u00e9"),
        (["error: one", "error: two", "  what to do"], "one; two"),
        ([*TRACEBACK, "During handling ...", *TRACEBACK[:-1], "a.b.CError", *STOPPING], "a.b.CError"),
        ([*STOPPING, *TRACEBACK], "OSError: [Errno 98] in use"),
    ],
)
def test_the_reason_is_what_was_critical_then_an_error_then_what_was_raised(
    lines: list[str], reason: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("error: of an earlier run\n")
    before = log.stat().st_size
    with log.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    assert why_it_ended(log, before) == reason


def test_a_log_that_is_not_there_or_no_text_gives_no_reason(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert why_it_ended(log) == ""
    log.write_bytes(b"\xff\0" * 1000)
    assert why_it_ended(log) == ""


def test_the_reason_comes_first_and_the_end_of_the_log_only_where_there_is_none(tmp_path: Path) -> None:
    log, end = tmp_path / "worker.log", ["one", "two"]
    told = ProcessError("worker cannot go on", 3, "no such topic", log, end)
    assert str(told) == f"worker cannot go on: no such topic (last exit code 3; its log is {log})"
    assert str(ProcessError("worker keeps dying", 4, "", log, end)).endswith("; it ends with:\none\ntwo")
