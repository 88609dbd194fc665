"""What a library says at each try is written once in a while; what we say, always."""

from __future__ import annotations

import logging

from metrics_app.logs import AGAIN_S, MOST_LINES, RepeatedLines


def said(repeats: RepeatedLines, name: str, message: str, at_s: float) -> bool:
    record = logging.LogRecord(name, logging.ERROR, "", 0, message, (), None)
    record.created = at_s
    return repeats.filter(record)


def test_the_same_line_of_a_library_is_written_once_in_a_while() -> None:
    repeats = RepeatedLines()
    times = [100.0, 100.1, 100.0 + AGAIN_S, 101.0 + AGAIN_S]
    assert [said(repeats, "aiokafka.cluster", "not found", at_s) for at_s in times] == [True, False, True, False]
    assert said(repeats, "aiokafka.cluster", "another line", 101.0)
    assert said(repeats, "aiokafka.client", "not found", 101.0)


def test_our_own_lines_are_all_written() -> None:
    repeats = RepeatedLines()
    assert all(said(repeats, "metrics_app.kafka.watch", "changed", 100.0) for _ in range(3))


def test_what_is_remembered_is_bounded() -> None:
    repeats = RepeatedLines()
    for number in range(3 * MOST_LINES):
        said(repeats, "aiokafka", f"line {number}", 100.0)
    assert said(repeats, "aiokafka", "line 0", 100.0), "it was forgotten, or it would wait for its time"


def test_a_line_that_cannot_be_put_together_is_left_to_the_handler() -> None:
    record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "%s of %s", ("one",), None)
    assert RepeatedLines().filter(record)
