import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_app.aggregator import row as rows
from metrics_app.aggregator.ranges import WHOLE, Ranges
from metrics_app.aggregator.row import Checkpoint, Row, Version
from metrics_app.errors import FormatError
from metrics_app.holdings import Loss
from metrics_app.stats.summary import HourlySummary

GOLDEN_IDS = Path(__file__).with_name("ids.hex")  # of ids without places, and with some
# a row and a place, as version 1 has stored them, and a place of version 2: never to be changed
GOLDEN, GOLDEN_CHECKPOINT = Path(__file__).with_name("row_v1.hex"), Path(__file__).with_name("place_v2.hex")
A_CHECKPOINT = Checkpoint(
    3, 41, 1795464000.5, 1795464000000, 498740, 1795463999000, (Loss(0, 498740, 1795400000.0, 7),)
)


def a_row(*values: float) -> Row:
    row = Row(HourlySummary(), epoch=3, stamp=41, late=1, duplicates=2, unfenced=4)
    row.summary.add(np.array(values))
    row.senders = {b"s" * 16: Ranges([0, 5, 7, 9]), b"a" * 16: Ranges([0, 1 << 40])}
    return row


def test_a_row_comes_back_as_it_was():
    row = a_row(1.5, 2.5)
    again = rows.decode_row(rows.encode_row(row), 1000)
    assert (again.epoch, again.stamp, again.late, again.duplicates, again.unfenced) == (3, 41, 1, 2, 4)
    assert row.senders == again.senders
    assert (again.summary.count, again.summary.sum) == (2, 4.0)
    assert again.missing == 2


def test_equal_rows_have_equal_bytes_whatever_order_their_senders_came_in():
    row, other = a_row(1), a_row(1)
    other.senders = dict(reversed(other.senders.items()))
    assert rows.encode_row(row) == rows.encode_row(other)


@given(st.data())
def test_a_damaged_row_is_a_format_error(data):
    value = rows.encode_row(a_row(1, 2, 3))
    at = data.draw(st.integers(0, len(value) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(value)
    damaged[at] ^= 1 << bit
    with pytest.raises(FormatError):
        rows.decode_row(bytes(damaged), 1000)


@given(st.integers(0, 200))
def test_a_row_cut_short_is_a_format_error(length):
    value = rows.encode_row(a_row(1))
    with pytest.raises(FormatError):
        rows.decode_row(value[: min(length, len(value) - 1)], 1000)


def test_the_order_of_two_states_is_read_from_the_header():
    assert Version(3, 41) == rows.version_of(rows.encode_row(a_row(1)))
    assert Version(3, 41) == rows.version_of(rows.encode_checkpoint(Checkpoint(3, 41, 1.0)))
    assert Version(2, 99) < Version(3, -1) < Version(3, 0)


def test_a_value_of_another_release_is_refused_by_name():
    value = bytearray(rows.encode_row(a_row(1)))
    value[1] = 9
    with pytest.raises(FormatError, match="version 9"):
        rows.version_of(bytes(value))


def test_ids_and_checkpoint_come_back():
    claims = {b"a" * 16: Ranges([*WHOLE]), b"b" * 16: Ranges([1, 5, 7, 8])}
    assert rows.decode_ids(rows.encode_ids(1, 7, claims)) == {b"a" * 16: WHOLE, b"b" * 16: (1, 5, 7, 8)}
    assert Checkpoint(1, 7, 12.25) == rows.decode_checkpoint(rows.encode_checkpoint(Checkpoint(1, 7, 12.25)))
    assert rows.split_ids_key(rows.ids_key(498740, 7)) == (498740, 7)
    assert rows.split_hour_key(rows.hour_key(498740, b"k\x00")) == (498740, b"k\x00")


def test_a_range_before_an_hour_holds_older_hours_of_that_kind_only():
    start, stop = rows.before(rows.HOUR, 100)
    assert start <= rows.hour_key(0, b"k") < stop
    assert start <= rows.hour_key(99, b"\xff" * 256) < stop
    assert not start <= rows.hour_key(100, b"\x00") < stop
    assert not start <= rows.ids_key(99, 0) < stop
    assert not start <= rows.CHECKPOINT_KEY < stop
    # the key under which Faust keeps the changelog offset in the same database
    assert not start <= b"__faust\0offset__" < stop


def test_a_row_of_one_value_takes_little():
    row = Row(HourlySummary(), stamp=1)
    row.summary.add(np.array([12.5]))
    assert len(rows.encode_row(row)) <= 128
    assert struct.calcsize("<BBHIq") == 16


def test_rows_stored_by_this_format_are_read_and_written_as_they_were():
    """A changelog holds them for a month: a release that reads them no longer, or writes others, is another format."""
    row, checkpoint = (bytes.fromhex(line) for line in GOLDEN.read_text().split())
    again = rows.decode_row(row, 1000)
    assert (again.epoch, again.stamp, again.missing, again.summary.count, again.summary.sum) == (3, 41, 2, 2, 4.0)
    assert rows.encode_row(a_row(1.5, 2.5)) == row
    # that of version 1 took the clock of the log for the time
    assert rows.decode_checkpoint(checkpoint) == A_CHECKPOINT._replace(clock_ms=A_CHECKPOINT.log_ms, losses=())


def test_a_checkpoint_stored_by_this_format_is_read_and_written_as_it_was():
    checkpoint = bytes.fromhex(GOLDEN_CHECKPOINT.read_text())
    assert (rows.decode_checkpoint(checkpoint), rows.encode_checkpoint(A_CHECKPOINT), checkpoint[1]) == (
        A_CHECKPOINT,
        checkpoint,
        2,
    )


def test_ids_stored_by_this_format_are_read_and_written_as_they_were():
    """The first line is of a release without places: what it stored, an older one can go on reading."""
    whole, placed = (bytes.fromhex(line) for line in GOLDEN_IDS.read_text().split())
    claims = {b"a" * 16: Ranges([*WHOLE]), b"b" * 16: Ranges([*WHOLE])}
    assert (whole[1], rows.decode_ids(whole), rows.encode_ids(3, 41, claims)) == (
        1,
        dict.fromkeys(claims, WHOLE),
        whole,
    )
    claims[b"c" * 16] = Ranges([1, 5, 7, 10_923])
    assert (placed[1], rows.decode_ids(placed)[b"c" * 16]) == (2, (1, 5, 7, 10_923))
    assert rows.encode_ids(3, 41, claims) == placed
