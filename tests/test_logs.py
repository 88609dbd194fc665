"""What a library says at each try is written once in a while; what we say, always."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from aiokafka.errors import NodeNotReadyError

from metrics_app.logs import AGAIN_S, CAUSE_S, MOST_LINES, RepeatedLines


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
        said(repeats, "aiokafka", f"{number} is a line", 100.0)
    assert said(repeats, "aiokafka", "0 is a line", 100.0), "it was forgotten, or it would wait for its time"


def test_a_line_that_cannot_be_put_together_is_left_to_the_handler() -> None:
    record = logging.LogRecord("aiokafka", logging.ERROR, "", 0, "%s of %s", ("one",), None)
    assert RepeatedLines().filter(record)


def test_lines_of_one_cause_are_written_once_a_second_whatever_numbers_are_in_them() -> None:
    repeats, outage_s = RepeatedLines(), 3.0
    cause = "Unable connect to node with id 2, at the address 127.0.0.1 port 9092: "
    times = [100.0 + number / 270 for number in range(round(270 * outage_s))]
    written = [said(repeats, "aiokafka.client", f"{cause}correlation {number}", at) for number, at in enumerate(times)]
    assert 1 <= sum(written) <= outage_s / CAUSE_S + 1
    assert said(repeats, "aiokafka.client", "Topic samples is not available", times[-1])


async def test_a_future_that_aiokafka_left_behind_is_a_line_and_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    lost = asyncio.get_running_loop().create_future()
    lost.set_exception(NodeNotReadyError("node 2"))
    del lost
    gc.collect()
    (record,) = [each for each in caplog.records if each.name == "asyncio"]
    assert record.exc_info
    assert RepeatedLines().filter(record)
    assert record.levelname == "WARNING"
    assert record.exc_info is None
    assert record.getMessage().startswith("aiokafka left this behind: NodeNotReadyError")
    assert "\n" not in record.getMessage()


def test_a_callback_of_aiokafka_that_fails_is_a_line_and_one_of_ours_keeps_its_traceback() -> None:
    for place, is_tamed in (("aiokafka/producer/message_accumulator.py:458", True), ("metrics_app/turns.py:1", False)):
        message = (
            f"Exception in callback MessageAccumulator._pop_batch.<locals>.<lambda>() at /x/{place}\nhandle: <Handle>"
        )
        record = logging.LogRecord("asyncio", logging.ERROR, "", 0, message, (), (KeyError, KeyError(7), None))
        assert RepeatedLines().filter(record)
        assert (record.exc_info is None) is is_tamed
